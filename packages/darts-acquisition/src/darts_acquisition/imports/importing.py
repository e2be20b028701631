"""Import what other programs filled into a new datacube, chunk by chunk: their datacubes, GeoTIFFs and VRTs."""

import logging
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.errors
import rasterio.windows
import shapely
from odc.geo import CRS

from darts_acquisition.auxiliary.arcticdem import ARCTICDEM_NODATA
from darts_acquisition.cube.datacube import Datacube
from darts_acquisition.cube.ingest import Progress
from darts_acquisition.cube.product import Chunk, CubeProduct, Window, check_possible, offset_of
from darts_acquisition.errors import CubeDamagedError, CubeError, CubeNotFoundError
from darts_acquisition.imports.smart_geocubes import SmartGeocube, product_named
from darts_acquisition.io.settings import S3Settings
from darts_acquisition.tile import AnyPath
from darts_utils import ParameterError, ValueRangeError, step

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 2
"""Rows of chunks that are copied column by column: chunks of the origin that lie between two of them are read once."""


@dataclass(frozen=True)
class ImportReport:
    """What an import has done.

    Attributes:
        product: What was imported.
        filled: Chunks that were filled.
        empty: Chunks that were loaded completely, and hold nothing.
        present: Chunks that the new cube held already.
        incomplete: Chunks of which the origin holds a part, or of which nothing proves that it holds all; they are
            missing in the new cube.
        damaged: Chunks that cannot be read, each with the reason; they are missing in the new cube.
    """

    product: CubeProduct
    filled: int
    empty: int
    present: int
    incomplete: int
    damaged: dict[Chunk, str]


def import_cube(
    origin: AnyPath,
    path: AnyPath,
    product: str | None = None,
    *,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Take over a datacube or a mosaic that another program filled, into a datacube of this package.

    Only chunks that are provably complete are filled: those that lie wholly in tiles which the origin lists as loaded,
    or in files that are there. All others are missing, and fetched as they are used. The origin is never changed. Each
    chunk is a transaction, so an import that was killed goes on where it was.

    Args:
        origin: A datacube of smart-geocubes (the Icechunk repositories of the first DARTS), or a GeoTIFF or VRT of
            ArcticDEM tiles: ``…_dem.tif``, beside which ``…_datamask.tif`` lies.
        path: Folder of the new datacube, or ``s3://bucket/prefix``; it is created where there is none, else what it
            lacks is added.
        product: What the origin holds: "arcticdem-2m" (-10m, -32m) or "tcvis-2000-2019" (or another period); None for
            what it says itself.
        s3: Which object storage holds the new cube; None for what the environment names.
        progress: Called with the number of chunks that are done, and the number of those to copy.

    Returns:
        How many chunks were filled, and how many were not.

    Raises:
        CubeNotFoundError: If there is nothing at `origin`.
        CubeError: If `origin` is none of these, holds something else than `product`, or lies on another grid; or if
            there is something else at `path`.
        ParameterError: If there is no such product.
    """
    source = open_origin(Path(origin), None if product is None else product_named(product))
    if "://" not in os.fspath(path):
        old, new = Path(origin).resolve(), Path(path).expanduser().resolve()
        if old == new or old in new.parents or new in old.parents:
            raise CubeError(f"{path} is {Path(origin)}, or one lies in the other; a new datacube needs its own place.")
    complete, partial = coverage_of(source.product, source.windows)
    cube = Datacube.open_or_create(path, source.product, s3=s3)
    todo = cube.missing_of(complete)
    counts = len(complete), origin, len(todo), cube.path
    logger.info("%s: %d chunks are complete in %s, %d of them are not in %s yet.", source.product.collection, *counts)
    todo.sort(key=lambda chunk: (chunk.row // _ROWS_AT_ONCE, chunk.col, chunk.row))
    filled, empty, damaged = _copy(source, cube, todo, progress)
    return ImportReport(source.product, filled, empty, len(complete) - len(todo), partial, damaged)


def inspect_origin(origin: AnyPath, product: str | None = None) -> CubeProduct:
    """Say what a datacube or a mosaic of another program holds.

    For arguments and errors see :func:`import_cube`.

    Returns:
        The product.
    """
    return open_origin(Path(origin), None if product is None else product_named(product)).product


def open_origin(path: Path, product: CubeProduct | None = None) -> "RasterFiles | SmartGeocube":
    """Open what an import begins with; CubeNotFoundError if there is nothing, CubeError if it cannot be imported."""
    if not path.exists():
        raise CubeNotFoundError(f"There is nothing at {path}.")
    source: RasterFiles | SmartGeocube = RasterFiles(path, product) if path.is_file() else SmartGeocube(path, product)
    if source.unknown:
        some = ", ".join(source.unknown[:3])
        logger.warning("%d parts of %s prove nothing and are passed over: %s …", len(source.unknown), path, some)
    return source


def _copy(
    source: "RasterFiles | SmartGeocube", cube: Datacube, chunks: list[Chunk], progress: Progress | None
) -> tuple[int, int, dict[Chunk, str]]:
    """Copy chunks, the next one is read while one is written; return how many are filled and empty, and the rest."""
    filled = empty = 0
    damaged: dict[Chunk, str] = {}

    def read(chunk: Chunk) -> dict[str, np.ndarray] | None:
        with step("read the origin"):
            arrays = dict(source.read(cube.product.chunk_window(chunk)))
            try:
                check_possible(arrays)
            except ValueRangeError as error:  # What damage leaves may be decoded, for it has no checksum.
                raise CubeDamagedError(str(error)) from error
        holds = (values.any() if values.dtype.kind != "f" else not np.isnan(values).all() for values in arrays.values())
        return arrays if any(holds) else None

    with ThreadPoolExecutor(1, thread_name_prefix="import") as pool:
        tasks = [pool.submit(read, chunk) for chunk in chunks[:1]]
        for done, chunk in enumerate(chunks, start=1):
            tasks += [pool.submit(read, following) for following in chunks[done : done + 1]]
            try:
                arrays = tasks.pop(0).result()
            except CubeDamagedError as error:
                damaged[chunk] = str(error)
                logger.error("Row %d, column %d is passed over: %s", *chunk, error)  # noqa: TRY400 - no bug of ours
            else:
                cube.complete({chunk: arrays})
                filled, empty = filled + (arrays is not None), empty + (arrays is None)
                del arrays
            if progress is not None:
                progress(done, len(chunks))
    return filled, empty, dict(sorted(damaged.items()))


def coverage_of(product: CubeProduct, windows: Sequence[Window]) -> tuple[list[Chunk], int]:
    """Return the chunks that windows of a product's grid cover whole together, row by row; of how many only a part."""
    if not windows:
        return [], 0
    touched = sorted({chunk for window in windows for chunk in window.in_chunks(product.chunk_px).chunks()})
    covered = shapely.union_all(_boxes(windows))
    shapely.prepare(covered)
    whole = shapely.covers(covered, _boxes([product.chunk_window(chunk) for chunk in touched]))
    complete = [chunk for chunk, is_whole in zip(touched, whole, strict=True) if is_whole]
    return complete, len(touched) - len(complete)


def _boxes(windows: Sequence[Window]) -> np.ndarray:
    edges = np.array([(cols.start, rows.start, cols.stop, rows.stop) for rows, cols in windows])
    return np.asarray(shapely.box(*edges.T))


_MASK_NAME = re.compile(r"dem(?=[^/]*$)")
_CACHE_BYTES = 96 * 2**20
"""What GDAL keeps of decoded blocks: two rows of chunks share theirs, and it would take a twentieth of the memory."""


class RasterFiles:
    """Elevation in one file, and beside it whether it was measured: ``…_dem.tif`` and ``…_datamask.tif``.

    Either is a GeoTIFF, or a VRT of such files, which holds completely what its files do.

    `product` is what they must hold, None for what the pixel size says; then what they do hold. `windows` are those of
    its grid that both files hold completely, `unknown` files of which a VRT is made that are not there, cannot be
    opened, or are brought to other pixels. CubeError if the files are not there, or no ArcticDEM.
    """

    def __init__(self, file: Path, product: CubeProduct | None = None) -> None:
        self.unknown: list[str] = []
        files = {"dem": file, "arcticdem_data_mask": _mask_beside(file)}
        # Open as long as chunks are read: GDAL keeps what it has decoded, and blocks lie across the edges of chunks.
        self._sources = {name: _open(path) for name, path in files.items()}
        if product is None:
            metres = f"{abs(self._sources['dem'].transform.a):g}"
            try:
                product = product_named(f"arcticdem-{metres}m")
            except ParameterError as error:
                raise CubeError(f"{file} has pixels of {metres}; expected ArcticDEM with 2, 10 or 32 m.") from error
        if product.name != "arcticdem":
            raise CubeError(f"{file} is to hold {product.collection}; of files, only ArcticDEM can be imported.")
        self.product = product
        self._at: dict[str, tuple[int, int]] = {}
        dem, mask = (self._believe(name, path) for name, path in files.items())
        self.windows = [window for window in dem if window in mask]

    def read(self, window: Window) -> dict[str, np.ndarray]:
        """Read a window of the product's grid."""
        dem = self._read("dem", window).astype("float32", copy=False)
        for mark in {ARCTICDEM_NODATA, self._sources["dem"].nodata} - {None}:
            np.copyto(dem, np.nan, where=dem == mark)
        return {"dem": dem, "arcticdem_data_mask": (self._read("arcticdem_data_mask", window) == 1).view("uint8")}

    def _read(self, name: str, window: Window) -> np.ndarray:
        top, left = self._at[name]
        rows, cols = window
        within = rasterio.windows.Window(cols.start - left, rows.start - top, *window.shape[::-1])
        source = self._sources[name]
        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
                return np.asarray(source.read(1, window=within))
        except rasterio.errors.RasterioError as error:
            raise CubeDamagedError(f"{source.name} cannot be read: {error}.") from error

    def _believe(self, name: str, file: Path) -> list[Window]:
        """Return the windows of the product's grid that a file holds completely."""
        source = self._sources[name]
        affine, crs = source.transform, source.crs
        if crs is None or affine.b or affine.d or affine.e >= 0:
            raise CubeError(f"{file} has no CRS, or is rotated; expected {self.product.collection}.")
        self._at[name] = offset_of(self.product, affine.c, affine.f, (affine.a, -affine.e), CRS(crs.to_wkt()))
        top, left = self._at[name]
        whole = Window.of(top, top + source.height, left, left + source.width)
        parts = self._parts(file, top, left) if file.suffix.lower() == ".vrt" else [whole]
        return [part for each in parts if (part := each.intersection(self.product.window)) is not None]

    def _parts(self, file: Path, top: int, left: int) -> list[Window]:
        """Return what each file of a VRT covers, as far as it is there and its pixels are taken as they are."""
        try:
            band = ET.parse(file).getroot().find("VRTRasterBand")  # noqa: S314 - GDAL has parsed it already
        except ET.ParseError as error:
            raise CubeError(f"{file} is no VRT: {error}.") from error
        windows = []
        for source in [] if band is None else band:
            name, taken, put = (source.find(tag) for tag in ("SourceFilename", "SrcRect", "DstRect"))
            if name is None or put is None or taken is None:
                continue
            path = Path(name.text or "")
            path = file.parent / path if name.get("relativeToVRT") == "1" else path
            edges = [float(put.get(key, "nan")) for key in ("yOff", "ySize", "xOff", "xSize")]
            same = [float(taken.get(key, "nan")) for key in ("ySize", "xSize")] == [edges[1], edges[3]]
            if not same or any(edge != round(edge) for edge in edges) or not _is_readable(path):
                self.unknown.append(str(path))
                continue
            row, height, col, width = map(int, edges)
            windows.append(Window.of(top + row, top + row + height, left + col, left + col + width))
        return windows


def _mask_beside(file: Path) -> Path:
    mask = file.with_name(_MASK_NAME.sub("datamask", file.name))
    if mask == file or not mask.is_file():
        raise CubeError(
            f"{file} says elevations only; expected a name with 'dem', and beside it the same name with 'datamask', "
            "which says where they were measured (of a VRT, one of the files …_datamask.tif of the same tiles)."
        )
    return mask


def _open(file: Path) -> rasterio.DatasetReader:
    try:
        return rasterio.open(file, driver="VRT" if file.suffix.lower() == ".vrt" else "GTiff")
    except rasterio.errors.RasterioError as error:
        raise CubeError(f"{file} cannot be opened: {error}.") from error


def _is_readable(file: Path) -> bool:
    if not file.is_file():
        return False
    try:
        _open(file).close()
    except CubeError:
        return False
    return True
