"""Read a window of a remote GeoTIFF: fetch the bytes of its tiles, and let GDAL decode them from the local disk."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from darts_acquisition.cube.grid import Window
from darts_acquisition.errors import ServiceError
from darts_acquisition.io.tiff import TileIndex, read_index
from darts_acquisition.io.transfer import Remote, public_url
from darts_utils import step

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_FIRST_READ = 128 * 1024
"""Bytes that hold the directories of most cloud-optimised GeoTIFFs, which lie at the beginning."""
_NEXT_READ = 16 * 1024


@dataclass(frozen=True)
class RemoteRaster:
    """The first band of a remote GeoTIFF.

    Attributes:
        url: Address of the file.
        geobox: Its grid.
        nodata: Value of pixels without data, None where the file names none.
        dtype: Data type of its values.
        index: Where its tiles lie.
        total: Size of the file in bytes.
        version: Entity tag of the file.
        head: Parts of the file that hold its directories, by their first byte.
    """

    url: str
    geobox: "GeoBox"
    nodata: float | None
    dtype: str
    index: TileIndex
    total: int
    version: str
    head: tuple[tuple[int, bytes], ...]

    def overlap(self, target: "GeoBox") -> tuple[Window, Window] | None:
        """Return the window of the file, and that of a target, which are the same pixels.

        Where the two grids are shifted by a part of a pixel, pixels are paired with their nearest ones.

        Args:
            target: Grid with the same CRS and pixel size.

        Returns:
            The two windows, None where the file does not reach the target.

        Raises:
            ServiceError: If CRS or pixel size differ, or one of them is not north-up.
        """
        ours, theirs = self.geobox.affine, target.affine
        same_size = abs(ours.a / theirs.a - 1) < 1e-9 and abs(ours.e / theirs.e - 1) < 1e-9
        if self.geobox.crs != target.crs or not same_size or ours.b or ours.d:
            raise ServiceError(
                f"{public_url(self.url)} has {self.geobox.crs} and pixels of {ours.a} × {ours.e}; "
                f"expected {target.crs} and {theirs.a} × {theirs.e}."
            )
        left, top = round((ours.c - theirs.c) / theirs.a), round((ours.f - theirs.f) / theirs.e)
        height, width = self.geobox.shape
        place = Window.of(top, top + height, left, left + width)
        part = place.intersection(Window.of(0, target.shape[0], 0, target.shape[1]))
        return None if part is None else (part.relative_to(place), part)


def open_raster(remote: Remote, url: str) -> RemoteRaster:
    """Read the directories of a remote GeoTIFF.

    Args:
        remote: Reads the file.
        url: Its address.

    Returns:
        What is known of the file.

    Raises:
        ServiceError: If it cannot be read, or is no GeoTIFF with tiles.
    """
    import rasterio
    from odc.geo.geobox import GeoBox

    first = remote.read(url, 0, _FIRST_READ)
    parts = [(0, first.content)]

    def read(start: int, stop: int) -> bytes:
        for begin, content in parts:
            if begin <= start and stop <= begin + len(content):
                return content[start - begin : stop - begin]
        _check_end(url, stop, first.total)
        part = remote.read(url, start, max(stop, start + _NEXT_READ))
        _check_version(url, part.total, part.version, first.total, first.version)
        parts.append((start, part.content))
        return part.content[: stop - start]

    index = read_index(read, public_url(url))
    head = tuple(parts)
    with _local_copy(first.total, head) as file, _decoding(url), rasterio.open(file.name, sharing=False) as source:
        geobox = GeoBox(source.shape, source.transform, str(source.crs))
        nodata, dtype = source.nodata, source.dtypes[0]
    return RemoteRaster(url, geobox, nodata, dtype, index, first.total, first.version, head)


def read_window(remote: Remote, raster: RemoteRaster, window: Window) -> np.ndarray:
    """Read a window of a remote GeoTIFF.

    Args:
        remote: Reads the file.
        raster: The file.
        window: Pixels of the file, within it.

    Returns:
        2-D array of the file's data type.

    Raises:
        ServiceError: If a part of it cannot be read, is missing at the end of the file, cannot be decoded, or if the
            file has changed since it was opened.
    """
    import rasterio
    from rasterio.windows import Window as RasterWindow

    with _local_copy(raster.total, raster.head) as file:
        for start, stop in raster.index.ranges(*window):
            _check_end(raster.url, stop, raster.total)
            part = remote.read(raster.url, start, stop)
            _check_version(raster.url, part.total, part.version, raster.total, raster.version)
            _put(file, start, part.content)
        place = RasterWindow.from_slices(*window)
        with step("decode GeoTIFF"), _decoding(raster.url), rasterio.open(file.name, sharing=False) as source:
            return source.read(1, window=place)


def mosaic(remote: Remote, rasters: Sequence[RemoteRaster], target: "GeoBox", dtype: str, nodata: float) -> np.ndarray:
    """Lay rasters over one another on a grid; where several have data, the first one counts.

    A pixel has no data where it is NaN, holds the value that its file names, or the one that stands for it in the
    result, whatever the file names.

    Args:
        remote: Reads the files.
        rasters: The files, in the order of their rank. Those that do not reach the grid are left alone.
        target: The grid, with the CRS and the pixel size of all files.
        dtype: Data type of the result.
        nodata: Value of the result where no file has data.

    Returns:
        2-D array on the grid.

    Raises:
        ServiceError: If a file cannot be read, or its data type or its grid does not fit.
    """
    result = np.full(tuple(target.shape), nodata, dtype)
    empty = np.ones(result.shape, bool)
    for raster in rasters:
        overlap = raster.overlap(target)
        if overlap is None or not empty[overlap[1]].any():
            continue
        if np.dtype(raster.dtype) != result.dtype:
            raise ServiceError(f"{public_url(raster.url)} holds {raster.dtype}; expected {dtype}.")
        values = read_window(remote, raster, overlap[0])
        take = empty[overlap[1]] & (values != nodata)
        if raster.nodata is not None:
            take &= values != raster.nodata
        if values.dtype.kind == "f":
            take &= ~np.isnan(values)
        np.copyto(result[overlap[1]], values, where=take)
        empty[overlap[1]] &= ~take
    return result


@contextmanager
def _local_copy(total: int, parts: Sequence[tuple[int, bytes]]) -> Iterator[IO[bytes]]:
    """Make a file that looks as long as the remote one, but holds only some parts of it."""
    with tempfile.NamedTemporaryFile(prefix="darts-", suffix=".tif") as file:
        file.truncate(total)
        for start, content in parts:
            _put(file, start, content)
        yield file


def _put(file: IO[bytes], start: int, content: bytes) -> None:
    file.seek(start)
    file.write(content)
    file.flush()


@contextmanager
def _decoding(url: str) -> Iterator[None]:
    """Let GDAL look at nothing but the file itself, and say whose file it cannot read."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            yield
    except RasterioError as error:
        raise ServiceError(f"{public_url(url)} cannot be decoded; the file is damaged: {error}") from error


def _check_end(url: str, stop: int, total: int) -> None:
    if stop > total:
        raise ServiceError(
            f"{public_url(url)} ends after {total} bytes, but its directory names byte {stop - 1}; "
            "the file is truncated at the provider."
        )


def _check_version(url: str, total: int, version: str, first_total: int, first_version: str) -> None:
    if (total, version) != (first_total, first_version):
        raise ServiceError(f"{public_url(url)} has changed while it was read; try again.")
