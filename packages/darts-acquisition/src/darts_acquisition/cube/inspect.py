"""Look at a datacube as a whole: what it holds, how large it is, and whether all of it can still be read."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping

from darts_acquisition.cube.areas import lonlat_bounds, lonlat_outline, within_180
from darts_acquisition.cube.datacube import Datacube
from darts_acquisition.cube.ingest import Progress
from darts_acquisition.cube.layout import ChunkState, digest_of
from darts_acquisition.cube.product import Chunk, CubeProduct, Window
from darts_acquisition.cube.transaction import IDENTITIES, identities_from_json
from darts_acquisition.errors import CubeDamagedError
from darts_acquisition.io.settings import S3Settings
from darts_acquisition.tile import AnyPath

logger = logging.getLogger(__name__)

_SNAP_DEGREES = 1e-7
"""About a centimetre: corners that neighbours share come out the same."""
_MAP_STEPS = 8
"""Steps along each edge of a chunk's outline: enough for a map."""
_RUN_CHUNKS = 8
"""How many chunks side by side are outlined as one. A cube of the Arctic has a hundred thousand."""


@dataclass(frozen=True)
class CubeInfo:
    """What a datacube holds.

    Attributes:
        path: Where it lies.
        product: What it is made for.
        filled: Number of chunks that hold data.
        empty: Number of chunks that the provider does not cover.
        stored_bytes: Bytes that its storage takes, history included.
        bounds: West, south, east and north of the filled area in degrees, west greater than east across the
            antimeridian; None if nothing is filled.
        area: The filled area as a GeoJSON Feature in degrees (RFC 7946).
    """

    path: str
    product: CubeProduct
    filled: int
    empty: int
    stored_bytes: int
    bounds: tuple[float, float, float, float] | None
    area: dict[str, Any]


@dataclass(frozen=True)
class CubeCheck:
    """What `verify_cube` has found.

    Attributes:
        checked: Number of filled chunks that were read.
        damaged: Those that cannot be read as they were written, or differ from their digest, each with the reason.
    """

    checked: int
    damaged: dict[Chunk, str]


def inspect_cube(path: AnyPath, *, s3: S3Settings | None = None) -> CubeInfo:
    """Say what a datacube holds.

    For arguments and errors see :func:`verify_cube`.

    Returns:
        Counts, sizes and the filled area.
    """
    cube = Datacube.open(path, s3=s3)
    known = cube.known()
    filled = [chunk for chunk, state in known.items() if state == ChunkState.FILLED]
    return CubeInfo(
        path=str(cube.path),
        product=cube.product,
        filled=len(filled),
        empty=len(known) - len(filled),
        stored_bytes=cube.stored_bytes(),
        bounds=_bounds(cube, filled),
        area=_feature(cube, filled),
    )


def verify_cube(
    path: AnyPath, *, repair: bool = False, s3: S3Settings | None = None, progress: Progress | None = None
) -> CubeCheck:
    """Read everything that a datacube holds, and compare it with the checksums and digests that were written with it.

    Args:
        path: Folder of the datacube, or ``s3://bucket/prefix``.
        repair: Note damaged chunks as missing, so that they are fetched again.
        s3: Which object storage; None for what the environment names.
        progress: Called with the number of chunks that are done and the number of all.

    Returns:
        The damaged chunks.

    Raises:
        CubeNotFoundError: If there is nothing at the path.
        CubeError: If there is something else, or its storage cannot be read.
        CubeDamagedError: If the cube's own lists are damaged, which nothing can repair.
    """
    cube = Datacube.open(path, s3=s3)
    cube.check_lists()
    filled = [chunk for chunk, state in cube.known().items() if state == ChunkState.FILLED]
    damaged = {}
    for done, chunk in enumerate(filled, start=1):
        try:
            _check_digest(cube, chunk)
        except CubeDamagedError as error:
            damaged[chunk] = str(error)
        if progress is not None:
            progress(done, len(filled))
    if damaged and repair:
        cube.forget(damaged)
        logger.warning("%d damaged chunks of %s count as missing now.", len(damaged), cube.path)
    return CubeCheck(len(filled), damaged)


def _check_digest(cube: Datacube, chunk: Chunk) -> None:
    """Read a chunk; CubeDamagedError if it cannot be read, or differs from its digest, where it has one."""
    ds = cube.read(cube.chunk_geobox(chunk))
    identity = identities_from_json(ds.attrs[IDENTITIES])[chunk]
    content = {variable.name: ds[variable.name].values for variable in cube.product.variables}
    if not identity.startswith("legacy:") and identity != digest_of(content, cube.product).hex():
        raise CubeDamagedError(
            f"What the chunk in row {chunk.row}, column {chunk.col} holds is not what its digest was taken of; "
            "fetching it again replaces both."
        )


def _bounds(cube: Datacube, chunks: list[Chunk]) -> tuple[float, float, float, float] | None:
    if not chunks:
        return None
    boxes = np.array([lonlat_bounds(run) for run in _strips(cube, chunks)])
    west, east = _longitudes(boxes[:, 0], boxes[:, 2])
    return west, float(boxes[:, 1].min()), east, float(boxes[:, 3].max())


def _longitudes(west: np.ndarray, east: np.ndarray) -> tuple[float, float]:
    """Return the smallest arc that holds all arcs from west to east: what remains without the widest gap."""
    if (east - west >= 360).any():
        return -180.0, 180.0
    order = np.argsort(west)
    starts, widths = west[order], ((east - west) % 360)[order]
    # Two turns, since an arc may reach beyond the first one's start; each gap lies before a start of the second turn.
    starts, count = np.concatenate([starts, starts + 360]), len(starts)
    ends = np.maximum.accumulate(starts + np.tile(widths, 2))
    gaps = starts[count:] - ends[count - 1 : -1]
    widest = int(np.argmax(gaps))
    if gaps[widest] <= 0:
        return -180.0, 180.0
    return float(starts[widest]), float((ends[count - 1 + widest] + 180) % 360 - 180)


def _feature(cube: Datacube, chunks: list[Chunk]) -> dict[str, object]:
    return {
        "type": "Feature",
        "properties": {"collection": cube.product.collection, "version": cube.product.version, "chunks": len(chunks)},
        "geometry": mapping(_outline(cube, chunks)) if chunks else None,
    }


def _outline(cube: Datacube, chunks: list[Chunk]) -> Any:
    """Return the union of chunks in degrees, cut at the antimeridian as RFC 7946 wants it."""
    outlines = (lonlat_outline(run, cube.product.chunk_px / _MAP_STEPS) for run in _strips(cube, chunks))
    parts = within_180([shapely.Polygon(np.column_stack(outline)) for outline in outlines])
    return shapely.union_all(parts, grid_size=_SNAP_DEGREES)


def _strips(cube: Datacube, chunks: list[Chunk]) -> Iterator[GeoBox]:
    """Yield the pixels of chunks that lie side by side as one."""
    strips: list[list[Chunk]] = []
    for chunk in sorted(chunks):
        if strips and len(strips[-1]) < _RUN_CHUNKS and chunk == (strips[-1][-1].row, strips[-1][-1].col + 1):
            strips[-1].append(chunk)
        else:
            strips.append([chunk])
    for run in strips:
        first, last = (cube.product.chunk_window(chunk) for chunk in (run[0], run[-1]))
        yield cube.geobox[Window(first.rows, slice(first.cols.start, last.cols.stop))]
