"""What the searches of all sources share: what is looked for, the table of what was found, and the check of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darts_acquisition.errors import SceneNotFoundError
from darts_acquisition.scenes.area import Area
from darts_acquisition.scenes.geometry import cut_footprint
from darts_acquisition.scenes.selection import Source, check_scene_id, check_tile_id, unique
from darts_utils import ParameterError

if TYPE_CHECKING:
    import geopandas as gpd

_NUMBERS = ("cloud_cover", "snow_cover", "download_bytes")
_COLUMNS = ("time", "tile_id", *_NUMBERS)


@dataclass(frozen=True)
class Target:
    """What a search looks for; what is None does not matter, and all of the rest hold at once.

    Attributes:
        names: Names of scenes as the source writes them, each once.
        tiles: MGRS tiles in their plain form, each once.
        area: The exact area.
        query: The simple area that services are asked for, as GeoJSON.
    """

    names: list[str] | None
    tiles: list[str] | None
    area: Area | None
    query: Mapping[str, Any] | None

    @classmethod
    def of(
        cls,
        source: Source,
        scene_ids: Sequence[str] | None,
        tile_ids: Sequence[str] | None,
        aoi: "gpd.GeoDataFrame | Area | None",
    ) -> "Target":
        """Check what a caller looks for.

        Raises:
            ParameterError: If a tile cannot be, or there is none of names, tiles and area.
            SceneNameError: If a name is none of the source.
            AreaError: If the area is empty or has no CRS.
        """
        if scene_ids is None and tile_ids is None and aoi is None:
            raise ParameterError("Nothing says which scenes: give scene_ids, tile_ids or an area of interest.")
        area = Area(aoi) if aoi is not None and not isinstance(aoi, Area) else aoi
        return cls(
            None if scene_ids is None else unique(check_scene_id(name, source) for name in scene_ids),
            None if tile_ids is None else unique(check_tile_id(name) for name in tile_ids),
            area,
            None if area is None else area.query(),
        )

    @property
    def is_nothing(self) -> bool:
        """Whether no scene can be found: a list is empty, or the area lies where there are no scenes."""
        return self.names == [] or self.tiles == [] or (self.area is not None and self.query is None)


def read_percent(value: Any) -> float | None:
    """Return a cover that a service gave, in percent; None where it gave none.

    Raises:
        TypeError: If it is no number.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"a cover is {value!r}, no number")
    return value


def read_footprint(footprint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a footprint that a service gave as GeoJSON, having made sure that it is a geometry.

    Raises:
        LookupError: If a part of it is absent.
        TypeError: If a part of it is something else.
        AttributeError: Likewise.
        ValueError: If it is no geometry.
    """
    import shapely

    try:
        shapely.geometry.shape(dict(footprint))
    except shapely.errors.ShapelyError as error:
        raise ValueError(f"a footprint is no geometry ({error})") from error
    return footprint


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


def check_all_found(scene_ids: Sequence[str], found: Iterable[str]) -> None:
    """Check that every scene was found.

    Args:
        scene_ids: Names asked for, as the source writes them.
        found: Names found.

    Raises:
        SceneNotFoundError: If one was not.
    """
    known = set(found)
    missing = [name for name in scene_ids if name not in known]
    if missing:
        raise SceneNotFoundError(
            f"{len(missing)} of {len(scene_ids)} scenes are not in the catalogue: {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}. They may have been processed again and renamed; search by tile."
        )
