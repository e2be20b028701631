"""Keep memory that a network gives back for its next batch, instead of getting it from the kernel again each time.

A network on the CPU allocates its activations anew for every batch. The C library of Linux (glibc) gives blocks of that
size back to the kernel at once, which clears them before it hands them out again: a third of the processor time. While
a run's network works they stay with the process, all threads take them from one place, and the rest goes back at the
end. Nothing of this happens elsewhere than with glibc, or where ``DARTS_KEEP_HEAP`` is 0.
"""

import ctypes
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

SWITCH = "DARTS_KEEP_HEAP"
"""Environment variable that switches this off where it is 0."""

# Parameters of mallopt(3), and their defaults on 64 bit.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_KEEP = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_DEFAULTS = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 * 1024}


@contextmanager
def kept_heap() -> Iterator[None]:
    """Keep freed memory in the process until the block ends.

    Threads that begin in the block share one arena, which is not undone: glibc fixes their number once.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    for parameter, value in _KEEP.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _DEFAULTS.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if os.environ.get(SWITCH) == "0" or platform.libc_ver()[0] != "glibc":
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
        libc.malloc_trim.argtypes = (ctypes.c_size_t,)
    except (OSError, AttributeError):
        logger.debug("The C library has no mallopt.")
        return None
    return libc


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def free_in_heap() -> int:
    """Return the bytes that the process holds and does not use: what a kept heap has for the next batch."""
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):
        return 0
    libc.mallinfo2.restype = _Mallinfo
    return int(libc.mallinfo2().fordblks)
