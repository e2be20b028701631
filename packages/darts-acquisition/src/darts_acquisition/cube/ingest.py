"""Fetch what a datacube lacks, each group of chunks one transaction, and read the area around a tile."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from odc.geo.geobox import GeoBox

from darts_acquisition.cube.areas import AreaLike, chunks_by_part, chunks_of, product_windows
from darts_acquisition.cube.datacube import Datacube
from darts_acquisition.cube.product import Chunk, CubeProduct
from darts_acquisition.cube.transaction import IDENTITIES, identities_from_json, identities_to_json
from darts_acquisition.errors import CubeNotFoundError, LoginError, MissingAuxiliaryDataError, ServiceError
from darts_acquisition.io.retry import (
    DaemonThreads,
    FetchCancellation,
    StoppedError,
    awaited,
    cancellable,
    check_not_stopped,
)
from darts_acquisition.io.settings import S3Settings
from darts_acquisition.tile import AnyPath, as_variable
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

_CHUNKS_PER_COMMIT = 8
"""Chunks with data that are lost at most when a process dies. A commit costs a tenth of a second and some files."""
_ALL_PER_COMMIT = 64
"""Chunks of any kind that are lost at most; those of which the provider has nothing cost a request each."""
_POLL_S = 0.1
"""How often to look whether to stop."""
_GRACE_S = 1.0
"""How long to wait for requests under way once fetching ends early."""

Progress = Callable[[int, int], None]
"""Called with the number of chunks that are done, and the number of all that are to be fetched."""

_Fetched: TypeAlias = Mapping[str, np.ndarray] | None


class Source(Protocol):
    """Where the contents of a cube come from, `parallel` chunks at the same time, by threads that call it at once."""

    parallel: int

    def fetch(self, geobox: GeoBox) -> Mapping[str, np.ndarray] | None:
        """Fetch what the provider has of a part of the cube's grid; None for nothing, ServiceError if that fails."""
        ...


@dataclass(frozen=True)
class FetchReport:
    """What fetching has done.

    Attributes:
        filled: Chunks that hold data now.
        empty: Chunks of which the provider has nothing.
        elsewhere: Chunks that another process completed meanwhile.
    """

    filled: int = 0
    empty: int = 0
    elsewhere: int = 0


def ingest(cube: Datacube, chunks: Iterable[Chunk], source: Source, progress: Progress | None = None) -> FetchReport:
    """Fetch chunks and keep them, whatever happens to the others; chunks that are complete already are fetched in vain.

    A file that the provider has damaged costs its chunk only, and is reported at the end as a ServiceError. A service
    that is down (ServiceError) or refuses the login (LoginError) ends it at once, and so do an interrupt and a token
    that it runs under (StoppedError), see `cancellable`: no further request is made then, and those under way are not
    waited for. What was fetched is in the cube.
    """
    todo = list(dict.fromkeys(chunks))
    batch = _Batch(cube)
    failures: list[tuple[Chunk, ServiceError]] = []
    running: dict[Future[_Fetched], Chunk] = {}
    with awaited(), cancellable(FetchCancellation()) as cancellation:
        try:
            for done, (chunk, result) in enumerate(_fetch_all(cube, todo, source, running), start=1):
                if not isinstance(result, ServiceError):
                    batch.add(chunk, result)
                elif _ends_all(result):
                    raise result
                else:
                    failures.append((chunk, result))
                if progress is not None:
                    progress(done, len(todo))
        finally:
            cancellation.requested = True
            wait(running, timeout=_GRACE_S)
            for task, chunk in running.items():  # What came while something went wrong is kept as well.
                if task.done() and task.exception() is None:
                    batch.add(chunk, task.result())
            batch.commit()
    if failures:
        raise _summary(cube, failures, len(todo))
    return FetchReport(**batch.counts)


def _ends_all(error: ServiceError) -> bool:
    """Tell whether there is no use in asking for further chunks."""
    return isinstance(error, LoginError | StoppedError) or (error.failure is not None and error.failure.transient)


def _fetch_all(
    cube: Datacube, todo: list[Chunk], source: Source, running: dict[Future[_Fetched], Chunk]
) -> Iterator[tuple[Chunk, _Fetched | ServiceError]]:
    """Yield each chunk with what came of it, as it comes; no more wait in memory than are fetched at once.

    Those that are not yielded yet are in `running`.
    """
    waiting, threads = iter(todo), DaemonThreads()
    while True:
        for chunk in islice(waiting, source.parallel - len(running)):
            running[threads.start(partial(source.fetch, cube.chunk_geobox(chunk)))] = chunk
        if not running:
            return
        with step("download"):
            ended: set[Future[_Fetched]] = set()
            while not ended:
                check_not_stopped()
                ended, _ = wait(running, _POLL_S, FIRST_COMPLETED)
        for task in ended:
            error = task.exception()
            if error is not None and not isinstance(error, ServiceError):
                raise error
            yield running.pop(task), error or task.result()


class _Batch:
    def __init__(self, cube: Datacube) -> None:
        self._cube = cube
        self._contents: dict[Chunk, _Fetched] = {}
        self.counts: Counter[str] = Counter()

    def add(self, chunk: Chunk, arrays: _Fetched) -> None:
        self._contents[chunk] = arrays
        filled = sum(each is not None for each in self._contents.values())
        if filled >= _CHUNKS_PER_COMMIT or len(self._contents) >= _ALL_PER_COMMIT:
            self.commit()

    def commit(self) -> None:
        contents, self._contents = self._contents, {}
        try:
            written = self._cube.complete(contents)
        except KeyboardInterrupt:
            self._contents = contents  # Kept by the last commit, which an interrupt is followed by.
            raise
        filled = sum(contents[chunk] is not None for chunk in written)
        self.counts.update(filled=filled, empty=len(written) - filled, elsewhere=len(contents) - len(written))


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


@dataclass(frozen=True)
class Estimate:
    """What fetching an area would take.

    Attributes:
        area_chunks: Chunks that the area touches.
        missing_chunks: Those of them that are missing.
        megabytes: What would be downloaded at most, about; less where the provider has nothing.
        incomplete: Which of the grids and geometries that the area consists of touch a missing chunk, by position.
        outside: Which of them lie wholly outside the product.
    """

    area_chunks: int
    missing_chunks: int
    megabytes: int
    incomplete: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.missing_chunks:
            return "nothing is missing"
        return (
            f"{self.missing_chunks} of {self.area_chunks} chunks are missing, "
            f"at most about {self.megabytes} MB to download"
        )


def read_product(
    geobox: GeoBox,
    data_dir: AnyPath,
    product: CubeProduct,
    source: Callable[[], Source] | None = None,
    *,
    buffer: int,
    data_source: str,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> "xr.Dataset":
    """Read all variables of a product around a tile, and fetch what is missing where there is a source.

    `source` makes what fetches, and is called only if something is missing; without one nothing is fetched or created,
    and MissingAuxiliaryDataError says what is missing. The other parameters and errors are those of `load_arcticdem`,
    or attributes. Of a tile that crosses the antimeridian in a geographic cube, longitudes run on beyond ±180°.
    """
    windows = product_windows(product, geobox, buffer)
    how_to_fill = f"Fetch them with `darts_acquisition.download_{product.name}`."
    if source is None:
        try:
            cube = Datacube.open(data_dir, s3=s3)
        except CubeNotFoundError as error:
            raise MissingAuxiliaryDataError(f"{error} {how_to_fill}") from error
        cube.check_holds(product)
    else:
        cube = Datacube.open_or_create(data_dir, product, s3=s3)
        missing = [chunk for window in windows for chunk in cube.missing(window)]
        if missing:
            logger.info("Fetching %d chunk%s of %s.", len(missing), "s"[: len(missing) > 1], product.collection)
            ingest(cube, missing, source(), progress)
    parts = [cube.read(window, how_to_fill=how_to_fill) for window in windows]
    ds = parts[0] if len(parts) == 1 else _join(*parts)
    for variable in ds.data_vars.values():
        variable.attrs["data_source"] = data_source
    return ds


def download_product(
    area: AreaLike,
    data_dir: AnyPath,
    product: CubeProduct,
    source: Callable[[], Source],
    *,
    buffer: int,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> FetchReport:
    """Fetch what a cube lacks of an area; create the cube where there is none. For parameters see `read_product`."""
    chunks = chunks_of(product, area, buffer)
    cube = Datacube.open_or_create(data_dir, product, s3=s3)
    missing = cube.missing_of(chunks)
    logger.info("%s: %d of %d chunks are missing.", product.collection, len(missing), len(chunks))
    return ingest(cube, missing, source(), progress) if missing else FetchReport()


def estimate_product(
    area: AreaLike,
    data_dir: AnyPath,
    product: CubeProduct,
    *,
    buffer: int,
    bytes_per_px: float,
    s3: S3Settings | None = None,
) -> Estimate:
    """Say what `download_product` would fetch, of `bytes_per_px` for all variables. Nothing is created or fetched."""
    parts = chunks_by_part(product, area, buffer)
    chunks = sorted({chunk for part in parts for chunk in part})
    try:
        cube = Datacube.open(data_dir, s3=s3)
    except CubeNotFoundError:
        missing = chunks
    else:
        cube.check_holds(product)
        missing = cube.missing_of(chunks)
    lacking = set(missing)
    return Estimate(
        area_chunks=len(chunks),
        missing_chunks=len(missing),
        megabytes=int(np.ceil(len(missing) * product.chunk_px**2 * bytes_per_px / 1e6)),
        incomplete=tuple(number for number, part in enumerate(parts) if not lacking.isdisjoint(part)),
        outside=tuple(number for number, part in enumerate(parts) if not part),
    )


def _join(west: "xr.Dataset", east: "xr.Dataset") -> "xr.Dataset":
    """Set the part east of the antimeridian beside the part west of it, on the grid of the latter.

    The world need not be a whole number of pixels wide; the eastern part moves by what is left, less than half a pixel.
    """
    import xarray as xr

    geobox = west.odc.geobox.expand((west.sizes["y"], west.sizes["x"] + east.sizes["x"]))
    arrays = {
        name: as_variable(np.concatenate([left.values, east[name].values], axis=1), geobox, left.attrs)
        for name, left in west.data_vars.items()
    }
    identities = identities_from_json(west.attrs[IDENTITIES]) | identities_from_json(east.attrs[IDENTITIES])
    return xr.Dataset(arrays, attrs=west.attrs | {IDENTITIES: identities_to_json(identities)})
