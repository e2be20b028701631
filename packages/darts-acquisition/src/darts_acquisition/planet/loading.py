"""PlanetScope images and masks as tiles."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from darts_acquisition.errors import EmptySceneError, SceneError, SceneGridError, SceneNameError, SceneReadError
from darts_acquisition.planet.delivery import Delivery, name_of, parse_planet_name
from darts_acquisition.planet.image import Image, read_blocks, read_grid, read_header
from darts_acquisition.scenes.quality import Scaling, row_blocks
from darts_acquisition.scenes.raw import in_utc, read_angle, read_time
from darts_acquisition.tile import AnyPath, as_band, describe_grid, same_grid
from darts_utils import OPTICAL_BANDS, MissingBandError, step

if TYPE_CHECKING:
    import xarray as xr

_SCALE = 1e-4
_SOURCE = "PlanetScope"
_CLOUD_BIT = np.uint8(0b0000_0010)
"""Bit of UDM2 band 8 that says cloud; all the others say blackfill, missing or suspect data."""
_ROWS_IN_CACHE = 32
"""Rows of a mask that are decided on at once."""
_NODATA = "planet_nodata"
_KEPT = ("strip_id", "satellite_id", "instrument", "quality_category", "cloud_cover", "view_angle")
"""Further properties that a tile keeps, as ``planet_<name>``."""


def load_planet_scene(path: AnyPath) -> "xr.Dataset":
    """Load the surface reflectance of a PlanetScope scene or orthotile as a tile.

    What the file says counts: bands are taken by their names where it has names, and pixels that it declares as no data
    are none. Where a scene was delivered as several products, the harmonised one is taken, and the log says so.

    Args:
        path: Folder of the scene, or what `find_planet_scenes` returned. It holds
            `*_SR[_8b][_harmonized][_clip].tif`: four bands blue, green, red, nir, or the eight of SuperDove, uint16,
            reflectance × 10000; and `*_metadata.json`.

    Returns:
        Dataset with dimensions (y, x) on the image's grid: `blue`, `green`, `red`, `nir`, float32 surface
        reflectance, NaN where the image holds 0, the band's no-data value, or no data by its mask or alpha band.
        Attributes: `tile_id` (the folder's name), `time` (ISO 8601 UTC), `azimuth` and `elevation` of the sun
        (degrees, NaN where unknown), `planet_type`, `planet_scene_id`, for orthotiles `planet_orthotile_id`,
        `planet_nodata` where the file declares another no-data value than 0, and further ones of the metadata as
        `planet_*`.

    Raises:
        SceneNameError: If the name is neither that of a scene nor that of an orthotile.
        SceneNotFoundError: If the scene, its image or its metadata file is absent.
        SceneReadError: If the image or the metadata file is damaged, or the image no GeoTIFF.
        SceneGridError: If the image has no CRS, its grid is not north-up and square, or a metre of it is not a metre on
            the ground (geographic, feet, or areas off by more than a quarter).
        EmptySceneError: If every pixel of the image is 0 or no data.
        SceneError: If a file is there twice or names another scene, or the image has other bands or another data type,
            or needs more memory than there is.

    Warns:
        ArealScaleWarning: If areas on the grid differ from those on the ground by more than 3 %.
    """
    delivery = Delivery.open(path)
    file = delivery.find("image")
    attrs = _tile_attrs(path, _metadata(delivery, delivery.find("metadata")))
    scene, has_data = _load_image(delivery, file)
    if not has_data:
        raise EmptySceneError(f"{file} holds no data: all its pixels are 0 or no data. There is nothing to map.")
    return scene.assign_attrs(attrs)


def load_planet_masks(path: AnyPath, scene: "xr.Dataset | None" = None) -> "xr.Dataset":
    """Load the usable data mask (UDM2) of a PlanetScope scene or orthotile, and the quality that follows from it.

    Quality 0 (invalid): band 8 says blackfill or missing data, the mask's own no-data value, mask or alpha band says
    so, or the image has no data: in all bands, or in any band where the file declares another no-data value than 0.
    Otherwise 1 (low): snow, shadow, light haze, heavy haze or cloud (bands 2 to 6), or the cloud bit of band 8.
    Otherwise 2 (high). Source of the bands and bits: Planet, "PlanetScope product specifications", UDM2.

    Args:
        path: Folder of the scene, or what `find_planet_scenes` returned. It holds `*_udm2[_clip].tif`, eight bands,
            uint8; where it has names, the bands are taken by them.
        scene: What `load_planet_scene` returned for the same path, so that the image is not read again; without it
            the image is read where there is one.

    Returns:
        Dataset on the mask's grid, which is the image's: `quality_data_mask` (y, x), uint8, 0 to 2; and `planet_udm`
        (udm_band, y, x), uint8, as delivered, `udm_band` counting from 1. Attributes as `load_planet_scene` gives
        them, as far as the folder tells them.

    Raises:
        SceneNotFoundError: If the scene or its mask is absent.
        SceneReadError: If the mask, the image or the metadata file is damaged, or no GeoTIFF.
        SceneGridError: If the mask's grid cannot be a tile's, or differs from the image's.
        SceneError: If a file is there twice or names another scene, or the mask or the image has other bands or another
            data type, or needs more memory than there is.
        MissingBandError: If `scene` lacks a band.
    """
    import xarray as xr

    delivery = Delivery.open(path)
    mask = read_header(delivery, delivery.find("mask"), "mask")
    image, name = scene, "the scene given"
    if image is None and (file := delivery.find_optional("image")) is not None:
        image, name = _load_image(delivery, file)[0], file.name
    missing = None if image is None else _look_for_missing(image, name, mask)
    shape = mask.geobox.shape
    udm, quality = np.empty((len(mask.bands), *shape), "uint8"), np.empty(shape, "uint8")

    def decide(rows: slice, bands: np.ndarray, invalid: np.ndarray | None) -> None:
        for part in row_blocks(bands.shape[1], _ROWS_IN_CACHE):
            _decide_quality(bands[:, part], mask.nodata, quality[rows][part])
        for empty in (invalid, None if missing is None else missing(rows)):
            if empty is not None:
                quality[rows][empty] = 0

    with step("read mask"):
        read_blocks(delivery, mask, decide, out=udm)
    variables = {
        "quality_data_mask": as_band("quality_data_mask", quality, mask.geobox, _SOURCE),
        "planet_udm": as_band("planet_udm", udm, mask.geobox, _SOURCE, udm_band=np.arange(1, len(udm) + 1)),
    }
    masks = xr.Dataset(variables, attrs=_attrs_of_mask(path, delivery) if scene is None else None)
    if image is None:
        return masks
    # The coordinates of one tile may not differ in the last digit, those of two files may.
    return masks.assign_attrs(image.attrs).assign_coords({name: image[name] for name in ("y", "x", "spatial_ref")})


def get_planet_geometry(path: AnyPath) -> Geometry:
    """Return the footprint of a PlanetScope scene or orthotile: the outline of its image, without reading the pixels.

    For arguments, and errors and warnings of the image and its grid, see :func:`load_planet_scene`.

    Returns:
        A rectangle in the CRS of the image.
    """
    delivery = Delivery.open(path)
    return read_grid(delivery, delivery.find("image")).extent


def check_planet_scene(path: AnyPath) -> None:
    """Find out, without reading the pixels, whether a PlanetScope scene or orthotile can be loaded with its mask.

    For arguments, errors and warnings, as far as the heads of the files show them, see :func:`load_planet_scene` and
    :func:`load_planet_masks`.
    """
    delivery = Delivery.open(path)
    _tile_attrs(path, _metadata(delivery, delivery.find("metadata")))
    image = read_header(delivery, delivery.find("image"), "image")
    mask = read_header(delivery, delivery.find("mask"), "mask")
    _check_fits(mask, image.geobox, image.file.name)


def _load_image(delivery: Delivery, file: Path) -> "tuple[xr.Dataset, bool]":
    """Read an image as reflectance, and say whether it holds any data. Attributes are those of its pixels alone."""
    import xarray as xr

    image = read_header(delivery, file, "image")
    known = {number: Scaling(_SCALE, nodata=(0, number) if number else (0,)) for number in image.nodata}
    reflectance = {name: np.empty(image.geobox.shape, "float32") for name in OPTICAL_BANDS}
    has_data = []

    def convert(rows: slice, numbers: np.ndarray, invalid: np.ndarray | None) -> None:
        for nodata, values, out in zip(image.nodata, numbers, reflectance.values(), strict=True):
            missing = known[nodata].convert(values, out[rows], invalid)
            if missing is None or not missing.all():
                has_data.append(True)

    with step("read image"):
        read_blocks(delivery, image, convert)
    bands = {name: as_band(name, values, image.geobox, _SOURCE) for name, values in reflectance.items()}
    declared = sorted({number for number in image.nodata if number})
    attrs = {_NODATA: declared[0] if len(declared) == 1 else declared} if declared else {}
    return xr.Dataset(bands, attrs=attrs), bool(has_data)


def _decide_quality(udm: np.ndarray, nodata: tuple[int | None, ...], quality: np.ndarray) -> None:
    """Write 0, 1 or 2 for each pixel of the eight UDM2 bands, see `load_planet_masks`."""
    flags = udm[7]
    low = udm[1] | udm[2]
    for band in udm[3:6]:
        low |= band
    low |= flags & _CLOUD_BIT
    np.subtract(2, low != 0, out=quality, dtype="uint8")
    quality *= (flags & ~_CLOUD_BIT) == 0
    if None not in nodata:
        quality[np.all(udm == np.array(nodata)[:, None, None], axis=0)] = 0


def _look_for_missing(image: "xr.Dataset", name: str, mask: Image) -> Callable[[slice], np.ndarray | None]:
    """Make what tells where rows of an image hold no data, see `load_planet_masks`; None for nowhere.

    MissingBandError if the image lacks a band, SceneGridError if the mask does not lie on its grid.
    """
    import odc.geo.xr  # noqa: F401 - brings .odc

    absent = [band for band in (*OPTICAL_BANDS, "spatial_ref") if band not in image]
    if absent:
        raise MissingBandError(f"The scene lacks {', '.join(absent)}; expected what load_planet_scene returns.")
    _check_fits(mask, image.odc.geobox, name)
    bands = [image[band].values for band in OPTICAL_BANDS]
    join = np.logical_or if _NODATA in image.attrs else np.logical_and

    def missing(rows: slice) -> np.ndarray | None:
        joined = np.isnan(bands[0][rows])
        for values in bands[1:]:
            if join is np.logical_and and not joined.any():
                return None  # as in most blocks, after a look at the first band
            join(joined, np.isnan(values[rows]), out=joined)
        return joined

    return missing


def _check_fits(mask: Image, grid: GeoBox, name: str) -> None:
    if not same_grid(grid, mask.geobox):
        raise SceneGridError(
            f"{mask.file} does not fit {name}: {describe_grid(mask.geobox)} against {describe_grid(grid)}."
        )


def _metadata(delivery: Delivery, file: Path) -> dict[str, object]:
    """Turn a `*_metadata.json` into tile attributes: `time`, `azimuth`, `elevation` and Planet's own identifiers.

    Planet delivers a GeoJSON feature, UTF-8 with or without a byte order mark, with everything under `properties`;
    older files have it at the top level. Angles are in degrees, NaN where the file has none; `time` (ISO 8601 UTC) and
    the identifiers are there only where the file has them. SceneReadError if it is no JSON, else SceneError.
    """
    content = delivery.read(file)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SceneReadError(f"{file} is no JSON ({error}); expected Planet's metadata. Download it again.") from error
    properties = (found.get("properties") or {}) if isinstance(found, dict) else None
    if not isinstance(properties, dict):
        raise SceneError(f"{file} is no metadata of Planet; expected a JSON object, with an object under 'properties'.")
    values = found | properties
    azimuth = read_angle(values, "sun_azimuth", 0, 360, str(file))
    elevation = read_angle(values, "sun_elevation", -90, 90, str(file))
    attrs: dict[str, object] = {
        "azimuth": math.nan if azimuth is None else azimuth,
        "elevation": math.nan if elevation is None else elevation,
    }
    if values.get("acquired") is not None:
        attrs["time"] = in_utc(read_time(values["acquired"], str(file), "acquired"))
    if isinstance(found.get("id"), str):
        attrs["planet_item_id"] = found["id"]
    kept = {f"planet_{name}": values[name] for name in _KEPT if isinstance(values.get(name), str | int | float)}
    return attrs | kept


def _tile_attrs(path: AnyPath, metadata: dict[str, Any]) -> dict[str, object]:
    name, tile_id = parse_planet_name(path), name_of(path)
    attrs = {"tile_id": tile_id, "time": name.time, "planet_type": name.type, "planet_scene_id": tile_id}
    if name.tile is not None:
        attrs["planet_orthotile_id"] = name.tile
    return attrs | metadata


def _attrs_of_mask(path: AnyPath, delivery: Delivery) -> dict[str, Any]:
    """Return the attributes of a folder that may hold a mask alone, under any name."""
    file = delivery.find_optional("metadata")
    metadata = {"azimuth": math.nan, "elevation": math.nan} if file is None else _metadata(delivery, file)
    try:
        return _tile_attrs(path, metadata)
    except SceneNameError:
        return {"tile_id": Path(path).resolve().name} | metadata
