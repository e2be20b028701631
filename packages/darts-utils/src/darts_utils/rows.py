"""Rows of an image shared among threads, and worked on block by block."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from darts_utils.resources import usable_cpus

T = TypeVar("T")

BLOCK_PIXELS = 1 << 20
"""Pixels of a block. Fewer, and threads wait for each other's turn in the interpreter; more only take more memory."""

MAX_THREADS = 8
"""With more, the memory is the limit."""


def share_rows(work: Callable[[int, int], T], shape: tuple[int, int]) -> list[T]:
    """Call a function for shares of the rows of an image, side by side, and return the results in order.

    numpy lets go of the interpreter while it computes. The first share is the calling thread's, which is the only one
    for an image of a block or less.

    Args:
        work: Takes the first row of a share and the one after its last.
        shape: Rows and columns of the image.

    Returns:
        What `work` returns, from top to bottom.
    """
    rows, columns = shape
    count = max(min(usable_cpus(), MAX_THREADS, rows * columns // BLOCK_PIXELS, rows), 1)
    first, *edges = [rows * index // count for index in range(1, count + 1)]
    with ThreadPoolExecutor(count, thread_name_prefix="darts-rows") as pool:
        others = pool.map(work, [first, *edges], edges)
        return [work(0, first), *others]


def row_blocks(first: int, end: int, columns: int, least: int = 0) -> Iterator[tuple[int, int]]:
    """Cut rows into blocks of so many pixels that what is needed for one of them is small.

    Args:
        first: First row.
        end: The row after the last one.
        columns: Columns of the image.
        least: Rows that a block has at least.

    Returns:
        Iterates over the blocks: the first row of each, and the one after its last.
    """
    height = max(BLOCK_PIXELS // max(columns, 1), least, 1)
    for top in range(first, end, height):
        yield top, min(top + height, end)
