"""The pipelines for Sentinel-2: scenes of Copernicus Data Space or Earth Engine, and quarterly mosaics."""
# ruff: noqa: RUF009 - each call makes a field

import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator

import darts_acquisition
from darts.errors import ConfigurationError, IgnoredOptionWarning, NoTilesError
from darts.pipelines.options import AbsolutePath, Unresolved, option, resolved
from darts.pipelines.scene_lists import read_scene_list, write_scene_list
from darts.pipelines.sequential_v2.areas import areas_of, frame_of
from darts.pipelines.sequential_v2.base import _BasePipeline
from darts.pipelines.sequential_v2.fields import as_list
from darts.run.names import counted
from darts.run.task import TileTask
from darts_utils import OPTICAL_BANDS

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

logger = logging.getLogger(__name__)

_selection = partial(option, panel="Selection")
_NOT_OF_A_QUARTER = ("start_date", "end_date", "months", "max_cloud_cover", "max_snow_cover")


def _none_in_words(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def _day_in_words(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


def _percentage(value: Any) -> Any:
    if value is not None and not 0 <= value <= 100:
        raise ValueError("expected 0 to 100 percent, or none")
    return value


Percent = Annotated[float | Literal["none"] | None, AfterValidator(_percentage), BeforeValidator(_none_in_words)]
"""A limit in percent. "none" is what files and the command line write for None."""
Day = Annotated[str | None, BeforeValidator(_day_in_words)]
"""YYYY-MM-DD or YYYY-MM; TOML also writes days without quotes."""
Names = Annotated[list[str] | None, BeforeValidator(as_list)]
Numbers = Annotated[list[int] | None, BeforeValidator(as_list)]


@dataclass
class Sentinel2Pipeline(_BasePipeline):
    """Map slumps in Sentinel-2 scenes, which are searched, fetched into a local store and kept there.

    Results go to ``<output>/<scene_id>/``. With ``raw_data_source="cdse-mosaic"`` it is a `Sentinel2MosaicPipeline`.

    Examples:
        >>> pipeline = Sentinel2Pipeline(tile_ids=["08WMA"], months=[7, 8], years=[2021])
        >>> records = pipeline.run()  # doctest: +SKIP
    """

    scene_ids: Names = _selection(None, help="Scenes by name.")
    scene_id_file: AbsolutePath | None = _selection(None, help="File with names of scenes, JSON or one per line.")
    tile_ids: Names = _selection(None, help="MGRS tiles (33UVP), filtered by time, cloud and snow.")
    aoi_file: AbsolutePath | None = _selection(
        None, help="Vector file of the area of interest, filtered by time, cloud and snow."
    )
    start_date: Day = _selection(None, help="First day, YYYY-MM-DD or YYYY-MM.")
    end_date: Day = _selection(None, help="Last day, included, YYYY-MM-DD or YYYY-MM.")
    max_cloud_cover: Percent = _selection(
        10, help="Most cloud in percent; 100 or none switches the filter off, 0 means zero."
    )
    max_snow_cover: Percent = _selection(
        10, help="Most snow in percent; 100 or none switches the filter off, 0 means zero."
    )
    months: Numbers = _selection(None, help="Months from 1 to 12, where no date range is given.")
    years: Numbers = _selection(None, help="Years, where no date range is given.")
    quarters: Numbers = _selection(None, help="Quarters from 1 to 4, of mosaics (cdse-mosaic).")
    prep_data_scene_id_file: AbsolutePath | None = _selection(
        None, help="JSON list of scenes, written while data is prepared, read in an offline run."
    )
    sentinel2_grid_dir: AbsolutePath | None = option(
        None,
        help="Folder of ESA's grid of MGRS tiles, which tells a tile that does not exist; where given, the grid "
        "is fetched into it once (about 100 MB). Default <input>/sentinel2/grid, used where it is there.",
    )
    raw_data_store: Annotated[AbsolutePath | None, Unresolved] = option(
        None, help="Local store of raw scenes; default <input>/sentinel2/<raw_data_source>-scenes."
    )
    no_raw_data_store: bool = option(False, help="Keep raw scenes in memory only.")
    raw_data_source: Literal["cdse", "cdse-mosaic", "gee"] = option(
        "cdse",
        help="Where scenes come from: cdse (Copernicus Data Space), cdse-mosaic (its quarterly mosaics) or gee (Google "
        "Earth Engine).",
        affects_results=True,
    )

    _image_lists: ClassVar[tuple[str, ...]] = ("scene_ids", "scene_id_file")
    _optical_variables: ClassVar[tuple[str, ...]] = (*OPTICAL_BANDS, "quality_data_mask", "s2_scl")

    def __new__(cls, *args: object, **values: object) -> Self:
        """Hand over to the pipeline for mosaics where these are asked for."""
        of_mosaics = cls is Sentinel2Pipeline and values.get("raw_data_source") == "cdse-mosaic"
        chosen: Any = Sentinel2MosaicPipeline if of_mosaics else cls
        made: Self = super().__new__(chosen, *args, **values)
        return made

    def _resolve(self) -> None:
        super()._resolve()
        self._check_conditions()
        self._found_bytes: dict[str, int] = {}
        """What the last search said of how much there is to download of a scene; no part of the configuration."""
        if self.no_raw_data_store:
            self.raw_data_store = None
        elif self.raw_data_store is None:
            self.raw_data_store = resolved(self.default_dirs.sentinel2_raw(self.raw_data_source))

    def _check_conditions(self) -> None:
        if self.raw_data_source == "cdse-mosaic":
            raise ConfigurationError(
                f"{type(self).__name__} maps scenes; derive it from Sentinel2MosaicPipeline instead."
            )
        if self.quarters is not None:
            raise ConfigurationError(
                "quarters are those of mosaics (raw_data_source 'cdse-mosaic'); for scenes give months or dates."
            )

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_found_bytes": {}}  # A process that computes tiles does not ask for it.

    def _results_folder(self) -> str:
        return f"sentinel2-{self.raw_data_source}"

    def _arcticdem_resolution(self) -> int:
        return 10

    def _get_tile_id(self, tilekey: str) -> str:
        return tilekey

    def _tileinfos(self) -> list[tuple[str, Path]]:
        if self.offline and self.raw_data_store is None:
            raise ConfigurationError("--offline needs a store of raw scenes; leave --no-raw-data-store out.")
        source, output = self._source(), Path(self.output_data_dir or "")
        names = dict.fromkeys(source.check_scene_id(name) for name in self._select_scenes())
        return [(name, output / name) for name in names]

    def _load_tile(self, tilekey: str) -> "xr.Dataset":
        source, store = self._source(), self.raw_data_store
        if not self.debug_data:
            return source.load(tilekey, store, offline=self.offline)
        with tempfile.TemporaryDirectory(prefix="darts-s2-") as folder:
            kept = store or Path(folder)
            tile = source.load(tilekey, kept, offline=self.offline)
            source.write_raw(tilekey, kept, Path(self.output_data_dir or "") / "raw" / tilekey)
        return tile

    def _tile_aoi(self) -> "gpd.GeoDataFrame":
        tasks = [TileTask(key, key, folder) for key, folder in self._tileinfos()]
        return frame_of(self._tile_areas(tasks, {}))

    def _download_tile(self, tilekey: str) -> None:
        if self.raw_data_store is None:
            raise ConfigurationError("Preparing scenes needs a store of raw scenes; leave --no-raw-data-store out.")
        self._source().download(tilekey, self.raw_data_store)

    def _tile_year(self, tilekey: str) -> int | None:
        return self._source().year(tilekey)

    def _tile_inputs(self, tilekey: str) -> list[Path]:
        return [] if self.raw_data_store is None else self._source().stored_files(tilekey, self.raw_data_store)

    def _source(self) -> Any:
        """Return what searches, fetches and loads: a `Sentinel2Source`, or what is used like one."""
        name: Any = self.raw_data_source
        return darts_acquisition.Sentinel2Source(
            name, ee_project=self.ee_project, ee_use_highvolume=self.ee_use_highvolume
        )

    def _where_tiles_were_sought(self) -> str:
        if self.scene_ids is None and self.scene_id_file is not None:
            return f"{self.scene_id_file} names no scene"
        return self._how_to_widen()

    def _how_to_widen(self) -> str:
        return "no scene fits the selection; widen the dates, or raise --max-cloud-cover and --max-snow-cover"

    def _how_to_prepare(self) -> str:
        return "darts inference prep-data sentinel2 --optical --aux"

    def _check_ready(self, tasks: Sequence[TileTask]) -> None:
        if not self.offline and any(not self._is_stored(task) for task in tasks):
            self._source().check_login()

    def _is_stored(self, task: TileTask) -> bool:
        return self.raw_data_store is not None and self._source().is_stored(task.key, self.raw_data_store)

    def _images_to_fetch(self, tasks: Sequence[TileTask]) -> dict[str, int | None]:
        return {task.tile_id: self._found_bytes.get(task.key) for task in tasks if not self._is_stored(task)}

    def _tile_areas(
        self, tasks: Sequence[TileTask], failed: dict[str, Exception], *, offline: bool = False
    ) -> "dict[str, GeoBox | Geometry]":
        source, store = self._source(), self.raw_data_store
        return areas_of(tasks, failed, lambda key: source.geobox(key, store, offline=offline))

    def _note_prepared(self, names: list[str]) -> None:
        if names and self.prep_data_scene_id_file is not None:
            write_scene_list(self.prep_data_scene_id_file, names)

    # Which scenes

    def _select_scenes(self) -> list[str]:
        """Name the scenes of the run; ask the service only where tiles or an area are given."""
        prepared = self.prep_data_scene_id_file
        if self.offline and prepared is not None and prepared.exists():
            return read_scene_list(prepared, "--prep-data-scene-id-file")
        given = [name for name in ("scene_ids", "scene_id_file", "tile_ids", "aoi_file") if getattr(self, name)]
        if not given and prepared is not None and not prepared.exists():
            raise NoTilesError(
                f"There is no {prepared} (--prep-data-scene-id-file), and nothing else says which scenes to process; "
                "`darts inference prep-data sentinel2 --optical` writes it."
            )
        if not given:
            raise NoTilesError(
                "Nothing says which scenes to process; use --scene-ids, --scene-id-file, --tile-ids or --aoi-file."
            )
        if len(given) > 1:
            _warn(f"{given[0]} says which scenes to process; {', '.join(given[1:])} is ignored.")
        if self.scene_ids:
            return self.scene_ids
        if self.scene_id_file:
            return read_scene_list(self.scene_id_file, "--scene-id-file")
        if self.offline:
            where = self.prep_data_scene_id_file or "a file that --prep-data-scene-id-file names"
            raise ConfigurationError(
                f"--{given[0].replace('_', '-')} needs a search, which no offline run can make, and there is no list "
                f"of prepared scenes ({where}). Prepare it online with `darts inference prep-data sentinel2 --optical "
                "--aux --prep-data-scene-id-file FILE` and the same selection."
            )
        return self._search()

    def _search(self) -> list[str]:
        """Search the scenes of tiles or of an area."""
        target: dict[str, Any] = {}
        if self.tile_ids:
            if self.sentinel2_grid_dir is not None:
                darts_acquisition.download_sentinel_2_grid(self.sentinel2_grid_dir)
            grid = self.sentinel2_grid_dir or self.default_dirs.sentinel2_grid
            darts_acquisition.check_tiles_exist(self.tile_ids, grid)
            target["tile_ids"] = self.tile_ids
        elif self.aoi_file is not None:
            target["aoi"] = darts_acquisition.Area.read(self.aoi_file)
        source = self._source()
        found = source.search(**target, **self._conditions())
        newest = source.newest(found.index)
        self._found_bytes = {name: int(size) for name, size in found["download_bytes"].dropna().items()}
        logger.info("%s in the selection.", counted(len(newest), "scene"))
        if left_out := len(found) - len(newest):
            logger.info("%d more are left out, processed again since or not by ESA itself (N9999).", left_out)
        return newest

    def _conditions(self) -> dict[str, object]:
        """Return what a search filters by."""
        dates = self.start_date is not None or self.end_date is not None
        if dates and (self.months or self.years):
            _warn("start_date and end_date say which scenes to process; months and years are ignored.")
        chosen = ("start_date", "end_date", "max_cloud_cover", "max_snow_cover", "months", "years")
        return {name: None if dates and name in ("months", "years") else getattr(self, name) for name in chosen}


@dataclass
class Sentinel2MosaicPipeline(Sentinel2Pipeline):
    """Map slumps in quarterly mosaics; ``Sentinel2Pipeline(raw_data_source="cdse-mosaic")`` makes one.

    Examples:
        >>> pipeline = Sentinel2MosaicPipeline(tile_ids=["08WMA"], quarters=[3], years=[2023])
        >>> records = pipeline.run()  # doctest: +SKIP
    """

    max_cloud_cover: Percent = option(None, help="Does not apply to mosaics.")
    max_snow_cover: Percent = option(None, help="Does not apply to mosaics.")
    raw_data_source: Literal["cdse-mosaic"] = option(
        "cdse-mosaic", help="Where mosaics come from.", affects_results=True
    )

    _optical_variables = _BasePipeline._optical_variables

    def _check_conditions(self) -> None:
        wrong = [name for name in _NOT_OF_A_QUARTER if getattr(self, name) is not None]
        if wrong:
            raise ConfigurationError(
                f"{' and '.join(wrong)} cannot be used with quarterly mosaics (raw_data_source 'cdse-mosaic'), which "
                "show a whole quarter; leave it out, and choose by quarters and years."
            )

    def _conditions(self) -> dict[str, object]:
        return {"quarters": self.quarters, "years": self.years}

    def _load_tile(self, tilekey: str) -> "xr.Dataset":
        return self._source().load(tilekey, self.raw_data_store, offline=self.offline)

    def _source(self) -> "darts_acquisition.CDSEMosaicSource":
        return darts_acquisition.CDSEMosaicSource()

    def _how_to_widen(self) -> str:
        return "no mosaic fits the selection; name other quarters or years"


def _warn(message: str) -> None:
    warnings.warn(message, IgnoredOptionWarning, stacklevel=4)
