"""How the kernels of the CPU are compiled: each once, for one signature, when it is first needed.

A kernel is a function of arrays that the package calls; a helper is a function that the kernels of its module call.
Declaring them imports nothing: numba is imported when the first kernel is compiled.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from numba import types

OPTIONS: dict[str, object] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
"""Kernels run without the interpreter's lock. A product and a sum may be fused ("contract"): that rounds once instead
of twice, and is the only liberty that the compiler has with the arithmetic."""

Function = TypeVar("Function", bound=Callable[..., Any])

INT, FLOAT, BOOL, FLOAT32, UINT8 = "int64", "float64", "boolean", "float32", "uint8"
_helpers_lock = threading.Lock()


@dataclass(frozen=True)
class ArrayType:
    """A contiguous array as an argument of a kernel."""

    dtype: str
    ndim: int
    readonly: bool


Argument: TypeAlias = "str | ArrayType"


def array_in(dtype: str, ndim: int) -> ArrayType:
    """Return the type of a contiguous array that a kernel reads; arrays that may be written to are taken too."""
    return ArrayType(dtype, ndim, readonly=True)


def array_out(dtype: str, ndim: int) -> ArrayType:
    """Return the type of a contiguous array that a kernel writes."""
    return ArrayType(dtype, ndim, readonly=False)


@dataclass(frozen=True)
class Helper:
    """A function whose place numba's takes as soon as a kernel of its module is compiled."""

    function: Callable[..., object]
    options: dict[str, Any]


def helper(function: Function) -> Function:
    """Make a function that kernels call; it is compiled once, with the first of them."""
    return cast("Function", Helper(function, OPTIONS))


def helper_to_inline(function: Function) -> Function:
    """Make a function that is compiled as a part of each kernel, once per call, with the constants given there."""
    return cast("Function", Helper(function, OPTIONS | {"inline": "always"}))


def helper_without_fusing(function: Function) -> Function:
    """Make a function that kernels call, in which a product is rounded before it is added to another."""
    return cast("Function", Helper(function, OPTIONS | {"fastmath": False}))


class Kernel:
    """A function that is compiled when it is first called, or asked to, for one signature and no other.

    Threads that need it meanwhile wait; arguments of other types are a TypeError.

    Args:
        function: What to compile.
        arguments: The types of its arguments.
    """

    def __init__(self, function: Callable[..., None], arguments: tuple[Argument, ...]) -> None:
        self.function = function
        self._arguments = arguments
        self._lock = threading.Lock()
        self._compiled: Callable[..., None] | None = None

    def __call__(self, *args: object) -> None:
        """Call the kernel, compiling it before if need be."""
        compiled = self._compiled or self.compile()
        compiled(*args)

    def compile(self) -> Callable[..., None]:
        """Compile the kernel, or load its machine code from the cache, unless that has been done."""
        from darts_preprocessing.backends import kernel_cache

        with self._lock:
            if self._compiled is None:
                _declare_helpers(self.function.__globals__)
                arguments = tuple(_numba_type(argument) for argument in self._arguments)
                self._compiled = kernel_cache.compile_and_keep(self.function, arguments, OPTIONS)
            return self._compiled


def kernel(*arguments: Argument) -> Callable[[Callable[..., None]], Kernel]:
    """Make a kernel of a function that returns nothing, given the types of its arguments."""
    return lambda function: Kernel(function, arguments)


def _declare_helpers(module: dict[str, object]) -> None:
    """Put numba's functions in the place of a module's helpers, for its kernels to find."""
    import numba

    with _helpers_lock:
        for name, value in list(module.items()):
            if isinstance(value, Helper):
                module[name] = numba.njit(**value.options)(value.function)


def _numba_type(argument: Argument) -> "types.Type":
    from numba import types

    if isinstance(argument, ArrayType):
        return types.Array(getattr(types, argument.dtype), argument.ndim, "C", readonly=argument.readonly)
    return getattr(types, argument)
