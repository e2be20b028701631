"""Which trend of TCVIS a tile reads, and in which datacube it lies."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import darts_acquisition
from darts.errors import ConfigurationError
from darts_utils import DefaultPaths, ParameterError, tctrend_name, time_of, to_utc

if TYPE_CHECKING:
    import xarray as xr

    from darts.run.task import Pipeline, TileTask

BY_YEAR = "by-year"
"""What `trend` is where each tile reads the trend that suits the year of its image."""


@dataclass(frozen=True)
class TrendCubes:
    """The TCVIS datacubes of a run.

    Attributes:
        trend: What was asked for: a period, or "by-year".
        cubes: Folder or address of the datacube of each trend that a tile of the run can read.
    """

    trend: str
    cubes: Mapping[str, str]

    @classmethod
    def of(cls, pipeline: "Pipeline") -> "TrendCubes":
        """Find the datacubes of a pipeline: `tcvis_dir` is one, or a folder in which they are named by trend.

        Raises:
            ConfigurationError: If each tile has a trend of its own, and there is one datacube.
        """
        uri = str(pipeline.tcvis_dir)
        if pipeline.trend != BY_YEAR:
            named = _within(uri, pipeline.trend)
            return cls(pipeline.trend, {pipeline.trend: named if _is_cube(named) and not _is_cube(uri) else uri})
        if _is_cube(uri):
            names = ", ".join(tctrend_name(last_year(trend)) for trend in darts_acquisition.TRENDS)
            raise ConfigurationError(
                f"{uri} is one datacube, and trend is {BY_YEAR!r}; expected a folder in which datacubes are named "
                f"{names}. Correct --tcvis-dir or --trend."
            )
        paths = pipeline.default_dirs
        if uri == str(paths.auxiliary):  # where a cube may have the name of an earlier release
            return cls(BY_YEAR, {trend: str(paths.tctrend(last_year(trend))) for trend in darts_acquisition.TRENDS})
        return cls(BY_YEAR, {trend: _within(uri, trend) for trend in darts_acquisition.TRENDS})

    def of_year(self, year: int | None) -> tuple[str, ...]:
        """Return the trends that a tile of a year may read: one, or all where nothing says of which year it is."""
        if self.trend != BY_YEAR:
            return (self.trend,)
        return tuple(self.cubes) if year is None else (darts_acquisition.tcvis_trend_of_year(year),)

    def needed(self, pipeline: "Pipeline", tasks: "Iterable[TileTask]") -> dict[str, list["TileTask"]]:
        """Return the tasks that may read each trend, for the trends that are read at all."""
        if self.trend != BY_YEAR:
            return {self.trend: list(tasks)}
        found: dict[str, list[TileTask]] = {}
        for task in tasks:
            for trend in self.of_year(pipeline._tile_year(task.key)):
                found.setdefault(trend, []).append(task)
        return {trend: found[trend] for trend in self.cubes if trend in found}


def trend_of_tile(cubes: TrendCubes, year: int | None, tile: "xr.Dataset") -> str:
    """Return the trend that a loaded tile reads.

    Args:
        cubes: The datacubes of the run.
        year: Year of the image, where the pipeline knows it; else the `time` of the tile says it.
        tile: The tile.

    Raises:
        ParameterError: If each tile has a trend of its own, and nothing says when the image was taken.
    """
    if year is None:
        year = year_of(time_of(tile))
    if year is None and cubes.trend == BY_YEAR:
        raise ParameterError(
            f"trend is {BY_YEAR!r}, and nothing says when the image was taken; expected the attribute 'time' of the "
            "tile, ISO 8601."
        )
    return cubes.of_year(year)[0]


def year_of(time: object) -> int | None:
    """Return the year in UTC of the time of a tile, None where nothing readable says it."""
    with suppress(ParameterError):
        time_utc = to_utc(time)
        return None if time_utc is None else time_utc.year
    return None


def default_place(paths: DefaultPaths, trend: str) -> Path:
    """Return the folder of the TCVIS datacube, or that of all of them where each tile has a trend of its own."""
    return paths.auxiliary if trend == BY_YEAR else paths.tctrend(last_year(trend))


def last_year(trend: str) -> int:
    """Return the last year of a period."""
    return int(trend[-4:])


def _within(uri: str, trend: str) -> str:
    name = tctrend_name(last_year(trend))
    return f"{uri.rstrip('/')}/{name}" if "://" in uri else str(Path(uri) / name)


def _is_cube(uri: str) -> bool:
    """Tell whether there is a datacube, or what may be one, at a place."""
    if "://" not in uri:
        return (Path(uri) / "refs").is_dir()
    try:
        darts_acquisition.Datacube.open(uri)
    except darts_acquisition.CubeNotFoundError:
        return False
    except darts_acquisition.CubeError:
        pass
    return True
