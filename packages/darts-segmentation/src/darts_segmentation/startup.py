"""Import and build networks without what inference never uses: torch's compiler, sympy, random weights.

Importing segmentation_models_pytorch reaches ``torch._dynamo`` through timm and torchvision, which need two of its
functions and call neither of them in inference; with sympy and the rest of the compiler behind it, it takes several
times as long as all else. During that import a module that loads the real one as soon as anything of it is used stands
in its place. Networks on the "meta" device, of which only names and shapes are asked for, are not given random weights,
which would load the compiler as well.

The environment variable ``DARTS_PLAIN_START`` (any value but an empty one) switches both off.
"""

import functools
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

logger = logging.getLogger(__name__)

SWITCH = "DARTS_PLAIN_START"
"""Environment variable that switches the means of this module off."""

_COMPILER = "torch._dynamo"
_PLACEHOLDERS = (_COMPILER, f"{_COMPILER}.utils")
_SMP = "segmentation_models_pytorch"
_importing = threading.RLock()
_DRAWING = frozenset(
    {*("bernoulli_", "erfinv_", "exponential_", "normal_", "trunc_normal_", "uniform_")}
    | {*("add_", "clamp_", "div_", "fill_", "mul_", "sub_", "zero_")}
)
"""In-place methods by which initial weights are drawn and brought into their range; none changes a tensor's shape."""


def segmentation_models() -> ModuleType:
    """Return the module segmentation_models_pytorch, imported without torch's compiler where that is possible.

    The compiler is left alone where it is loaded already; it can be used afterwards, whichever way the import went.
    """
    if _SMP not in sys.modules and not os.environ.get(SWITCH):
        try:
            with _placeholder_for_compiler():
                importlib.import_module(_SMP)
        except Exception:
            logger.debug("%s is imported in the plain way.", _SMP, exc_info=True)
    return importlib.import_module(_SMP)


@contextmanager
def light_construction() -> Iterator[None]:
    """Build networks without the compiler, and those on the "meta" device without random weights.

    They have no weights there either way. Weights elsewhere are initialised as always.
    """
    if os.environ.get(SWITCH):
        yield
    else:
        with _placeholder_for_compiler(), _skipping_initial_weights():
            yield


@contextmanager
def _placeholder_for_compiler() -> Iterator[None]:
    """Put placeholders where the compiler would be imported from, unless it is there already."""
    with _importing:
        if _COMPILER in sys.modules:
            yield
            return
        for name in _PLACEHOLDERS:
            sys.modules[name] = _Placeholder(name)
        try:
            yield
        finally:
            _remove_placeholders()


def _remove_placeholders() -> None:
    """Let the next import of the compiler load the real one."""
    for name in _PLACEHOLDERS:
        if isinstance(sys.modules.get(name), _Placeholder):
            del sys.modules[name]
    torch = sys.modules["torch"]
    if isinstance(vars(torch).get("_dynamo"), _Placeholder):
        del vars(torch)["_dynamo"]


class _Placeholder(ModuleType):
    """Stands for a module of the compiler; anything that is asked of it but the two functions below loads it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        if name == _COMPILER:
            self.disable = _disable
        else:
            self.is_compile_supported = functools.partial(_call_real, name, "is_compile_supported")

    def __getattr__(self, attribute: str) -> object:
        # Python itself and libraries that go through all modules look for such names, and find none.
        if attribute.startswith("__") or f"{self.__name__}.{attribute}" in sys.modules:
            raise AttributeError(attribute)
        logger.debug("%s.%s is used, so that the compiler is loaded.", self.__name__, attribute)
        _remove_placeholders()
        return getattr(importlib.import_module(self.__name__), attribute)


def _call_real(module: str, function: str, *args: object, **kwargs: object) -> Any:
    return getattr(importlib.import_module(module), function)(*args, **kwargs)


def _disable(function: Any = None, recursive: bool = True, **kwargs: object) -> object:
    """Do what ``torch.compiler.disable`` does once the compiler is there: keep it out of a function."""
    if function is None:
        return functools.partial(_disable, recursive=recursive, **kwargs)
    if isinstance(function, type):
        return function
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **kwargs_of_call: Any) -> object:
        if isinstance(sys.modules.get(_COMPILER), _Placeholder | None):
            return function(*args, **kwargs_of_call)
        if not disabled:
            disabled.append(_call_real(_COMPILER, "disable", function, recursive, **kwargs))
        return disabled[0](*args, **kwargs_of_call)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # how the compiler marks such functions itself
    return call


def _skipping_initial_weights() -> AbstractContextManager[object]:
    class SkipInitialWeights(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Callable[..., object],
            types: Any,
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> object:
            kwargs = kwargs or {}
            tensor = args[0] if args else kwargs.get("tensor")
            draws = getattr(func, "__module__", None) == "torch.nn.init" or getattr(func, "__name__", None) in _DRAWING
            if draws and isinstance(tensor, torch.Tensor) and tensor.is_meta:
                return tensor
            if func is torch.linspace:  # rates of some encoders, which are asked for as numbers at once
                kwargs = {**kwargs, "device": "cpu"}
            return func(*args, **kwargs)

    return SkipInitialWeights()
