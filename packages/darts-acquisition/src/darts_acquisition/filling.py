"""Fetch what a datacube lacks, some chunks at a time, each group of them one transaction."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from darts_acquisition.datacube import Datacube
from darts_acquisition.errors import LoginError, ServiceError
from darts_acquisition.grid import Chunk
from darts_utils import step

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

logger = logging.getLogger(__name__)

_CHUNKS_PER_COMMIT = 8
"""What is lost at most when a process dies. A commit costs a tenth of a second and some files."""

Progress = Callable[[int, int], None]
"""Called with the number of chunks that are done, and the number of all that are to be fetched."""


class Source(Protocol):
    """Where the contents of a cube come from. Threads call it at once."""

    @property
    def parallel(self) -> int:
        """How many chunks to fetch at the same time."""
        ...

    def fetch(self, geobox: "GeoBox") -> Mapping[str, np.ndarray] | None:
        """Fetch what the provider has of a part of the cube's grid; None for nothing.

        Raises:
            ServiceError: If it cannot be fetched.
        """
        ...


@dataclass(frozen=True)
class Filling:
    """What `fill` has done.

    Attributes:
        filled: Chunks that hold data now.
        empty: Chunks of which the provider has nothing.
        elsewhere: Chunks that another process completed meanwhile.
    """

    filled: int = 0
    empty: int = 0
    elsewhere: int = 0


def fill(cube: Datacube, chunks: Iterable[Chunk], source: Source, progress: Progress | None = None) -> Filling:
    """Fetch chunks and keep them, whatever happens to the others.

    A file that the provider has damaged costs its chunk only; the others are fetched before that is reported. A service
    that is down or refuses the login ends it at once.

    Args:
        cube: What to fill.
        chunks: The chunks; those that are complete already are fetched in vain.
        source: Where they come from.
        progress: Told after each chunk.

    Returns:
        What was done.

    Raises:
        LoginError: If the service refuses the login.
        ServiceError: If a chunk could not be fetched. The others are in the cube.
    """
    todo = list(dict.fromkeys(chunks))
    batch = _Batch(cube)
    failures: list[tuple[Chunk, ServiceError]] = []
    done = 0
    running: dict[Future[Mapping[str, np.ndarray] | None], Chunk] = {}
    pool = ThreadPoolExecutor(max(1, min(source.parallel, len(todo))), thread_name_prefix="fetch")
    try:
        for chunk, result in _fetch_all(cube, todo, source, pool, running):
            if isinstance(result, ServiceError):
                if isinstance(result, LoginError) or (result.failure is not None and result.failure.temporary):
                    raise result
                failures.append((chunk, result))
            else:
                batch.add(chunk, result)
            done += 1
            if progress is not None:
                progress(done, len(todo))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for task, chunk in running.items():  # What came while something went wrong is kept as well.
            if not task.cancelled() and task.exception() is None:
                batch.add(chunk, task.result())
        batch.commit()
    if failures:
        raise _summary(cube, failures, len(todo))
    return batch.report


def _fetch_all(
    cube: Datacube,
    todo: list[Chunk],
    source: Source,
    pool: ThreadPoolExecutor,
    running: "dict[Future[Mapping[str, np.ndarray] | None], Chunk]",
) -> "Iterator[tuple[Chunk, Mapping[str, np.ndarray] | ServiceError | None]]":
    """Yield each chunk with what came of it, as it comes; no more wait in memory than are fetched at once.

    Those that are not yielded yet are in `running`.
    """
    waiting = iter(todo)
    while True:
        for chunk in islice(waiting, source.parallel - len(running)):
            # In a copy of this thread's context, so that a stopwatch that records here gets the steps there.
            task = pool.submit(copy_context().run, source.fetch, cube.chunk_geobox(chunk))
            running[task] = chunk
        if not running:
            return
        with step("download"):
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for task in ended:
            error = task.exception()
            if error is not None and not isinstance(error, ServiceError):
                raise error
            yield running.pop(task), error or task.result()


class _Batch:
    """Collects chunks, and commits them together."""

    def __init__(self, cube: Datacube) -> None:
        self._cube = cube
        self._contents: dict[Chunk, Mapping[str, np.ndarray] | None] = {}
        self.report = Filling()

    def add(self, chunk: Chunk, arrays: Mapping[str, np.ndarray] | None) -> None:
        self._contents[chunk] = arrays
        if sum(each is not None for each in self._contents.values()) >= _CHUNKS_PER_COMMIT:
            self.commit()

    def commit(self) -> None:
        contents, self._contents = self._contents, {}
        written = self._cube.complete(contents)
        filled = sum(contents[chunk] is not None for chunk in written)
        self.report = Filling(
            self.report.filled + filled,
            self.report.empty + len(written) - filled,
            self.report.elsewhere + len(contents) - len(written),
        )


def _summary(cube: Datacube, failures: list[tuple[Chunk, ServiceError]], total: int) -> ServiceError:
    for chunk, error in failures:
        logger.error("Chunk in row %d, column %d of %s: %s", *chunk, cube.product.collection, error)
    first = failures[0][1]
    rest = total - len(failures)
    return ServiceError(
        f"{len(failures)} of {total} chunks of {cube.product.collection} could not be fetched"
        f"{f'; the other {rest} are in {cube.path}' if rest else ''}. The first failure: {first}",
        first.failure,
    )
