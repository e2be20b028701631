"""Read the area around a tile from the cube of a product; fetch what it lacks before, where that is wanted."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.cube.areas import AreaLike, chunks_by_part, chunks_of, product_windows
from darts_acquisition.cube.datacube import Datacube
from darts_acquisition.cube.grid import Chunk
from darts_acquisition.cube.ingest import FetchReport, Progress, Source, fill
from darts_acquisition.cube.layout import ChunkState
from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.cube.snapshot import IDENTITIES, identities_from_json, identities_to_json
from darts_acquisition.errors import CubeNotFoundError, MissingAuxiliaryDataError
from darts_acquisition.io.settings import S3Settings
from darts_acquisition.tile import as_variable

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

logger = logging.getLogger(__name__)

CubePath = str | os.PathLike[str]
"""Folder of a datacube, or ``s3://bucket/prefix``."""


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
    geobox: "GeoBox",
    data_dir: CubePath,
    product: CubeProduct,
    *,
    buffer: int,
    data_source: str,
    how_to_fill: str,
    source: Callable[[], Source] | None = None,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> "xr.Dataset":
    """Read all variables of a product around a tile, and fetch what is missing where there is a source.

    `source` makes what fetches, and is called only if something is missing; without one nothing is fetched or created.
    `how_to_fill` is the last sentence of the message then; the others are arguments of `load_arcticdem` or attributes.
    Of a tile that crosses the antimeridian in a geographic cube, longitudes run on beyond ±180°.

    Raises:
        MissingAuxiliaryDataError: If there is no source, and a part of the area is neither filled nor known to be
            empty, or there is no cube.
        DartsError: See `load_arcticdem`.
    """
    windows = product_windows(product, geobox, buffer)
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
            logger.info("Fetching %d chunks of %s.", len(missing), product.collection)
            fill(cube, missing, source(), progress)
    parts = [cube.read(window, how_to_fill=how_to_fill) for window in windows]
    ds = parts[0] if len(parts) == 1 else _join(*parts)
    for variable in ds.data_vars.values():
        variable.attrs["data_source"] = data_source
    return ds


def download_product(
    area: AreaLike,
    data_dir: CubePath,
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
    missing = _missing(cube, chunks)
    logger.info("%s: %d of %d chunks are missing.", product.collection, len(missing), len(chunks))
    return fill(cube, missing, source(), progress) if missing else FetchReport()


def estimate_product(
    area: AreaLike,
    data_dir: CubePath,
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
        missing = _missing(cube, chunks)
    lacking = set(missing)
    return Estimate(
        area_chunks=len(chunks),
        missing_chunks=len(missing),
        megabytes=int(np.ceil(len(missing) * product.chunk_px**2 * bytes_per_px / 1e6)),
        incomplete=tuple(number for number, part in enumerate(parts) if not lacking.isdisjoint(part)),
        outside=tuple(number for number, part in enumerate(parts) if not part),
    )


def _missing(cube: Datacube, chunks: list[Chunk]) -> list[Chunk]:
    """Return those of some chunks that are missing."""
    states = cube.states_of(chunks)
    return [chunk for chunk, state in zip(chunks, states, strict=True) if state == ChunkState.MISSING]


def _join(west: "xr.Dataset", east: "xr.Dataset") -> "xr.Dataset":
    """Set the part east of the antimeridian beside the part west of it, on the grid of the latter.

    The width of the world need not be a whole number of pixels; the eastern part moves by what is left, which is less
    than half a pixel.
    """
    import xarray as xr

    geobox = west.odc.geobox.expand((west.sizes["y"], west.sizes["x"] + east.sizes["x"]))
    arrays = {}
    for name, left in west.data_vars.items():
        values = np.concatenate([left.values, east[name].values], axis=1)
        arrays[name] = as_variable(values, geobox, left.attrs)
    identities = identities_from_json(west.attrs[IDENTITIES]) | identities_from_json(east.attrs[IDENTITIES])
    return xr.Dataset(arrays, attrs=west.attrs | {IDENTITIES: identities_to_json(identities)})
