"""What the searches of all sources share: what is looked for, the table of what was found, and the check of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darts_acquisition.errors import SceneNotFoundError, ServiceError
from darts_acquisition.io.failures import public_url
from darts_acquisition.io.settings import CDSESettings
from darts_acquisition.io.stac import make_stac_io
from darts_acquisition.scenes.area import Area
from darts_acquisition.scenes.geometry import cut_footprint
from darts_acquisition.scenes.selection import Interval, Selection, check_tile_id, unique
from darts_utils import DartsError, ParameterError

if TYPE_CHECKING:
    import geopandas as gpd

_NAMES_AT_ONCE = 100
"""Names or tiles per request."""
_PAGE_SIZE = 200
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
        check_name: Callable[[str], str],
        scene_ids: Sequence[str] | None,
        tile_ids: Sequence[str] | None,
        aoi: "gpd.GeoDataFrame | Area | None",
        plural: str = "scenes",
    ) -> "Target":
        """Check what a caller looks for; `check_name` returns a name as the source writes it.

        Raises:
            ParameterError: If a tile cannot be, or there is none of names, tiles and area.
            SceneNameError: If a name is none of the source.
            AreaError: If the area is empty or has no CRS.
        """
        if scene_ids is None and tile_ids is None and aoi is None:
            raise ParameterError(f"Nothing says which {plural}: give scene_ids, tile_ids or an area of interest.")
        area = Area(aoi) if aoi is not None and not isinstance(aoi, Area) else aoi
        return cls(
            None if scene_ids is None else unique(map(check_name, scene_ids)),
            None if tile_ids is None else unique(map(check_tile_id, tile_ids)),
            area,
            None if area is None else area.query(),
        )

    @property
    def is_nothing(self) -> bool:
        """Whether no scene can be found: a list is empty, or the area lies where there are no scenes."""
        return self.names == [] or self.tiles == [] or (self.area is not None and self.query is None)

    def holds(self, row: Mapping[str, Any], selection: Selection) -> bool:
        """Check a scene again: queries are simplified, and services may ignore a condition that they do not know."""
        return (
            (self.names is None or row["scene_id"] in self.names)
            and (self.tiles is None or row["tile_id"] in self.tiles)
            and any(interval.holds(row["time"]) for interval in selection.intervals)
            and _at_most(row.get("cloud_cover"), selection.max_cloud_cover)
            and _at_most(row.get("snow_cover"), selection.max_snow_cover)
            and (self.area is None or self.area.touches(row["geometry"]))
        )


def _at_most(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value <= limit)


def find_items(
    settings: CDSESettings,
    target: Target,
    selection: Selection,
    searches: Iterable[Mapping[str, Any]],
    read_row: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Find STAC items, each once, sorted by name and with its row of `scene_table`, which `read_row` makes of it.

    `searches` are the bodies that together find everything; none is made if nothing can be found.

    Raises:
        ServiceError: If the service refuses or fails, or an item cannot be read.
    """
    if target.is_nothing:
        return []
    found, url = {}, settings.stac_url.rstrip("/")
    with closing(make_stac_io(settings.limits)) as io:
        for search in searches:
            body = {"collections": [settings.collection], "limit": _PAGE_SIZE} | dict(search)
            for page in io.get_pages(f"{url}/search", "POST", body):
                for item, row in _read_page(page, url, read_row):
                    if target.holds(row, selection):
                        found[row["scene_id"]] = (item, row)
    return [found[name] for name in sorted(found)]


def _read_page(
    page: Mapping[str, Any], url: str, read_row: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Read all items of a page; only what happens here is a fault of the service, what is done with them is not."""
    try:
        return [(item, read_row(item)) for item in page["features"]]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DartsError):
            raise
        raise ServiceError(f"Searching {public_url(url)}: the answer is no page of items ({error!r}).") from error


def in_groups(names: list[str] | None) -> Iterator[list[str] | None]:
    """Yield so many names at once as a request takes; None where there is no list."""
    if names is None:
        yield None
        return
    for start in range(0, len(names), _NAMES_AT_ONCE):
        yield names[start : start + _NAMES_AT_ONCE]


def search_body(
    names: list[str] | None, query: Mapping[str, Any] | None, interval: Interval, conditions: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return the body of a search of a STAC API; `conditions` are in CQL2, and all of them hold."""
    body: dict[str, Any] = {}
    if interval.start is not None or interval.end is not None:
        body["datetime"] = interval.to_stac()
    if names is not None:
        body["ids"] = names
    if query is not None:
        body["intersects"] = query
    if conditions:
        condition = conditions[0] if len(conditions) == 1 else {"op": "and", "args": list(conditions)}
        body |= {"filter-lang": "cql2-json", "filter": condition}
    return body


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
        LookupError, TypeError, AttributeError, ValueError: If it is none.
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
    """Check that every scene that was asked for, as the source writes it, was found.

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
