"""Which scenes: names, tiles, dates, clouds and snow, checked before any service is asked."""

import calendar
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, TypedDict

from darts_acquisition.errors import SceneNameError
from darts_utils import ParameterError

Source = Literal["cdse", "gee"]

FIRST_YEAR = 2015
_CDSE_NAME = re.compile(r"S2[A-D]_MSIL2A_\d{8}T\d{6}_N\d{4}_R\d{3}_T\d{2}[A-Z]{3}_\d{8}T\d{6}")
_GEE_NAME = re.compile(r"\d{8}T\d{6}_\d{8}T\d{6}_T\d{2}[A-Z]{3}")
_TILE = re.compile(r"(?P<zone>\d{1,2})(?P<square>[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])")
_BASELINE = re.compile(r"N?(?:(\d{1,2})\.(\d{1,2})(?:\..*)?|(\d{2})(\d{2}))")
_OWN_MAJORS = range(1, 20)
"""First numbers of ESA's own processing baselines. Others mark runs of a toolbox, such as 99.99 of Sen2Cor."""
_EXAMPLES = {
    "cdse": "S2A_MSIL2A_20220217T183431_N0510_R027_T13VEK_20240516T022440",
    "gee": "20220217T183431_20220217T183428_T13VEK",
}
_PROVIDERS = {"cdse": "the Copernicus Data Space", "gee": "Earth Engine"}


def check_scene_id(scene_id: str, source: Source) -> str:
    """Return the name of a scene as the source writes it, without a ``.SAFE`` at its end.

    Raises:
        SceneNameError: If it is none, or that of the other source.
    """
    name = scene_id.strip().removesuffix(".SAFE") if source == "cdse" else scene_id.strip().rpartition("/")[2]
    patterns = {"cdse": _CDSE_NAME, "gee": _GEE_NAME}
    if patterns[source].fullmatch(name):
        return name
    other: Source = "gee" if source == "cdse" else "cdse"
    if patterns[other].fullmatch(name):
        found = f"is a scene of {_PROVIDERS[other]} (raw_data_source {other!r})"
    else:
        found = "is no name of a Sentinel-2 L2A scene"
    raise SceneNameError(f"{scene_id!r} {found}; expected one of {_PROVIDERS[source]}, such as {_EXAMPLES[source]}.")


def check_tile_id(tile_id: str) -> str:
    """Return the name of an MGRS tile in its plain form, for example "08WMA".

    Raises:
        ParameterError: If it is none. A leading "T" or "MGRS-" and small letters are accepted.

    Examples:
        >>> check_tile_id("T8wma")
        '08WMA'
    """
    name = tile_id.strip().upper().removeprefix("MGRS-").removeprefix("T")
    match = _TILE.fullmatch(name)
    if match is None or not 1 <= int(match["zone"]) <= 60:
        raise ParameterError(
            f"{tile_id!r} is no MGRS tile; expected a zone from 01 to 60 and three letters, never I or O, such as "
            "'33UVP'."
        )
    return f"{int(match['zone']):02}{match['square']}"


def tile_of_scene(scene_id: str) -> str:
    """Return the MGRS tile that a scene's name holds.

    Examples:
        >>> tile_of_scene("20220217T183431_20220217T183428_T13VEK")
        '13VEK'
    """
    return next(part[1:] for part in scene_id.split("_") if re.fullmatch(r"T\d{2}[A-Z]{3}", part))


def parse_baseline(text: str) -> tuple[int, int] | None:
    """Read a processing baseline as names ("N0500") and catalogues ("05.00") write it; None where it is none.

    Examples:
        >>> parse_baseline("N0511"), parse_baseline("05.11"), parse_baseline("5.11"), parse_baseline("")
        ((5, 11), (5, 11), (5, 11), None)
    """
    match = _BASELINE.fullmatch(text.strip())
    if match is None:
        return None
    major, minor = (number for number in match.groups() if number is not None)
    return int(major), int(minor)


def is_official(baseline: tuple[int, int]) -> bool:
    """Say whether a processing baseline is one of ESA's own, which have an order; a toolbox's 99.99 is none."""
    return baseline[0] in _OWN_MAJORS


def newest_baselines(scene_ids: Iterable[str]) -> list[str]:
    """Leave out scenes of the Copernicus Data Space of which there is a newer processing baseline, or not ESA's own.

    Scenes that share satellite, time, orbit and tile show the same ground at once. Where several of them have the
    newest baseline, they are parts of one overpass, and all stay. Products of toolbox runs (N9999) never stay: their
    number says nothing of when or how they were made. Names of Earth Engine do not say how a scene was processed; all
    of them stay.

    Examples:
        >>> newest_baselines(
        ...     [
        ...         "S2A_MSIL2A_20210822T205021_N0301_R057_T08WMA_20210822T231500",
        ...         "S2A_MSIL2A_20210822T205021_N0500_R057_T08WMA_20230201T081500",
        ...     ]
        ... )
        ['S2A_MSIL2A_20210822T205021_N0500_R057_T08WMA_20230201T081500']
    """
    scenes = {name: _overpass(name) for name in scene_ids}
    official = {name: scene for name, scene in scenes.items() if scene[1] is None or is_official(scene[1])}
    newest: dict[tuple[str, ...], tuple[int, int]] = {}
    for overpass, baseline in official.values():
        newest[overpass] = max(baseline or (0, 0), newest.get(overpass, (0, 0)))
    return [name for name, (overpass, baseline) in official.items() if newest[overpass] == (baseline or (0, 0))]


def _overpass(name: str) -> tuple[tuple[str, ...], tuple[int, int] | None]:
    """Return what tells which ground a scene shows and when, and its processing baseline."""
    if not _CDSE_NAME.fullmatch(name):
        return (name,), None
    satellite, _, time, baseline, orbit, tile, _ = name.split("_")
    return (satellite, time, orbit, tile), parse_baseline(baseline)


@dataclass(frozen=True)
class Interval:
    """A span of time, UTC; both ends belong to it.

    Attributes:
        start: First timestamp, None for no limit.
        end: Last timestamp, None for no limit.
    """

    start: datetime | None
    end: datetime | None

    def to_stac(self) -> str:
        """Return the interval as a STAC API reads it."""
        return f"{_text(self.start)}/{_text(self.end)}"

    def holds(self, timestamp: datetime) -> bool:
        """Say whether a timestamp belongs to the interval."""
        return (self.start is None or timestamp >= self.start) and (self.end is None or timestamp <= self.end)


def _text(timestamp: datetime | None) -> str:
    return ".." if timestamp is None else timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Selection:
    """What a search filters by.

    Attributes:
        intervals: Spans of time, a query each; one without limits where time does not matter.
        max_cloud_cover: Percent, None for any.
        max_snow_cover: Percent, None for any.
    """

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
    *,
    start_date: str | None = None,
    end_date: str | None = None,
    max_cloud_cover: float | None = None,
    max_snow_cover: float | None = None,
    months: Sequence[int] | None = None,
    years: Sequence[int] | None = None,
) -> Selection:
    """Check what a search filters by, see `search_cdse_s2_sr`. A date range goes before months and years.

    Raises:
        ParameterError: If a value cannot be, or the dates are reversed.
    """
    intervals: tuple[Interval, ...] = (Interval(None, None),)
    if start_date is not None or end_date is not None:
        intervals = (_date_range(start_date, end_date),)
    elif months is not None or years is not None:
        intervals = _calendar(months, years)
    return Selection(
        intervals, _percent("max_cloud_cover", max_cloud_cover), _percent("max_snow_cover", max_snow_cover)
    )


def _percent(name: str, value: float | None) -> float | None:
    if value is None or value == 100:
        return None
    if not 0 <= value <= 100:
        raise ParameterError(f"{name} is {value}; expected 0 to 100 percent, or None for any.")
    return value


def _date_range(start_date: str | None, end_date: str | None) -> Interval:
    start = _day("start_date", start_date, last=False)
    end = _day("end_date", end_date, last=True)
    if start is not None and end is not None and start > end:
        raise ParameterError(f"start_date is {start_date}, which lies after end_date, {end_date}; swap them.")
    first = None if start is None else datetime(start.year, start.month, start.day, tzinfo=UTC)
    last = None
    if end is not None:
        last = datetime(end.year, end.month, end.day, tzinfo=UTC) + timedelta(days=1) - timedelta(milliseconds=1)
    return Interval(first, last)


def _day(name: str, text: str | None, *, last: bool) -> date | None:
    if text is None:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d{2}", text):
            year, month = int(text[:4]), int(text[5:])
            return date(year, month, calendar.monthrange(year, month)[1] if last else 1)
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return date.fromisoformat(text)
    except ValueError:  # calendar's and date's for what does not exist
        pass
    raise ParameterError(f"{name} is {text!r}; expected a day that exists, as YYYY-MM-DD or YYYY-MM.")


def _calendar(months: Sequence[int] | None, years: Sequence[int] | None) -> tuple[Interval, ...]:
    today = datetime.now(UTC).date()
    for month in months or ():
        if not 1 <= month <= 12:
            raise ParameterError(f"months holds {month}; expected 1 to 12.")
    for year in years or ():
        if not FIRST_YEAR <= year <= today.year:
            raise ParameterError(f"years holds {year}; Sentinel-2 has images from {FIRST_YEAR} to {today.year}.")
    if (months is not None and not months) or (years is not None and not years):
        raise ParameterError("months or years is empty; name at least one, or leave the option out.")
    spans = [(1, 12)] if months is None else [(month, 1) for month in sorted(set(months))]
    chosen = sorted(set(years or range(FIRST_YEAR, today.year + 1)))
    return tuple(interval_of_months(year, *span) for year in chosen for span in spans)


def interval_of_months(year: int, first: int, count: int) -> Interval:
    """Return the span of some months of a year, of which `first` is the first, from 1 on."""
    after = first - 1 + count
    end = datetime(year + after // 12, after % 12 + 1, 1, tzinfo=UTC) - timedelta(milliseconds=1)
    return Interval(datetime(year, first, 1, tzinfo=UTC), end)


def unique(names: Iterable[str]) -> list[str]:
    """Return names in their order, each once."""
    return list(dict.fromkeys(names))
