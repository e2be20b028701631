"""The STAC Item of a tile: where, when, from which scene, with which models, and the files.

Fields follow STAC 1.1 and the extensions named in `_EXTENSIONS`.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from darts_export.context import TileContext
from darts_export.footprint import geojson_footprint
from darts_export.products import DEBUG_FILE, ITEM_FILE
from darts_export.stac_model import (
    MLM_EXTENSION,
    is_public,
    model_assets,
    model_properties,
    without_private_address,
)
from darts_utils.results import MANIFEST_FILE

_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
)
_MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".nc": "application/x-netcdf",
}
_ROLES = {".jpg": "thumbnail", ".json": "metadata"}
# STAC knows no unknown time: a range that leaves nothing out says so.
_ANY_TIME = {"datetime": None, "start_datetime": "0001-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}


def make_item(
    context: TileContext, files: Mapping[str, list[dict[str, Any]]], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Make the STAC Item of a tile.

    Args:
        context: What the Item says about the tile. Of the metadata, `models`, `configuration`, `source_scene` and
            `versions` are used where they are there.
        files: The files of the export, each with the fields of its bands, none where it is no raster.
        versions: Versions of the software by name.

    Returns:
        The Item, without a link to itself, so that the folder can be moved.
    """
    geometry, bbox = geojson_footprint(context.geobox, context.wkt)
    names = [*files, MANIFEST_FILE]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [*_EXTENSIONS, *([MLM_EXTENSION] if context.models else [])],
        "id": context.tile_id,
        "geometry": geometry,
        "bbox": bbox,
        "properties": _properties(context, versions),
        "links": _links(context),
        "assets": {name: _asset(name, files.get(name, []), context) for name in sorted(names) if name != ITEM_FILE}
        | model_assets(context.models),
    }


def _properties(context: TileContext, versions: Mapping[str, str]) -> dict[str, Any]:
    left, bottom, right, top = context.geobox.boundingbox.bbox
    given = context.metadata.get("versions")
    software = {**versions, **(given if isinstance(given, dict) else {})}
    made_from = f" in {context.source} imagery" if context.source else ""
    properties: dict[str, Any] = {
        **({"datetime": context.time_text} if context.time else _ANY_TIME),
        "title": f"Retrogressive thaw slumps{made_from}, tile {context.tile_id}",
        "proj:code": None if context.epsg is None else f"EPSG:{context.epsg}",
        "proj:bbox": [left, bottom, right, top],
        "processing:level": "L4",
        "processing:software": {name: str(version) for name, version in software.items()},
    }
    if context.epsg is None:
        properties["proj:wkt2"] = context.wkt
    for name in ("source_scene", "configuration"):
        if context.metadata.get(name) is not None:
            properties[f"darts:{name}"] = without_private_address(context.metadata[name])
    if context.source:
        properties["darts:source"] = context.source
    if context.fingerprint is not None:
        properties["darts:fingerprint"] = context.fingerprint
    return properties | model_properties(context.models)


def _links(context: TileContext) -> list[dict[str, Any]]:
    scene = context.metadata.get("source_scene")
    if not isinstance(scene, dict) or not is_public(scene.get("href")):
        return []
    title = f"Source scene {scene['id']}" if scene.get("id") else "Source scene"
    return [{"rel": "derived_from", "href": str(scene["href"]), "title": title}]


def _asset(name: str, bands: list[dict[str, Any]], context: TileContext) -> dict[str, Any]:
    suffix = PurePath(name).suffix
    asset: dict[str, Any] = {
        "href": f"./{name}",
        "type": _MEDIA_TYPES[suffix],
        "roles": ["metadata" if name == DEBUG_FILE else _ROLES.get(suffix, "data")],
    }
    if bands:
        _, dx, _, dy = context.transform
        a = context.geobox.affine
        asset["proj:shape"] = [int(size) for size in context.geobox.shape]
        asset["proj:transform"] = [a.a, a.b, a.c, a.d, a.e, a.f]
        asset["raster:sampling"] = "area"
        if dx == -dy:
            asset["raster:spatial_resolution"] = context.pixel_area**0.5
        asset["bands"] = bands
    return asset
