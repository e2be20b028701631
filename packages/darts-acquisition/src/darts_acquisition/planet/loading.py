"""PlanetScope images and masks as tiles."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from darts_acquisition.cube.grid import same_grid
from darts_acquisition.errors import EmptySceneError, SceneGridError, SceneNameError
from darts_acquisition.planet.delivery import find_file, find_optional_file, read_grid, read_raster
from darts_acquisition.planet.metadata import METADATA_PATTERNS, read_metadata
from darts_acquisition.planet.naming import parse_planet_name
from darts_utils import MissingBandError, band_attrs, step

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

IMAGE_PATTERNS = ("*_SR.tif", "*_SR_clip.tif")
MASK_PATTERNS = ("*_udm2.tif", "*_udm2_clip.tif")
BANDS = ("blue", "green", "red", "nir")

_SCALE = np.float32(10_000)
_IMAGE, _MASK, _METADATA = "surface reflectance image", "usable data mask", "metadata file"
_SOURCE = "PlanetScope"
_ENCODING = {"grid_mapping": "spatial_ref"}
"""Lets a NetCDF file say where the CRS stands."""
_CLOUD_BIT = 0b0000_0010
"""Bit of UDM2 band 8 that says cloud; all the others say blackfill, missing or suspect data."""


def load_planet_scene(path: "str | os.PathLike[str]") -> "xr.Dataset":
    """Load the surface reflectance of a PlanetScope scene or orthotile as a tile.

    Args:
        path: Folder with `*_SR.tif` (else `*_SR_clip.tif`): four bands blue, green, red, nir, uint16,
            reflectance × 10000, 0 where there is none; and `*_metadata.json`.

    Returns:
        Dataset with dimensions (y, x) on the image's grid: `blue`, `green`, `red`, `nir`, float32 surface
        reflectance, NaN where the image holds 0. Attributes: `tile_id` (the folder's name), `time` (ISO 8601 UTC),
        `azimuth` and `elevation` of the sun (degrees, NaN where unknown), `planet_type`, `planet_scene_id`, for
        orthotiles `planet_orthotile_id`, and further ones of the metadata as `planet_*`.

    Raises:
        SceneNameError: If the folder's name is neither that of a scene nor that of an orthotile.
        SceneNotFoundError: If the folder, the image or the metadata file is absent.
        SceneReadError: If the image or the metadata file is damaged.
        SceneGridError: If the image has no CRS, or its grid is not north-up, square, and projected in metres.
        EmptySceneError: If every pixel of the image is 0.
        SceneError: If a file is there twice, or the image has other bands or another data type.
    """
    import xarray as xr

    folder = Path(path)
    image = find_file(folder, IMAGE_PATTERNS, _IMAGE)
    attrs = _tile_attrs(folder, read_metadata(find_file(folder, METADATA_PATTERNS, _METADATA)))
    with step("read image"):
        numbers, geobox = read_raster(image, len(BANDS), "uint16", _IMAGE)
    if not numbers.any():
        raise EmptySceneError(f"{image} holds no data: all its pixels are 0. There is nothing to map.")
    variables = {}
    for name, values in zip(BANDS, numbers, strict=True):
        reflectance = values / _SCALE
        reflectance[values == 0] = np.nan
        variables[name] = (("y", "x"), reflectance, band_attrs(name, data_source=_SOURCE), _ENCODING)
    return xr.Dataset(variables, coords=_coords(geobox), attrs=attrs)


def load_planet_masks(path: "str | os.PathLike[str]", scene: "xr.Dataset | None" = None) -> "xr.Dataset":
    """Load the usable data mask (UDM2) of a PlanetScope scene or orthotile, and the quality that follows from it.

    Quality 0 (invalid): band 8 says blackfill or missing data, or the image holds 0 in all bands. Otherwise 1 (low):
    snow, shadow, light haze, heavy haze or cloud (bands 2 to 6), or the cloud bit of band 8. Otherwise 2 (high).
    Source of the bands and bits: Planet, "PlanetScope product specifications", UDM2.

    Args:
        path: Folder with `*_udm2.tif` (else `*_udm2_clip.tif`), eight bands, uint8.
        scene: What `load_planet_scene` returned for the same folder, so that the image is not read again; without it
            the image is read where the folder holds one.

    Returns:
        Dataset on the mask's grid, which is the image's: `quality_data_mask` (y, x), uint8, 0 to 2; and `planet_udm`
        (udm_band, y, x), uint8, as delivered, `udm_band` counting from 1. Attributes as `load_planet_scene` gives
        them, as far as the folder tells them.

    Raises:
        SceneNotFoundError: If the folder or the mask is absent.
        SceneReadError: If the mask, the image or the metadata file is damaged.
        SceneGridError: If the mask's grid cannot be a tile's, or differs from the image's.
        SceneError: If a file is there twice, or the mask or the image has other bands or another data type.
        MissingBandError: If `scene` lacks a band.
    """
    import xarray as xr

    folder = Path(path)
    file = find_file(folder, MASK_PATTERNS, _MASK)
    with step("read mask"):
        udm, geobox = read_raster(file, 8, "uint8", _MASK)
    attrs = dict(scene.attrs) if scene is not None else _attrs_of_mask(folder)
    quality = _quality(udm)
    image = _image_of_mask(folder, scene)
    if image is not None:
        if not same_grid(image.grid, geobox):
            raise SceneGridError(
                f"{file} does not fit {image.name}: {_describe(geobox)} against {_describe(image.grid)}."
            )
        quality[image.empty] = 0
    # The coordinates of one tile may not differ in the last digit, those of two files may.
    coords = _coords(geobox) if image is None else image.coords
    coords = coords | {"udm_band": np.arange(1, 9)}
    variables = {
        "quality_data_mask": (("y", "x"), quality, band_attrs("quality_data_mask", data_source=_SOURCE), _ENCODING),
        "planet_udm": (("udm_band", "y", "x"), udm, band_attrs("planet_udm", data_source=_SOURCE), _ENCODING),
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def get_planet_geometry(path: "str | os.PathLike[str]") -> "Geometry":
    """Return the footprint of a PlanetScope scene or orthotile: the outline of its image, without reading the pixels.

    Args:
        path: Folder with `*_SR.tif` (else `*_SR_clip.tif`).

    Returns:
        A rectangle in the CRS of the image.

    Raises:
        SceneNotFoundError: If the folder or the image is absent.
        SceneReadError: If the image is damaged.
        SceneGridError: If the image has no CRS, or its grid is not north-up, square, and projected in metres.
        SceneError: If the image is there twice.
    """
    return read_grid(find_file(Path(path), IMAGE_PATTERNS, _IMAGE), _IMAGE).extent


def _quality(udm: np.ndarray) -> np.ndarray:
    """Return 0, 1 or 2 for each pixel of the eight UDM2 bands, see `load_planet_masks`."""
    flags = udm[7]
    low = np.bitwise_or.reduce(udm[1:6], axis=0) != 0
    low |= (flags & _CLOUD_BIT) != 0
    quality = np.where(low, np.uint8(1), np.uint8(2))
    quality[(flags & ~np.uint8(_CLOUD_BIT)) != 0] = 0
    return quality


class _Image(NamedTuple):
    """What the mask needs to know of the image: where it holds 0 in all bands, its grid, coordinates and name."""

    empty: np.ndarray
    grid: "GeoBox"
    coords: dict[Any, Any]
    name: str


def _image_of_mask(folder: Path, scene: "xr.Dataset | None") -> _Image | None:
    """Take the image from `scene`, else from the folder; return None where there is none."""
    if scene is not None:
        import odc.geo.xr  # noqa: F401 - brings .odc

        absent = [name for name in (*BANDS, "spatial_ref") if name not in scene]
        if absent:
            raise MissingBandError(f"The scene lacks {', '.join(absent)}; expected what load_planet_scene returns.")
        empty = np.all([np.isnan(scene[name].values) for name in BANDS], axis=0)
        coords = {name: scene.coords[name] for name in ("y", "x", "spatial_ref")}
        return _Image(empty, scene.odc.geobox, coords, "the scene given")
    image = find_optional_file(folder, IMAGE_PATTERNS, _IMAGE)
    if image is None:
        return None
    with step("read image"):
        numbers, grid = read_raster(image, len(BANDS), "uint16", _IMAGE)
    return _Image(~np.any(numbers, axis=0), grid, _coords(grid), image.name)


def _describe(grid: "GeoBox") -> str:
    affine, crs = grid.affine, grid.crs
    name = f"EPSG:{crs.epsg}" if crs is not None and crs.epsg else crs
    return f"{grid.shape[0]} × {grid.shape[1]} pixels of {affine.a} m from ({affine.c}, {affine.f}) in {name}"


def _tile_attrs(folder: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    name = parse_planet_name(folder)
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - "." has a name too, and a link keeps its own
    attrs = {"tile_id": folder.name, "time": name.time, "planet_type": name.type, "planet_scene_id": folder.name}
    if name.tile is not None:
        attrs["planet_orthotile_id"] = name.tile
    return attrs | metadata


def _attrs_of_mask(folder: Path) -> dict[str, Any]:
    """Return the attributes of a folder that may hold a mask alone, under any name."""
    file = find_optional_file(folder, METADATA_PATTERNS, _METADATA)
    metadata = {"azimuth": math.nan, "elevation": math.nan} if file is None else read_metadata(file)
    try:
        return _tile_attrs(folder, metadata)
    except SceneNameError:
        return {"tile_id": folder.resolve().name} | metadata


def _coords(geobox: "GeoBox") -> dict[Any, Any]:
    from odc.geo.xr import xr_coords

    return dict(xr_coords(geobox))
