"""Compile the kernels of the CPU before they are needed, and wait until they are compiled."""

import logging
import threading
import warnings
from collections.abc import Collection

from darts_preprocessing.backends.jit import Kernel
from darts_preprocessing.errors import KernelCacheWarning
from darts_utils import step

logger = logging.getLogger(__name__)


class _Compilation:
    """What this process has compiled so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: set[Kernel] = set()
        self._finished: set[Kernel] = set()
        self._has_warned = False

    def begin(self, kernels: Collection[Kernel]) -> None:
        """Compile kernels in the background, in this order, unless that has begun."""
        with self._lock:
            added = [kernel for kernel in kernels if kernel not in self._begun]
            self._begun.update(added)
        if added:
            # A daemon, so that the interpreter does not wait for it when it exits.
            threading.Thread(target=self._try, args=(added,), name="darts-kernels", daemon=True).start()

    def finish(self, kernels: Collection[Kernel]) -> None:
        """Compile kernels, or wait until the background has.

        Warns:
            KernelCacheWarning: Once, if the machine code cannot be kept.
        """
        added = [kernel for kernel in kernels if kernel not in self._finished]
        if not added:
            return
        with step("compile kernels"):
            _compile(added)
        with self._lock:
            self._warn()
            self._begun.update(added)
            self._finished.update(added)

    def _try(self, kernels: Collection[Kernel]) -> None:
        try:
            _compile(kernels)
        except Exception:  # whoever needs the kernel compiles it again, and meets the error there
            logger.debug("The kernels could not be compiled in the background.", exc_info=True)

    def _warn(self) -> None:
        from darts_preprocessing.backends.kernel_cache import get_trouble

        trouble = get_trouble()
        if trouble is None or self._has_warned:
            return
        warnings.warn(
            "The compiled kernels cannot be kept, and every process compiles them anew. Set the environment variable "
            f"NUMBA_CACHE_DIR to a folder that can be written ({trouble}).",
            KernelCacheWarning,
            stacklevel=5,
        )
        self._has_warned = True


def _compile(kernels: Collection[Kernel]) -> None:
    for kernel in kernels:
        kernel.compile()


_compilation = _Compilation()
begin_compilation = _compilation.begin
finish_compilation = _compilation.finish
