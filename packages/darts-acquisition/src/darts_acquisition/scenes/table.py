"""The table of scenes that a search returns, the same for both sources."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from darts_acquisition.scenes.polar import cut_footprint

if TYPE_CHECKING:
    import geopandas as gpd

_COLUMNS = ("time", "tile_id", "cloud_cover", "snow_cover")


def scene_table(rows: Sequence[dict[str, Any]]) -> "gpd.GeoDataFrame":
    """Return scenes as a table.

    Args:
        rows: One dict per scene: `scene_id`, `time` (datetime, UTC), `tile_id`, `cloud_cover`, `snow_cover`, and
            `geometry` as GeoJSON in degrees.

    Returns:
        Sorted by name, which is the index; geometry in EPSG:4326, cut at the antimeridian.
    """
    import geopandas as gpd
    import pandas as pd

    rows = sorted(rows, key=lambda row: row["scene_id"])
    columns = {
        "time": pd.to_datetime([row["time"] for row in rows], utc=True),
        "tile_id": [row["tile_id"] for row in rows],
        "cloud_cover": pd.array([row["cloud_cover"] for row in rows], dtype="Float64").to_numpy(
            "float64", na_value=float("nan")
        ),
        "snow_cover": pd.array([row["snow_cover"] for row in rows], dtype="Float64").to_numpy(
            "float64", na_value=float("nan")
        ),
    }
    index = pd.Index([row["scene_id"] for row in rows], name="scene_id", dtype="object")
    geometry = [cut_footprint(row["geometry"]) for row in rows]
    return gpd.GeoDataFrame({name: columns[name] for name in _COLUMNS}, geometry=geometry, index=index, crs="EPSG:4326")
