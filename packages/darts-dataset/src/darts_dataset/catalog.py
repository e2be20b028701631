"""The STAC Collection of a dataset, with an Item for each of its parts."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pystac

from darts_dataset.dictionary import FILE as DICTIONARY
from darts_dataset.memory import COPIES

_MEDIA = {
    ".parquet": "application/vnd.apache.parquet",
    ".gpkg": "application/geopackage+sqlite3",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".qml": "application/xml",
}
_ROLES = {".parquet": ["data"], ".gpkg": ["data"], ".tif": ["data"], ".qml": ["metadata"]}


def write_catalog(folder: Path, parts: dict[str, tuple[int, list[float]]]) -> None:
    """Write ``collection.json`` and ``items/<part>.json``; all links are relative.

    Args:
        folder: The dataset.
        parts: Year and bounds (west, south, east, north in degrees) of each part, by the path of its folder.

    Raises:
        OSError: If a file cannot be written.
    """
    boxes = np.array([box for _, box in parts.values()] or [[-180.0, 50.0, 180.0, 90.0]])
    whole = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    years = [year for year, _ in parts.values()] or [2000]
    collection = pystac.Collection(
        "darts-thaw-slumps",
        "Retrogressive thaw slumps mapped by DARTS: detections by scene (level 1), objects by year (level 2), what "
        "became of them, and what was looked at.",
        pystac.Extent(pystac.SpatialExtent([whole]), pystac.TemporalExtent([[_begin(min(years)), _end(max(years))]])),
        title="Thaw slumps",
        license="other",
    )
    collection.add_asset("dictionary", pystac.Asset(f"./{DICTIONARY}", "Data dictionary", None, "text/markdown"))
    collection.add_asset("links", pystac.Asset("./links.parquet", "Links between years", None, _MEDIA[".parquet"]))
    for part, (year, box) in sorted(parts.items()):
        item = pystac.Item(
            part.replace("/", "_").replace("=", "-"),
            _outline(box),
            box,
            None,
            {},
            start_datetime=_begin(year),
            end_datetime=_end(year),
        )
        for path in sorted([*(folder / part).iterdir(), *(folder / COPIES / part).iterdir()]):
            href = f"../{quote(path.relative_to(folder).as_posix(), safe='/=')}"
            item.add_asset(path.name, pystac.Asset(href, None, None, _MEDIA[path.suffix], _ROLES[path.suffix]))
        collection.add_item(item)
    # Written by hand in these two places: pystac lays every Item into a folder of its own.
    collection.set_self_href(str(folder / "collection.json"))
    for item in collection.get_items():
        item.set_self_href(str(folder / "items" / f"{item.id}.json"))
    collection.save(pystac.CatalogType.SELF_CONTAINED)


def _begin(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


def _end(year: int) -> datetime:
    return datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)


def _outline(box: list[float]) -> dict[str, object]:
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
