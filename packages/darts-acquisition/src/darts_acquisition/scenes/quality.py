"""Integers to reflectance, NaN and quality: in one pass over row blocks, with all CPUs that may be used."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from darts_utils import usable_cpus

_ROWS_IN_CACHE = 16
"""Rows that go through all steps of the conversion at once, so that what lies between them stays in the cache."""

OpenWorker = Callable[[], AbstractContextManager[Callable[[slice], object]]]
"""Opens what one thread needs, and gives what converts a block of rows."""


@dataclass(frozen=True)
class Scaling:
    """What the integers of a band, 16 bits at most, mean: reflectance = DN · scale + offset, or no data."""

    scale: float
    offset: float = 0.0
    nodata: tuple[int, ...] = (0,)
    dtype: str = "uint16"

    def convert(self, values: np.ndarray, out: np.ndarray, invalid: np.ndarray | None = None) -> np.ndarray | None:
        """Turn integers (rows, columns) into reflectance: what float64 gives, rounded once, NaN without data.

        `out` is float32 of the same shape; `invalid` is True where there is no data whatever the integers say, None for
        nowhere, and not changed. Returns likewise where there is no data.
        """
        missing: np.ndarray | None = None
        for rows in row_blocks(len(values), _ROWS_IN_CACHE):
            part = values[rows]
            self._scale(part, out[rows])
            empty = self.missing(part)
            if invalid is not None:
                empty = invalid[rows] if empty is None else empty | invalid[rows]
            if empty is not None:
                out[rows][empty] = np.nan
                if len(part) == len(values):
                    return empty
                if missing is None:
                    missing = np.zeros(values.shape, bool)
                missing[rows] = empty
        return missing

    def missing(self, values: np.ndarray) -> np.ndarray | None:
        """Return a boolean array that is True where integers stand for no data; None if that is nowhere."""
        lowest = values.min()
        found = [values == number for number in self.nodata if number == lowest]
        if any(number > lowest for number in self.nodata):
            highest = values.max()
            between = [values == number for number in self.nodata if lowest < number <= highest]
            found += [where for where in between if where.any()]
        return np.logical_or.reduce(found) if found else None

    def _scale(self, values: np.ndarray, out: np.ndarray) -> None:
        if self._line is None:
            # Every value is an index of the table; "clip" only spares numpy the check and its buffer.
            np.take(self._table, values.view(f"u{values.itemsize}"), out=out, mode="clip")
            return
        shift, divisor = self._line
        np.copyto(out, values)
        if shift:
            np.subtract(out, shift, out=out)
        np.divide(out, divisor, out=out)

    @cached_property
    def _numbers(self) -> np.ndarray:
        """All integers of the data type, in the order of their bits."""
        dtype = np.dtype(self.dtype)
        return np.arange(2 ** (8 * dtype.itemsize)).astype(f"u{dtype.itemsize}").view(dtype)

    @cached_property
    def _table(self) -> np.ndarray:
        """The reflectance of each integer, by its bits: float64 arithmetic, rounded once to float32."""
        return (self._numbers * np.float64(self.scale) + self.offset).astype("float32")

    @cached_property
    def _line(self) -> tuple[np.float32, np.float32] | None:
        """Shift and divisor for which ``(DN - shift) / divisor`` in float32 is the table's value, bit by bit.

        The scales and offsets of PlanetScope and Sentinel-2, 0.0001 with 0 or -0.1, are such: a difference of two
        integers is exact, and IEEE 754 rounds a quotient once. That takes a third of the time of looking up. Checked
        for every integer but those without data; None if one differs.
        """
        if not 0 < self.scale <= 1:
            return None
        shift, divisor = np.float32(round(-self.offset / self.scale)), np.float32(round(1 / self.scale))
        line = (self._numbers.astype("float32") - shift) / divisor
        same = line.view("uint32") == self._table.view("uint32")
        return (shift, divisor) if np.all(same | np.isin(self._numbers, self.nodata)) else None


def row_blocks(height: int, rows: int) -> Iterator[slice]:
    """Yield blocks of rows from top to bottom; the last one may be smaller."""
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def over_row_blocks(height: int, rows: int, open_worker: OpenWorker, workers: int | None = None) -> None:
    """Let threads convert all blocks of so many rows; after the first error, which is raised, none is begun.

    `open_worker` is called in each thread before its first block, and closed there after its last one. `workers` is the
    number of threads, None for one per CPU that may be used.
    """
    blocks = deque(row_blocks(height, rows))

    def work() -> None:
        with open_worker() as convert:
            while blocks:
                try:
                    block = blocks.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    convert(block)
                except BaseException:
                    blocks.clear()
                    raise

    count = max(min(usable_cpus() if workers is None else workers, len(blocks)), 1)
    if count == 1:
        work()
        return
    with ThreadPoolExecutor(count, thread_name_prefix="darts-rows") as pool:
        for task in [pool.submit(work) for _ in range(count)]:
            task.result()
