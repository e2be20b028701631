"""Files of a delivered scene: found by pattern, read whole, checked against what a tile needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.errors import SceneError, SceneGridError, SceneNotFoundError, SceneReadError
from darts_utils import available_memory, usable_cpus

if TYPE_CHECKING:
    import rasterio
    from odc.geo.geobox import GeoBox

MAX_EDGE_PX = 50_000
"""Larger images are damaged headers: PlanetScope scenes and orthotiles end well below 15 000 pixels."""


def find_file(folder: Path, patterns: Sequence[str], what: str) -> Path:
    """Return the one file of a folder that matches the first pattern which any file matches.

    Args:
        folder: Folder of the scene. Hidden files do not count.
        patterns: Glob patterns, the preferred one first.
        what: What the file is, for the message.

    Returns:
        The file.

    Raises:
        SceneNotFoundError: If the folder is absent, or no file matches any pattern.
        SceneError: If several files match.
    """
    file = find_optional_file(folder, patterns, what)
    if file is None:
        present = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise SceneNotFoundError(f"{folder} holds no {what}: expected {' or '.join(patterns)}, found {present}.")
    return file


def find_optional_file(folder: Path, patterns: Sequence[str], what: str) -> Path | None:
    """Do as `find_file`, but return None where no file matches."""
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise SceneNotFoundError(f"{folder} {problem}; expected a folder with {' or '.join(patterns)}.")
    for pattern in patterns:
        found = sorted(file for file in folder.glob(pattern) if file.is_file() and not file.name.startswith("."))
        if len(found) > 1:
            raise SceneError(
                f"{folder} holds {len(found)} files where one {what} ({pattern}) is expected: "
                f"{', '.join(file.name for file in found)}. Keep the right one."
            )
        if found:
            return found[0]
    return None


def read_raster(file: Path, count: int, dtype: str, what: str) -> tuple[np.ndarray, "GeoBox"]:
    """Read all bands of an image on a grid that a tile can have.

    Args:
        file: Image that GDAL can read.
        count: Number of bands that it must have.
        dtype: Data type that it must have.
        what: What the file is, for the message.

    Returns:
        Array of shape (count, height, width) and data type `dtype`, and its grid.

    Raises:
        SceneReadError: If the file is damaged or no image.
        SceneError: If it has another number of bands or another data type.
        SceneGridError: If it has no CRS, or its grid is not north-up, square, and projected in metres.
    """
    import rasterio.errors

    try:
        with rasterio.open(file, num_threads=usable_cpus()) as source:
            if source.count != count or set(source.dtypes) != {dtype}:
                found = f"{source.count} of {', '.join(sorted(set(source.dtypes)))}"
                raise SceneError(f"{file} is no {what}: expected {count} bands of {dtype}, found {found}.")
            geobox = _tile_grid(source, file)
            if max(source.shape) > MAX_EDGE_PX:
                raise SceneError(
                    f"{file} claims to have {source.height} × {source.width} pixels; expected at most {MAX_EDGE_PX} on "
                    "an edge, more than any scene or orthotile has. Download it again."
                )
            _check_memory(file, count * source.width * source.height, dtype)
            return source.read(), geobox
    except rasterio.errors.RasterioError as error:
        raise _unreadable(file, what, error) from error
    except rasterio.errors.NotGeoreferencedWarning as warning:  # where warnings are errors
        raise _off_grid(file, "it is not georeferenced") from warning


def read_grid(file: Path, what: str) -> "GeoBox":
    """Read only the grid of an image, see `read_raster`."""
    import rasterio.errors

    try:
        with rasterio.open(file) as source:
            return _tile_grid(source, file)
    except rasterio.errors.RasterioError as error:
        raise _unreadable(file, what, error) from error
    except rasterio.errors.NotGeoreferencedWarning as warning:  # where warnings are errors
        raise _off_grid(file, "it is not georeferenced") from warning


def _check_memory(file: Path, values: int, dtype: str) -> None:
    """Refuse an image that does not fit into memory; a small damaged file may claim to be a large one."""
    # The integers, and the float32 that a tile holds of them.
    needed, available = values * (np.dtype(dtype).itemsize + 4), available_memory()
    if needed > available:
        raise SceneError(
            f"{file} takes {needed / 2**30:.1f} GB of memory as a tile, and {available / 2**30:.1f} GB are available; "
            "download it again if it should be smaller, or use a machine with more memory."
        )


def _unreadable(file: Path, what: str, error: Exception) -> SceneReadError:
    return SceneReadError(f"{file} cannot be read as {what}: {str(error).rstrip('.')}. Download it again.")


def _off_grid(file: Path, problem: str) -> SceneGridError:
    return SceneGridError(f"{file}: {problem}. Expected a north-up grid of square pixels, projected in metres.")


def _tile_grid(source: "rasterio.DatasetReader", file: Path) -> "GeoBox":
    from odc.geo.geobox import GeoBox

    crs, affine = source.crs, source.transform
    problem = None
    if crs is None or not crs.to_wkt():
        problem = "it has no CRS"
    elif not crs.is_projected:
        problem = f"its CRS is {crs.to_string()}, which is not projected"
    elif abs(crs.linear_units_factor[1] - 1) > 1e-9:
        problem = f"the unit of its CRS is {crs.linear_units_factor[0]}"
    elif affine.b or affine.d or affine.a <= 0 or affine.e >= 0:
        problem = f"its grid is rotated, mirrored or absent ({tuple(affine)[:6]})"
    elif abs(affine.a + affine.e) > 1e-6 * affine.a:
        problem = f"its pixels are {affine.a} m × {-affine.e} m"
    if problem:
        raise _off_grid(file, problem)
    return GeoBox.from_rio(source)
