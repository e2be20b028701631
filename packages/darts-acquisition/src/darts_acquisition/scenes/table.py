"""The table of scenes that a search returns, the same for both sources."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from darts_acquisition.scenes.polar import cut_footprint

if TYPE_CHECKING:
    import geopandas as gpd

_NUMBERS = ("cloud_cover", "snow_cover", "download_bytes")
_COLUMNS = ("time", "tile_id", *_NUMBERS)


def scene_table(rows: Sequence[dict[str, Any]]) -> "gpd.GeoDataFrame":
    """Return scenes as a table.

    Args:
        rows: One dict per scene: `scene_id`, `time` (datetime, UTC), `tile_id`, `cloud_cover`, `snow_cover`,
            `download_bytes`, and `geometry` as GeoJSON in degrees; numbers may be None.

    Returns:
        Sorted by name, which is the index; geometry in EPSG:4326, cut at the antimeridian.
    """
    import geopandas as gpd
    import pandas as pd

    rows = sorted(rows, key=lambda row: row["scene_id"])
    columns: dict[str, Any] = {
        "time": pd.to_datetime([row["time"] for row in rows], utc=True),
        "tile_id": [row["tile_id"] for row in rows],
    }
    for name in _NUMBERS:
        numbers = pd.array([row.get(name) for row in rows], dtype="Float64")
        columns[name] = numbers.to_numpy("float64", na_value=float("nan"))
    index = pd.Index([row["scene_id"] for row in rows], name="scene_id", dtype="object")
    geometry = [cut_footprint(row["geometry"]) for row in rows]
    return gpd.GeoDataFrame({name: columns[name] for name in _COLUMNS}, geometry=geometry, index=index, crs="EPSG:4326")
