"""How the kernels of the CPU are compiled: each once, for one signature, when it is first needed.

A kernel is a function of arrays that the backend calls; a helper is a function that kernels call.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types

from darts_preprocessing.backends.kernel_cache import compile_and_keep

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
"""Kernels run without the interpreter's lock. A product and a sum may be fused ("contract"): that rounds once instead
of twice, and is the only liberty that the compiler has with the arithmetic."""

Function = TypeVar("Function", bound=Callable[..., Any])


INT, FLOAT, BOOL, FLOAT32 = types.int64, types.float64, types.boolean, types.float32


def helper(function: Function) -> Function:
    """Make a function that kernels call; it is compiled once, with the first of them."""
    return numba.njit(**OPTIONS)(function)


def helper_to_inline(function: Function) -> Function:
    """Make a function that is compiled as a part of each kernel, once per call, with the constants given there."""
    return numba.njit(inline="always", **OPTIONS)(function)


def helper_without_fusing(function: Function) -> Function:
    """Make a function that kernels call, in which a product is rounded before it is added to another."""
    return numba.njit(**{**OPTIONS, "fastmath": False})(function)


def array_in(dtype: Any, ndim: int) -> types.Array:
    """Return the type of a contiguous array that a kernel reads; arrays that may be written to are taken too."""
    return types.Array(dtype, ndim, "C", readonly=True)


def array_out(dtype: Any, ndim: int) -> types.Array:
    """Return the type of a contiguous array that a kernel writes."""
    return types.Array(dtype, ndim, "C")


class Kernel:
    """A function that is compiled when it is first called, or asked to, for one signature and no other.

    Threads that need it meanwhile wait; arguments of other types are a TypeError.

    Args:
        function: What to compile.
        arguments: The types of its arguments.
    """

    def __init__(self, function: Callable[..., None], arguments: tuple[types.Type, ...]) -> None:
        self.function = function
        self._arguments = arguments
        self._lock = threading.Lock()
        self._compiled: Callable[..., None] | None = None

    def __call__(self, *args: Any) -> None:
        """Call the kernel, compiling it before if need be."""
        compiled = self._compiled or self.compile()
        compiled(*args)

    def compile(self) -> Callable[..., None]:
        """Compile the kernel, or load its machine code from the cache, unless that has been done."""
        with self._lock:
            if self._compiled is None:
                self._compiled = compile_and_keep(self.function, self._arguments, OPTIONS)
            return self._compiled


def kernel(*arguments: types.Type) -> Callable[[Callable[..., None]], Kernel]:
    """Make a kernel of a function that returns nothing, given the types of its arguments."""
    return lambda function: Kernel(function, arguments)
