"""GeoTIFF and VRT files of tiles of the ArcticDEM mosaic as the origin of an import."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.auxiliary import product_named
from darts_acquisition.auxiliary.arcticdem import ARCTICDEM_NODATA
from darts_acquisition.cube.product import CubeProduct, Window, full_window, offset_of
from darts_acquisition.errors import CubeDamagedError, CubeError
from darts_utils import ParameterError

if TYPE_CHECKING:
    import rasterio

_MASK_NAME = re.compile(r"dem(?=[^/]*$)")
_CACHE_BYTES = 96 * 2**20
"""What GDAL keeps of decoded blocks: two rows of chunks share theirs, and it would take a twentieth of the memory."""


class RasterFiles:
    """Elevation in one file, and beside it whether it was measured: ``…_dem.tif`` and ``…_datamask.tif``.

    Either is a GeoTIFF, or a VRT of such files, which holds completely what its files do.

    Args:
        file: The file of elevations.
        product: What it must hold; None for what its pixel size says.

    Attributes:
        product: What it holds.
        windows: Windows of the product's grid that both files hold completely.
        unknown: Files of which a VRT is made that are not there, cannot be opened, or are brought to other pixels.

    Raises:
        CubeError: If the files are not there, or no ArcticDEM.
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
        import rasterio
        import rasterio.errors
        import rasterio.windows

        top, left = self._at[name]
        rows, cols = window
        place = rasterio.windows.Window(cols.start - left, rows.start - top, *window.shape[::-1])
        source = self._sources[name]
        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
                return np.asarray(source.read(1, window=place))
        except rasterio.errors.RasterioError as error:
            raise CubeDamagedError(f"{source.name} cannot be read: {error}.") from error

    def _believe(self, name: str, file: Path) -> list[Window]:
        """Return the windows of the product's grid that a file holds completely."""
        from odc.geo import CRS

        source = self._sources[name]
        affine, crs = source.transform, source.crs
        if crs is None or affine.b or affine.d or affine.e >= 0:
            raise CubeError(f"{file} has no CRS, or is rotated; expected {self.product.collection}.")
        self._at[name] = offset_of(self.product, affine.c, affine.f, (affine.a, -affine.e), CRS(crs.to_wkt()))
        top, left = self._at[name]
        whole = Window.of(top, top + source.height, left, left + source.width)
        parts = self._parts(file, top, left) if file.suffix.lower() == ".vrt" else [whole]
        grid = full_window(self.product.geobox)
        return [part for each in parts if (part := each.intersection(grid)) is not None]

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
            place = Path(name.text or "")
            place = file.parent / place if name.get("relativeToVRT") == "1" else place
            edges = [float(put.get(key, "nan")) for key in ("yOff", "ySize", "xOff", "xSize")]
            same = [float(taken.get(key, "nan")) for key in ("ySize", "xSize")] == [edges[1], edges[3]]
            if not same or any(edge != round(edge) for edge in edges) or not _is_readable(place):
                self.unknown.append(str(place))
                continue
            row, height, col, width = map(int, edges)
            windows.append(Window.of(top + row, top + row + height, left + col, left + col + width))
        return windows


def _mask_beside(file: Path) -> Path:
    """Return the file that says where elevations were measured."""
    mask = file.with_name(_MASK_NAME.sub("datamask", file.name))
    if mask == file or not mask.is_file():
        raise CubeError(
            f"{file} says elevations only; expected a name with 'dem', and beside it the same name with 'datamask', "
            "which says where they were measured (of a VRT, one of the files …_datamask.tif of the same tiles)."
        )
    return mask


def _open(file: Path) -> "rasterio.DatasetReader":
    import rasterio
    import rasterio.errors

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
