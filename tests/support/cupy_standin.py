"""A strict stand-in for cupy: numpy behind its names, in arrays that are none of numpy's.

An array of the stand-in refuses to become one of the host, and to be mixed with one, in operators, functions,
indices and assignments; only `asarray` takes host arrays, and only `asnumpy` and `get` give them. Reductions give
arrays without dimensions, as cupy's do. Functions that are not in the list below are not there; a test compares the
list with cupy's own names where its wheel is installed.
"""

import operator
import threading
from collections import Counter
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

FUNCTIONS = frozenset(
    [
        "abs",
        "arange",
        "arctan",
        "arctan2",
        "ascontiguousarray",
        "clip",
        "cos",
        "cumsum",
        "degrees",
        "divide",
        "divmod",
        "empty",
        "empty_like",
        "equal",
        "floor",
        "greater",
        "greater_equal",
        "isnan",
        "log",
        "logical_and",
        "logical_not",
        "maximum",
        "multiply",
        "nonzero",
        "pad",
        "radians",
        "sin",
        "sqrt",
        "stack",
        "subtract",
        "swapaxes",
        "take",
        "tan",
        "where",
        "zeros",
        "zeros_like",
    ]
)
"""What the kernels call of cupy."""
TYPES = frozenset(["bool_", "complex128", "float32", "float64", "int32", "int64", "uint8"])
_OPERATORS = [
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "and",
    "or",
    "xor",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
]


COUNTS: Counter[str] = Counter()
"""How often the host waited for what arrays and streams of the stand-in hold, and bytes that came to it."""


class Stream:
    """A stream of cupy: an order of its own, that of a thread while it is entered."""

    _of_thread = threading.local()

    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking
        self.pending: list[tuple[np.ndarray, np.ndarray]] = []
        self.behind: list[Stream] = []

    @classmethod
    def current(cls) -> "Stream":
        entered = cls._of_thread.__dict__.setdefault("entered", [])
        return entered[-1] if entered else NULL_STREAM

    def record(self) -> "Stream":
        return self

    def wait_event(self, event: "Stream") -> None:
        self.behind.append(event)

    def synchronize(self) -> None:
        COUNTS["waits"] += 1
        for out, values in self.pending:
            out[...] = values
        self.pending.clear()

    def __enter__(self) -> "Stream":
        self.current()
        self._of_thread.entered.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._of_thread.entered.pop()


NULL_STREAM = Stream()


class GpuArray:
    """What lies in the memory of a GPU, as cupy would hold it; a duck array, for xarray as well."""

    __module__ = "cupy"
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray, index: int = 0) -> None:
        self._values = np.asarray(values)
        self.device = SimpleNamespace(id=index)

    dtype = property(lambda self: self._values.dtype)
    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    flags = property(lambda self: self._values.flags)
    T = property(lambda self: _wrap(self._values.T))
    real = property(lambda self: _wrap(self._values.real))
    imag = property(lambda self: _wrap(self._values.imag))
    __cuda_array_interface__ = property(lambda self: {"version": 3})

    def get(self, out: np.ndarray | None = None, blocking: bool = True) -> np.ndarray:
        """Bring it to the host; what was begun without blocking holds nothing before the stream is waited for."""
        if blocking:
            COUNTS["waits"] += 1
        COUNTS["bytes to the host"] += self.nbytes
        if out is None:
            return self._values.copy()
        assert (out.shape, out.dtype) == (self.shape, self.dtype)
        if blocking:
            out[...] = self._values
        else:
            out.view(np.uint8)[...] = 0xA5
            Stream.current().pending.append((out, self._values.copy()))
        return out

    def __len__(self) -> int:
        return len(self._values)

    def __bool__(self) -> bool:
        return bool(self._told())

    def __int__(self) -> int:
        return int(self._told())

    def __float__(self) -> float:
        return float(self._told())

    def _told(self) -> np.ndarray:
        COUNTS["waits"] += 1
        return self._values

    def __invert__(self) -> "GpuArray":
        return _wrap(~self._values)

    def __neg__(self) -> "GpuArray":
        return _wrap(-self._values)

    def __abs__(self) -> "GpuArray":
        return _wrap(abs(self._values))

    def __getitem__(self, key: Any) -> "GpuArray":
        _count_mask(key)
        return _wrap(self._values[_unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        _count_mask(key)
        self._values[_unwrap(key)] = _unwrap(value)

    def __iadd__(self, other: Any) -> "GpuArray":
        self._values += _unwrap(other)
        return self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in ("all", "any", "astype", "copy", "max", "min", "ravel", "reshape", "sum", "transpose", "view"):
            raise AttributeError(f"'cupy.ndarray' of the stand-in has no {name!r}")
        return _on_gpu(getattr(self._values, name))

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()  # torch's tensors of the stand-in lie there too

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_function__(self, function: Callable[..., Any], types: Any, arguments: Any, options: Any) -> Any:
        return _on_gpu(function)(*arguments, **options)

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return _on_gpu(getattr(function, method))(*inputs, **options)


def _operator(name: str, *, turned: bool) -> Callable[[GpuArray, Any], GpuArray]:
    function = getattr(operator, f"__{name}__")

    def apply(self: GpuArray, other: Any) -> GpuArray:
        values = _unwrap(other)
        _check_comparable(self._values, values, name)
        return _wrap(function(values, self._values) if turned else function(self._values, values))

    return apply


for _name in _OPERATORS:
    setattr(GpuArray, f"__{_name}__", _operator(_name, turned=False))
    setattr(GpuArray, f"__r{_name}__", _operator(_name, turned=True))


def _check_comparable(one: Any, other: Any, name: str) -> None:
    """Refuse small integers against fractions, which cupy compares in half precision: 255 > 254.95 is false there."""
    for values, number in ((one, other), (other, one)):
        small = isinstance(values, np.ndarray) and values.dtype.kind in "iu" and values.dtype.itemsize < 4
        if small and isinstance(number, float) and not number.is_integer() and name in ("greater", "gt", "lt", "ge"):
            raise TypeError(f"{values.dtype} against {number}: cupy compares them in half precision")


def _count_mask(key: Any) -> None:
    """Count that the host waits where a mask selects, for the size of what it selects is not known before."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, GpuArray) and part.dtype == np.bool_ for part in parts):
        COUNTS["waits"] += 1


def _unwrap(value: Any) -> Any:
    if isinstance(value, GpuArray):
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        return type(value)(_unwrap(each) for each in value)
    return value


def _wrap(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return GpuArray(np.asarray(value))
    return type(value)(map(_wrap, value)) if isinstance(value, tuple | list) else value


def _on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of numpy take arrays of the stand-in and no others, and return such."""

    def call(*arguments: Any, **options: Any) -> Any:
        values = [_unwrap(each) for each in arguments]
        if len(values) == 2:
            _check_comparable(*values, getattr(function, "__name__", ""))
        return _wrap(function(*values, **{name: _unwrap(each) for name, each in options.items()}))

    return call


class StandInCupy(ModuleType):
    """cupy, as far as the packages use it.

    Args:
        kept: Bytes that its pools hold and nobody uses.
    """

    ndarray = GpuArray
    __version__ = "14.0.0"

    def __init__(self, kept: int = 0) -> None:
        super().__init__("cupy")
        self.kept, self.freed = kept, 0
        self.cuda = SimpleNamespace(
            Device=_Device, Stream=Stream, get_current_stream=Stream.current, alloc_pinned_memory=bytearray
        )

    def __getattr__(self, name: str) -> Any:
        if name in TYPES:
            return getattr(np, name)
        if name in FUNCTIONS:
            if name == "nonzero":  # the size of what it gives is not known before
                COUNTS["waits"] += 1
            return _on_gpu(getattr(np, name))
        if name == "add":
            return SimpleNamespace(at=_on_gpu(np.add.at))
        raise AttributeError(f"cupy of the stand-in has no {name!r}; is it in the real one?")

    def asarray(self, values: Any, dtype: Any = None) -> GpuArray:
        if isinstance(values, GpuArray):
            return values if dtype in (None, values.dtype) else values.astype(dtype)
        return GpuArray(np.array(values, dtype=dtype))

    def asnumpy(self, array: Any) -> np.ndarray:
        return array.get()

    def from_dlpack(self, tensor: Any) -> GpuArray:
        assert type(tensor).__module__ == "torch"
        return GpuArray(np.from_dlpack(tensor))

    def get_default_memory_pool(self) -> SimpleNamespace:
        return SimpleNamespace(free_bytes=lambda: self.kept, free_all_blocks=self._free)

    def get_default_pinned_memory_pool(self) -> SimpleNamespace:
        return SimpleNamespace(free_all_blocks=self._free)

    def _free(self) -> None:
        self.kept = 0
        self.freed += 1


class _Device:
    mem_info = (20 << 30, 24 << 30)

    def __init__(self, index: int = 0) -> None:
        self.id = index

    def __enter__(self) -> "_Device":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def label(image: GpuArray, connectivity: int = 2, return_num: bool = True) -> tuple[GpuArray, int]:
    """cucim's labelling, done by scikit-image; it waits to learn how many objects there are."""
    from skimage.measure import label as of_host

    assert type(image) is GpuArray
    assert image.dtype == np.bool_
    COUNTS["waits"] += 1
    labels, count = of_host(image._values, connectivity=connectivity, return_num=return_num)
    return GpuArray(labels.astype(np.int32)), count


def on_gpu(tile: Any) -> Any:
    """Return a tile whose variables lie in the memory of the stand-in's GPU."""
    return tile.assign({name: variable.copy(data=GpuArray(variable.values)) for name, variable in tile.items()})
