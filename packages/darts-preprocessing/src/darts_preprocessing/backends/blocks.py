"""How blocks of work are spread over the cores."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darts_utils import usable_cpus

_STRIP_ROWS = 64

Work = TypeVar("Work")
Block: TypeAlias = "tuple[int, int, int, int]"
"""First row, first column, rows and columns of a part of a raster."""


class Scratch(threading.local):
    """Memory that each thread uses for one block after the other; new memory would be cleared for each of them."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray:
        """Return a contiguous array, which holds anything, and is the same memory whenever the name is the same."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size or buffer.dtype != dtype:
            buffer = self._buffers[name] = np.empty(size, dtype=dtype)
        return buffer[:size].reshape(shape)


def iterate_blocks(shape: tuple[int, int], rows: int, cols: int) -> Iterator[Block]:
    """Cut a raster into blocks of so many rows and columns; the last ones are smaller."""
    for top in range(0, shape[0], rows):
        for left in range(0, shape[1], cols):
            yield top, left, min(rows, shape[0] - top), min(cols, shape[1] - left)


def row_strips(shape: tuple[int, int]) -> Iterator[Block]:
    """Cut a raster into blocks of whole rows."""
    return iterate_blocks(shape, _STRIP_ROWS, max(shape[1], 1))


def run_blocks(work: Callable[[Work], None], blocks: Iterable[Work]) -> None:
    """Do independent pieces of work on all cores that this process may use (or ``NUMBA_NUM_THREADS``).

    The kernels run in plain threads of their own rather than in numba's: several callers may do so at the same time,
    whatever threading layer numba finds, and nothing is left behind that a fork could stumble over.
    """
    import numba

    waiting = deque(blocks)
    asked, default = numba.config.NUMBA_NUM_THREADS, numba.config.NUMBA_DEFAULT_NUM_THREADS  # type: ignore[attr-defined]
    workers = min(usable_cpus() if asked == default else asked, len(waiting))

    def take_turns() -> None:
        try:
            while (block := _take(waiting)) is not None:
                work(block)
        finally:  # after an error, no thread begins another block
            waiting.clear()

    if workers <= 1:
        take_turns()
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="darts-preprocessing") as pool:
        turns = [pool.submit(take_turns) for _ in range(workers)]
        try:
            for turn in turns:
                turn.result()
        finally:
            waiting.clear()


def _take(waiting: "deque[Work]") -> Work | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None
