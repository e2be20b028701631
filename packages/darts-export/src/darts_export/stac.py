"""The STAC Item of a tile: where, when, from which scene, with which models, and the files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from darts_export.context import TileContext
from darts_export.footprint import geojson_footprint
from darts_export.products import ITEM_FILE, Product


def write_item(folder: Path, context: TileContext, plan: Sequence[Product]) -> None:
    """Write ``item.json``, a STAC 1.1 Item.

    Args:
        folder: The folder with the other files.
        context: What the Item says about the tile.
        plan: The products in the folder.
    """
    item = make_item(context, plan)
    (folder / ITEM_FILE).write_text(json.dumps(item, indent=2, ensure_ascii=False), encoding="utf-8")


def make_item(context: TileContext, plan: Sequence[Product]) -> dict[str, Any]:
    """Make the Item as a dict."""
    geometry, bbox = geojson_footprint(context.geobox)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": context.tile_id,
        "geometry": geometry,
        "bbox": bbox,
        "properties": {"datetime": context.time_text or None},
        "links": [],
        "assets": {file: {"href": f"./{file}", "roles": ["data"]} for product in plan for file in product.files},
    }
