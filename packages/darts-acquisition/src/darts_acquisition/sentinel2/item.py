"""STAC items of the Copernicus Data Space: what they say of a scene and of its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_acquisition.errors import SceneError
from darts_acquisition.scenes.bands import S2Band
from darts_acquisition.scenes.metadata import in_utc, read_angle, read_time
from darts_acquisition.scenes.raw import RawGrid, SceneMetadata
from darts_acquisition.scenes.selection import is_official, parse_baseline

SOURCE = "cdse"
_SCALE = 1e-4
_OFFSET_SINCE = (4, 0)
"""First processing baseline whose reflectance has an offset: −0.1 (ESA, "Sentinel-2 Products Specification Document",
BOA_ADD_OFFSET)."""


@dataclass(frozen=True)
class Asset:
    """A file of a scene: its band, its address, its grid; size in bytes and multihash, None where unknown."""

    band: S2Band
    href: str
    size: int | None
    checksum: str | None
    grid: RawGrid


def metadata_of(item: Mapping[str, Any]) -> SceneMetadata:
    """Return what an item says of a scene besides its files.

    Raises:
        SceneError: If a property has a value that cannot be.
    """
    scene_id, properties = str(item["id"]), item["properties"]
    where = f"Scene {scene_id}"
    attrs: dict[str, Any] = {
        "time": in_utc(read_time(properties.get("datetime") or properties.get("start_datetime"), where)),
        "s2_source": SOURCE,
        "s2_scene_id": scene_id,
    }
    optional = {
        "azimuth": read_angle(properties, "view:sun_azimuth", 0, 360, where),
        "elevation": read_angle(properties, "view:sun_elevation", -90, 90, where),
        "s2_mgrs_tile": tile_of(properties) or None,
        "s2_cloud_cover": properties.get("eo:cloud_cover"),
        "s2_snow_cover": properties.get("eo:snow_cover"),
        "s2_platform": properties.get("platform"),
        "s2_processing_baseline": properties.get("processing:version"),
    }
    return SceneMetadata(
        SOURCE, scene_id, attrs | {name: value for name, value in optional.items() if value is not None}
    )


def tile_of(properties: Mapping[str, Any]) -> str:
    """Return the MGRS tile of an item, for example "08WMA"; empty where it names none."""
    name = str(properties.get("grid:code") or "").removeprefix("MGRS-")
    return name.zfill(5) if name else ""


def download_bytes(item: Mapping[str, Any], bands: Sequence[S2Band]) -> int | None:
    """Return how many bytes the files of some bands have together, None where the item does not say."""
    assets = item.get("assets", {})
    sizes = [assets.get(band.cdse_asset, {}).get("file:size") for band in bands]
    return None if None in sizes else sum(int(size) for size in sizes)


def asset_of(item: Mapping[str, Any], band: S2Band) -> Asset:
    """Return the file of a band.

    Raises:
        SceneError: If the item has none, or does not say where its pixels lie.
    """
    scene_id, assets = item["id"], item.get("assets", {})
    if band.cdse_asset not in assets:
        raise SceneError(f"Scene {scene_id} has no asset {band.cdse_asset}; it has {', '.join(sorted(assets))}.")
    asset = assets[band.cdse_asset]
    where, properties = f"Scene {scene_id}, asset {band.cdse_asset}", item["properties"]
    of_all = {name: properties.get(name) for name in ("proj:code", "proj:epsg")}
    scaling = (1.0, 0.0) if band.quality else _scaling(asset, properties, where)
    size = asset.get("file:size")
    return Asset(
        band,
        str(asset["href"]),
        None if size is None else int(size),
        asset.get("file:checksum"),
        grid_of(asset, of_all, where, scaling),
    )


def grid_of(asset: Mapping[str, Any], general: Mapping[str, Any], where: str, scaling: tuple[float, float]) -> RawGrid:
    """Return where the pixels of an asset lie, by what it says itself, or else in `general`.

    Raises:
        SceneError: If neither says it.
    """
    said: dict[str, Any] = {
        name: asset.get(f"proj:{name}") or general.get(f"proj:{name}")
        for name in ("code", "epsg", "transform", "shape")
    }
    try:
        a, b, c, d, e, f = (float(value) for value in said["transform"][:6])
        height, width = (int(size) for size in said["shape"])
        return RawGrid(str(said["code"] or f"EPSG:{int(said['epsg'])}"), (a, b, c, d, e, f), (height, width), *scaling)
    except (TypeError, ValueError, IndexError) as error:
        raise SceneError(f"{where}: the item lacks proj:code, proj:transform or proj:shape.") from error


def _scaling(asset: Mapping[str, Any], properties: Mapping[str, Any], where: str) -> tuple[float, float]:
    """Return scale and offset as the item says them; an item that says nothing follows its processing baseline."""
    described = {**(asset.get("raster:bands") or [{}])[0]}
    scale = asset.get("raster:scale", described.get("scale", _SCALE))
    offset = asset.get("raster:offset", described.get("offset"))
    if offset is None:
        version = str(properties.get("processing:version", ""))
        baseline = parse_baseline(version)
        if baseline is None:
            raise SceneError(f"{where}: the item has neither raster:offset nor processing:version.")
        if not is_official(baseline):
            raise SceneError(
                f"{where}: the item has no raster:offset, which does not follow from its processing:version {version}, "
                "as that is none of ESA's own; take another processing of the scene."
            )
        offset = -0.1 if baseline >= _OFFSET_SINCE else 0.0
    if not (isinstance(scale, int | float) and isinstance(offset, int | float) and scale > 0):
        raise SceneError(f"{where}: raster:scale is {scale!r} and raster:offset {offset!r}; expected numbers.")
    return float(scale), float(offset)
