"""The STAC Item of a tile, and the Collection that it belongs to: where, when, from which scene, with which models.

Fields follow STAC 1.1 and the extensions projection, raster, view, processing, and Machine Learning Model. Everything
that is linked lies in the tile's folder or is public, so that the folder can be moved and handed on.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import pystac
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.view import ViewExtension

from darts_export.context import TileContext
from darts_export.footprint import geojson_footprint
from darts_export.products import COLLECTION_FILE, DEBUG_FILE, ITEM_FILE, PREVIEW_FILE
from darts_export.stac_model import is_public, model_assets, model_properties, without_private_address
from darts_utils.results import MANIFEST_FILE

COLLECTION_ID = "darts-retrogressive-thaw-slumps"
# Of these, pystac has an older version or none.
_RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
_PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
_MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".nc": "application/x-netcdf",
    ".qml": "application/xml",
    ".xml": "application/xml",
}
_ROLES = {".jpg": "thumbnail", ".json": "metadata", ".qml": "metadata", ".xml": "metadata"}
# STAC knows no unknown time: a range that leaves nothing out says so.
_ANY_TIME = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))


def make_item(
    context: TileContext, files: Mapping[str, list[dict[str, object]]], versions: Mapping[str, str]
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
    start, end = _ANY_TIME if context.time is None else (None, None)
    item = pystac.Item(
        context.tile_id,
        geometry,
        bbox,
        context.time,
        _properties(context, versions),
        start_datetime=start,
        end_datetime=end,
        stac_extensions=[_RASTER, _PROCESSING],
        collection=COLLECTION_ID,
    )
    if context.resolution is not None:
        item.common_metadata.gsd = context.resolution
    if context.platform:
        item.common_metadata.platform = context.platform
    _add_projection(item, context)
    _add_view(item, context)
    for name in sorted([*files, MANIFEST_FILE, COLLECTION_FILE]):
        item.add_asset(name, _asset(name, files.get(name, []), context))
    models = model_assets(context.models)
    for key, asset in models.items():
        item.add_asset(key, pystac.Asset.from_dict(asset))
    if models:
        from pystac.extensions.mlm import MLMExtension

        MLMExtension.add_to(item)
    item.properties |= model_properties(context.models, described=bool(models))
    item.add_link(pystac.Link("collection", f"./{COLLECTION_FILE}", "application/json"))
    scene = context.metadata.get("source_scene")
    if isinstance(scene, dict) and is_public(scene.get("href")):
        title = f"Source scene {scene['id']}" if scene.get("id") else "Source scene"
        item.add_link(pystac.Link("derived_from", str(scene["href"]), title=title))
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def make_collection(context: TileContext, bbox: list[float]) -> dict[str, Any]:
    """Make the STAC Collection that an Item needs: what all tiles have in common, with the extent of this one.

    Args:
        context: The tile.
        bbox: Bounding box of its Item.

    Returns:
        The Collection. It links the Item and nothing else.
    """
    interval: list[datetime | None] = [context.time, context.time]
    collection = pystac.Collection(
        COLLECTION_ID,
        "Retrogressive thaw slumps that networks found in satellite images, one Item per tile: probabilities, "
        "classes, outlines of slumps, and the area in which they are reliable.",
        pystac.Extent(pystac.SpatialExtent([bbox]), pystac.TemporalExtent([interval])),
        "Retrogressive thaw slumps",
        license="other",
        keywords=["permafrost", "retrogressive thaw slumps", "remote sensing"],
    )
    collection.clear_links()
    collection.add_link(pystac.Link("item", f"./{ITEM_FILE}", "application/geo+json"))
    return collection.to_dict(include_self_link=False, transform_hrefs=False)


def _properties(context: TileContext, versions: Mapping[str, str]) -> dict[str, object]:
    given = context.metadata.get("versions")
    software = {**versions, **(given if isinstance(given, dict) else {})}
    made_from = f" in {context.source} imagery" if context.source else ""
    properties: dict[str, object] = {
        "title": f"Retrogressive thaw slumps{made_from}, tile {context.tile_id}",
        "processing:level": "L4",
        "processing:software": {name: str(version) for name, version in software.items()},
    }
    for name in ("source_scene", "configuration"):
        if context.metadata.get(name) is not None:
            properties[f"darts:{name}"] = without_private_address(context.metadata[name])
    if context.source:
        properties["darts:source"] = context.source
    if context.fingerprint is not None:
        properties["darts:fingerprint"] = context.fingerprint
    return properties


def _add_projection(item: pystac.Item, context: TileContext) -> None:
    code = None if context.epsg is None else f"EPSG:{context.epsg}"
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.apply(code=code, bbox=list(context.geobox.boundingbox.bbox))
    item.properties["proj:code"] = code  # also where it is null, which pystac leaves out
    if code is None:
        projection.wkt2 = context.wkt


def _add_view(item: pystac.Item, context: TileContext) -> None:
    angles = {name: value for name, value in context.view.items() if value is not None}
    if angles:
        ViewExtension.ext(item, add_if_missing=True).apply(**angles)


def _asset(name: str, bands: list[dict[str, object]], context: TileContext) -> pystac.Asset:
    suffix = PurePath(name).suffix
    roles = ["metadata" if name == DEBUG_FILE else _ROLES.get(suffix, "data")]
    fields: dict[str, object] = {}
    if name == PREVIEW_FILE:
        roles = ["overview", "visual"]  # on a grid of its own, which the file says
        fields = {"bands": bands}
    elif bands:
        _, dx, _, dy = context.transform
        a = context.geobox.affine
        fields["proj:shape"] = [int(size) for size in context.geobox.shape]
        fields["proj:transform"] = [a.a, a.b, a.c, a.d, a.e, a.f]
        fields["raster:sampling"] = "area"
        if dx == -dy:
            fields["raster:spatial_resolution"] = context.pixel_area**0.5
        fields["bands"] = bands
    return pystac.Asset(f"./{name}", media_type=_MEDIA_TYPES[suffix], roles=roles, extra_fields=fields)
