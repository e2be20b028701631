"""What the searches of all sources share: what is looked for, and when; the table of what was found."""

import calendar
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
import pandas as pd
import shapely

from darts_acquisition.errors import SceneNotFoundError, ServiceError, public_url
from darts_acquisition.io.settings import CDSESettings
from darts_acquisition.io.stac import make_stac_io
from darts_acquisition.scenes.geometry import Area, cut_footprint
from darts_acquisition.scenes.names import check_tile_id
from darts_acquisition.scenes.raw import in_utc
from darts_utils import DartsError, ParameterError

if TYPE_CHECKING:
    import geopandas as gpd

Found: TypeAlias = tuple[dict[str, Any], dict[str, Any]]
"""A STAC item, and its row of `scene_table`."""
ReadRow: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]

_NAMES_AT_ONCE = 100
"""Names or tiles per request."""
_PAGE_SIZE = 200


FIRST_YEAR = 2015


@dataclass(frozen=True)
class Interval:
    """A span of time, UTC; both ends belong to it, None is no limit."""

    start: datetime | None
    end: datetime | None

    def to_stac(self) -> str | None:
        """Return the interval as a STAC API reads it; None without limits."""
        ends = [in_utc(end, "milliseconds") if end is not None else ".." for end in (self.start, self.end)]
        return None if ends == ["..", ".."] else "/".join(ends)

    def holds(self, timestamp: datetime) -> bool:
        """Say whether a timestamp belongs to the interval."""
        return (self.start is None or timestamp >= self.start) and (self.end is None or timestamp <= self.end)


@dataclass(frozen=True)
class Selection:
    """What a search filters by: spans of time, a query each, and percents of cover, None for any."""

    intervals: tuple[Interval, ...] = (Interval(None, None),)
    max_cloud_cover: float | None = None
    max_snow_cover: float | None = None


class Conditions(TypedDict, total=False):
    """What every search can be filtered by, see `make_selection`."""

    start_date: str | None
    end_date: str | None
    max_cloud_cover: float | None
    max_snow_cover: float | None
    months: Sequence[int] | None
    years: Sequence[int] | None


def make_selection(
    start_date: str | None = None,
    end_date: str | None = None,
    max_cloud_cover: float | None = None,
    max_snow_cover: float | None = None,
    months: Sequence[int] | None = None,
    years: Sequence[int] | None = None,
) -> Selection:
    """Check what a search filters by, see `search_cdse_s2_sr`. A date range goes before months and years.

    ParameterError if a value cannot be, or the dates are reversed.
    """
    intervals: tuple[Interval, ...] = (Interval(None, None),)
    if start_date is not None or end_date is not None:
        start, end = _midnight("start_date", start_date, last=False), _midnight("end_date", end_date, last=True)
        if start is not None and end is not None and start > end:
            raise ParameterError(f"start_date is {start_date}, which lies after end_date, {end_date}; swap them.")
        intervals = (Interval(start, end and end.replace(hour=23, minute=59, second=59, microsecond=999_000)),)
    elif months is not None or years is not None:
        intervals = _calendar(months, years)
    covers = _percent("max_cloud_cover", max_cloud_cover), _percent("max_snow_cover", max_snow_cover)
    return Selection(intervals, *covers)


def _percent(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not (isinstance(value, Real) and 0 <= float(value) <= 100):
        raise ParameterError(f"{name} is {value!r}; expected 0 to 100 percent, or None for any.")
    number = float(value)
    return None if number == 100 else number


def _midnight(name: str, text: object, *, last: bool) -> datetime | None:
    """Return when a day begins; of a month the first day, or the last one."""
    if text is None:
        return None
    day = text if isinstance(text, str) else ""
    try:
        if re.fullmatch(r"\d{4}-\d{2}", day):
            year, month = int(day[:4]), int(day[5:])
            return datetime(year, month, calendar.monthrange(year, month)[1] if last else 1, tzinfo=UTC)
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
            return datetime.fromisoformat(f"{day}T00:00Z")
    except ValueError:  # calendar's and date's for what does not exist
        pass
    raise ParameterError(f"{name} is {text!r}; expected a day that exists, as YYYY-MM-DD or YYYY-MM.")


def _calendar(months: Sequence[int] | None, years: Sequence[int] | None) -> tuple[Interval, ...]:
    today = datetime.now(UTC).date()
    known = whole_numbers("months", months, 1, 12)
    chosen = whole_numbers("years", years, FIRST_YEAR, today.year, "Sentinel-2 has images from")
    spans = [(1, 12)] if known is None else [(month, 1) for month in known]
    every = range(FIRST_YEAR, today.year + 1) if chosen is None else chosen
    return tuple(interval_of_months(year, *span) for year in every for span in spans)


def whole_numbers(name: str, given: object, first: int, last: int, problem: str = "expected") -> list[int] | None:
    """Return the numbers of a list, array or the like, each once, ascending; None for None.

    ParameterError if it holds none, something else than whole numbers, or one that is not from `first` to `last`.
    """
    if given is None:
        return None
    numbers: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    if not isinstance(given, Iterable) or not all(
        isinstance(each, Integral) and not isinstance(each, bool) for each in numbers
    ):
        raise ParameterError(f"{name} is {given!r}; expected a list of whole numbers, or None for any.")
    if not numbers:
        raise ParameterError(f"{name} is empty; name at least one, or leave the option out.")
    if wrong := [each for each in numbers if not first <= each <= last]:
        raise ParameterError(f"{name} holds {wrong[0]}; {problem} {first} to {last}.")
    return sorted({int(each) for each in numbers})


def interval_of_months(year: int, first: int, count: int) -> Interval:
    """Return the span of some months of a year, of which `first` is the first, from 1 on."""
    after = first - 1 + count
    end = datetime(year + after // 12, after % 12 + 1, 1, tzinfo=UTC) - timedelta(milliseconds=1)
    return Interval(datetime(year, first, 1, tzinfo=UTC), end)


@dataclass(frozen=True)
class Target:
    """What a search looks for; what is None does not matter, and all of the rest hold at once.

    Names are those that the source writes, tiles in their plain form, each once; `query` is the simple area, as
    GeoJSON, that services are asked for instead of the exact one.
    """

    names: list[str] | None
    tiles: list[str] | None
    area: Area | None
    query: Mapping[str, object] | None

    @classmethod
    def of(
        cls,
        check_name: Callable[[str], str],
        scene_ids: Sequence[str] | None = None,
        tile_ids: Sequence[str] | None = None,
        aoi: "gpd.GeoDataFrame | Area | None" = None,
        plural: str = "scenes",
    ) -> "Target":
        """Check what a caller looks for; `check_name` returns a name as the source writes it.

        ParameterError if a tile cannot be, or there is none of names, tiles and area; SceneNameError if a name is none
        of the source; AreaError if the area is empty or has no CRS.
        """
        if scene_ids is None and tile_ids is None and aoi is None:
            raise ParameterError(f"Nothing says which {plural}: give scene_ids, tile_ids or an area of interest.")
        for name, given in (("scene_ids", scene_ids), ("tile_ids", tile_ids)):
            if isinstance(given, str):
                raise ParameterError(f"{name} is {given!r}; expected a list, such as [{given!r}].")
        area = Area(aoi) if aoi is not None and not isinstance(aoi, Area) else aoi
        return cls(
            None if scene_ids is None else list(dict.fromkeys(map(check_name, scene_ids))),
            None if tile_ids is None else list(dict.fromkeys(map(check_tile_id, tile_ids))),
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
    read_row: ReadRow,
) -> list[Found]:
    """Find STAC items, each once, sorted by name and with its row of `scene_table`.

    `searches` are arguments of pystac-client's `ItemSearch` that together find everything; none is made if nothing can
    be found. `read_row` reads all but name and footprint of an item; ServiceError if it cannot, or the service fails.
    """
    from pystac_client import ItemSearch

    if target.is_nothing:
        return []
    found, url = {}, settings.stac_url.rstrip("/")
    with closing(make_stac_io(settings.limits)) as io:
        asked: dict[str, Any] = {"collections": [settings.collection], "limit": _PAGE_SIZE, "stac_io": io}
        for search in searches:
            for page in ItemSearch(f"{url}/search", **asked, **search).pages_as_dicts():
                for item, row in _read_page(page, url, read_row):
                    if target.holds(row, selection):
                        found[row["scene_id"]] = (item, row)
    return [found[name] for name in sorted(found)]


def _read_page(page: Mapping[str, Any], url: str, read_row: ReadRow) -> list[Found]:
    """Read all items of a page; only what happens here is a fault of the service, what is done with them is not."""
    try:
        return [(item, _row_of(item) | read_row(item)) for item in page["features"]]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DartsError):
            raise
        raise ServiceError(f"Searching {public_url(url)}: the answer is no page of items ({error!r}).") from error


def _row_of(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"scene_id": str(item["id"]), "geometry": read_footprint(item["geometry"])}


def in_groups(names: list[str] | None) -> Sequence[list[str] | None]:
    """Return so many names at once as a request takes; None where there is no list."""
    return [None] if names is None else [names[at : at + _NAMES_AT_ONCE] for at in range(0, len(names), _NAMES_AT_ONCE)]


def read_percent(value: object) -> float | None:
    """Return a cover that a service gave, in percent; None where it gave none; TypeError if it is no number."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"a cover is {value!r}, no number")
    return value


def read_footprint(footprint: Mapping[str, object]) -> Mapping[str, object]:
    """Return a footprint that a service gave as GeoJSON, having made sure that it is a geometry.

    LookupError, TypeError, AttributeError, ValueError if it is none.
    """
    try:
        shapely.geometry.shape(dict(footprint))
    except shapely.errors.ShapelyError as error:
        raise ValueError(f"a footprint is no geometry ({error})") from error
    return footprint


def scene_table(rows: Sequence[dict[str, Any]]) -> "gpd.GeoDataFrame":
    """Return scenes as a table, sorted by name, which is the index; geometry in EPSG:4326, cut at the antimeridian.

    Each row holds `scene_id`, `time` (datetime, UTC), `tile_id`, `cloud_cover`, `snow_cover`, `download_bytes`, and
    `geometry` as GeoJSON in degrees; numbers may be None.
    """
    import geopandas as gpd

    rows = sorted(rows, key=lambda row: row["scene_id"])
    columns: dict[str, object] = {
        "time": pd.to_datetime([row["time"] for row in rows], utc=True),
        "tile_id": [row["tile_id"] for row in rows],
    }
    for name in ("cloud_cover", "snow_cover", "download_bytes"):
        columns[name] = np.array([row.get(name) for row in rows], "float64")  # None is NaN then
    index = pd.Index([row["scene_id"] for row in rows], name="scene_id", dtype="object")
    geometry = [cut_footprint(row["geometry"]) for row in rows]
    return gpd.GeoDataFrame(columns, geometry=geometry, index=index, crs="EPSG:4326")


def check_all_found(scene_ids: Iterable[str], found: "gpd.GeoDataFrame") -> "gpd.GeoDataFrame":
    """Return what was found if all scenes that were asked for are among it; else SceneNotFoundError."""
    asked, known = list(scene_ids), set(found.index)
    if missing := [name for name in asked if name not in known]:
        raise SceneNotFoundError(
            f"{len(missing)} of {len(asked)} scenes are not in the catalogue: {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}. They may have been processed again and renamed; search by tile."
        )
    return found
