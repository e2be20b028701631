"""Split the rows of an image into one band per thread, and a band into blocks."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from darts_utils import usable_cpus

T = TypeVar("T")

BLOCK_PIXELS = 1 << 20
"""Pixels of a block. Fewer, and threads wait for each other's turn in the interpreter; more only take more memory."""

MAX_THREADS = 8
"""With more, the memory is the limit."""


def on_bands(work: Callable[[int, int], T], shape: tuple[int, int]) -> list[T]:
    """Call ``work(first_row, end_row)`` for each band of rows and return the results in order.

    The bands run side by side, each on a thread that lives for this call: numpy lets go of the interpreter while it
    computes. An image of a block or less is one band, on the calling thread.
    """
    rows, columns = shape
    count = max(min(usable_cpus(), MAX_THREADS, rows * columns // BLOCK_PIXELS, rows), 1)
    if count == 1:
        return [work(0, rows)]
    edges = [rows * index // count for index in range(count + 1)]
    with ThreadPoolExecutor(count, thread_name_prefix="darts-postprocessing") as pool:
        return list(pool.map(work, edges[:-1], edges[1:]))


def blocks(first: int, end: int, columns: int, least: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the first and the end row of each block of a band, at least `least` rows high."""
    height = max(BLOCK_PIXELS // max(columns, 1), least, 1)
    for top in range(first, end, height):
        yield top, min(top + height, end)
