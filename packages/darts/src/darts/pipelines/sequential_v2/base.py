"""What all pipelines have in common: the fields of a run, and what a source of images adds to them."""

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import darts.report
import darts.run
from darts.errors import ConfigurationError, NoTilesError
from darts.pipelines.configfile import write_config
from darts.pipelines.options import check_values, given, options_of, resolved
from darts.pipelines.sequential_v2.fields import MOST_REPORTED, PipelineFields
from darts.run.fingerprint import numbered
from darts.run.models import models_in
from darts.run.task import TileTask, nominal_patch_size
from darts.run.trends import default_place
from darts_utils import OPTICAL_BANDS, DartsError

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

logger = logging.getLogger(__name__)


@dataclass
class _BasePipeline(PipelineFields, ABC):
    """A pipeline is plain data, and a few methods that say where tiles come from.

    A source of one's own is a subclass with five methods; the page "Your own images" of the documentation shows one.
    It may be a dataclass, of the standard library or of pydantic, with fields of its own; those made with
    :func:`darts.pipelines.options.option` are checked and stand in the configuration file.

    Fields whose default is None are resolved when the pipeline is made; `dataclasses.replace` and a configuration that
    is written carry what was given.

    Raises:
        ValueError: If a value cannot be (a ``pydantic.ValidationError``), or two contradict each other (a
            :class:`darts.errors.ConfigurationError`).
        TypeError: If a hook is missing, or there is no field of a name.
    """

    def __new__(cls, *_args: object, **values: object) -> Self:
        unknown = values.keys() - cls.__dataclass_fields__.keys()
        if unknown:  # A dataclass of pydantic passes over it.
            raise TypeError(f"{cls.__name__} has no field {sorted(unknown)[0]!r}.")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            setattr(self, item.name, given(getattr(self, item.name)))
        check_values(self)
        patch_size = nominal_patch_size(self.patch_size)
        if 2 * self.overlap > patch_size:
            raise ConfigurationError(
                f"overlap is {self.overlap} px, but at most half of patch_size ({patch_size // 2} px) can work; "
                "reduce overlap or raise patch_size."
            )
        if self.tpi_inner_radius >= self.tpi_outer_radius:
            raise ConfigurationError(
                f"tpi_inner_radius is {self.tpi_inner_radius} m, but must be below "
                f"tpi_outer_radius ({self.tpi_outer_radius} m)."
            )
        self._resolve()

    def _resolve(self) -> None:
        """Give fields that are None the value that this stands for."""
        paths = self.default_dirs
        defaults = {
            "model_files": lambda: models_in(paths.models) or None,
            "output_data_dir": lambda: paths.results(self._results_folder()),
            "arcticdem_dir": lambda: str(paths.arcticdem(self._arcticdem_resolution())),
            "tcvis_dir": lambda: str(default_place(paths, self.trend)),
            "edge_erosion_size": lambda: self.mask_erosion_size,
        }
        for name, default in defaults.items():
            if getattr(self, name) is None:
                setattr(self, name, resolved(default()))

    def _results_folder(self) -> str:
        """Return the name of the folder of results below that of all results, where `output_data_dir` is None."""
        return type(self).__name__

    # The hooks: what a source of images has to say.

    @abstractmethod
    def _arcticdem_resolution(self) -> int:
        """Return the pixel size of the DEM in metres: 2, 10 or 32."""

    @abstractmethod
    def _get_tile_id(self, tilekey: Any) -> str:
        """Return the name of a tile."""

    @abstractmethod
    def _tileinfos(self) -> list[tuple[Any, Path]]:
        """List the tiles: what the pipeline knows each by (anything that can be pickled), and its folder of results."""

    @abstractmethod
    def _load_tile(self, tilekey: Any) -> "xr.Dataset":
        """Load a tile: `blue`, `green`, `red`, `nir` (float32 reflectance, NaN for no data) and `quality_data_mask`."""

    @abstractmethod
    def _tile_aoi(self) -> "gpd.GeoDataFrame":
        """Return the footprints of the tiles in any CRS, with their names in the column `tile_id`."""

    def _download_tile(self, tilekey: Any) -> None:  # noqa: ARG002 - there is nothing to fetch
        """Fetch the image of a tile ahead of time."""
        raise ConfigurationError(f"{type(self).__name__} fetches no images; leave --optical out.")

    def _tile_year(self, tilekey: Any) -> int | None:  # noqa: ARG002
        """Return the year in which an image was taken, None where only the loaded tile says it (attribute `time`)."""
        return None

    def _tile_inputs(self, tilekey: Any) -> Sequence[Path]:  # noqa: ARG002
        """List the files that a tile's results depend on, as far as they are there."""
        return ()

    # What the pipelines that come with DARTS know better.

    _optical_variables: ClassVar[tuple[str, ...]] = (*OPTICAL_BANDS, "quality_data_mask")

    def _named_models(self) -> list[Path] | None:
        """Return the models that were named; None where those of the default folder are meant."""
        return given(self.model_files)

    def _variables(self) -> tuple[str, ...]:
        """Name the variables that `_load_tile` returns and that can be exported."""
        return self._optical_variables

    _image_lists: ClassVar[tuple[str, ...]] = ()
    """Fields that name images one by one."""

    def _for_workers(self) -> Self:
        """Return it as a worker needs it: without lists of images, which may be long; tasks name them one by one."""
        given: dict[str, Any] = {name: None for name in self._image_lists if getattr(self, name) is not None}
        return dataclasses.replace(self, **given) if given else self

    def _where_tiles_were_sought(self) -> str:
        return "the selection is empty"

    def _how_to_prepare(self) -> str:
        """Say how auxiliary data are fetched ahead of time."""
        return f"{type(self).__name__}.prepare_data(aux=True)"

    def _check_ready(self, tasks: Sequence[TileTask]) -> None:
        """Find out before the first tile whether a login is missing that every tile would miss."""

    def _note_prepared(self, names: list[str]) -> None:
        """Write down which tiles an offline run can process."""

    def _broken_images(self, tasks: Sequence[TileTask]) -> dict[str, str]:  # noqa: ARG002
        """Name the tiles that cannot be loaded, as far as the heads of their files show, with the reason."""
        return {}

    def _images_to_fetch(self, tasks: Sequence[TileTask]) -> dict[str, int | None]:  # noqa: ARG002
        """Name the tiles whose image a run would download, with the bytes where they are known; ask no service."""
        return {}

    def _tile_areas(
        self,
        tasks: Sequence[TileTask],
        failed: dict[str, Exception],
        *,
        offline: bool = False,  # noqa: ARG002 - a folder of images knows where they lie
    ) -> "dict[str, GeoBox | Geometry]":
        """Return grid or footprint of each tile by name; add tiles whose place is not known to `failed`.

        With `offline`, no service is asked.
        """
        from odc.geo.geom import Geometry

        frame = self._tile_aoi()
        footprints = dict(zip(frame["tile_id"], frame.geometry, strict=True))
        unknown = [task.tile_id for task in tasks if task.tile_id not in footprints]
        failed |= {name: NoTilesError(f"The place of {name} is not known.") for name in unknown}
        return {
            task.tile_id: Geometry(footprints[task.tile_id], crs=frame.crs)
            for task in tasks
            if task.tile_id in footprints
        }

    # What is written down of a pipeline.

    def _results_configuration(self) -> dict[str, object]:
        deciding = [item.name for item in options_of(type(self)) if item.affects_results]
        return numbered({name: getattr(self, name) for name in deciding})

    def _write_configuration(self, path: Path, **decided: Any) -> None:
        """Write the configuration, with values that were decided while the run went on."""
        write_config(dataclasses.replace(self, **decided), path)

    # The run.

    def run(self) -> "darts.run.RunRecords":
        """Process every tile, and keep records.

        What can be validated is validated first. A tile whose finished results would come out the same is skipped. One
        that fails is recorded with its error, and the run goes on; where the network or the memory failed, the tile is
        tried once more at the end. Last, the report is written where `report` says so. How far it is, the standard
        error stream shows, where the program has set up no logging of its own.

        Returns:
            The records of the run, which also lie beside the results.

        Raises:
            ConfigurationError: If the run cannot work as configured. Nothing has been computed.
            DeviceError: If a GPU was asked for and does not work.
            RunInterrupted: If a signal ended the run (a KeyboardInterrupt); the records are complete, and what was
                finished stays.
        """
        with darts.run.heard():
            records = darts.run.run(self)
            self._report(records)
        return records

    def _report(self, records: "darts.run.RunRecords") -> None:
        """Write the report of a run that ended, where it is wanted; one that cannot be written changes nothing else."""
        if self.report is False or (self.report is None and records.planned > MOST_REPORTED):
            return
        if self.shard is not None:  # It has seen a part of the tiles only, and another shard may write just now.
            return
        try:
            index = darts.report.write_report(records.folder, run=records.name)
        except (OSError, DartsError) as error:
            logger.warning("The report of the run could not be written (%s).", error)
        else:
            logger.info("The report of the run: %s", index)

    def plan(self) -> "darts.run.Plan":
        """Say what `run` would do about each tile and why, and fetch, without computing or writing anything.

        Returns:
            One decision per tile, in the order of the run, and what the tiles lack that would be computed.

        Raises:
            ConfigurationError: As `run`.
        """
        return darts.run.plan(self)

    def prepare_data(
        self, optical: bool = False, aux: bool = False, *, arcticdem: bool | None = None, tcvis: bool | None = None
    ) -> list[str]:
        """Download what an offline run needs. No GPU and no network is used, of models only their cards are read.

        Args:
            optical: Fetch the raw scenes of the selection into the store.
            aux: Fill the cubes that the models and the export need, for the area of all tiles, margins included;
                without any model both.
            arcticdem: Fill the ArcticDEM cube, or do not, whatever the models need.
            tcvis: Fill the TCVIS cube, or do not, whatever the models need.

        Returns:
            Names of the scenes that could not be prepared; what can be done without them is done.

        Raises:
            ConfigurationError: If nothing is asked for, `offline` is set, this pipeline cannot fetch images, or there
                is no tile.
            ServiceError: If auxiliary data cannot be fetched; what was fetched stays.
            RunInterrupted: If a signal ended the downloads (a KeyboardInterrupt); what was fetched stays.
        """
        return list(self._prepare(optical=optical, aux=aux, arcticdem=arcticdem, tcvis=tcvis))

    def _prepare(self, *, optical: bool, aux: bool, arcticdem: bool | None, tcvis: bool | None) -> dict[str, Exception]:
        with darts.run.heard(), darts.run.warnings_once(), darts.run.raising_on_signals():
            return darts.run.prepare_run(self, optical=optical, aux=aux, arcticdem=arcticdem, tcvis=tcvis)

    @staticmethod
    def cli(*, pipeline: "_BasePipeline") -> None:
        """Do what the command does: run, and end with its exit code.

        Raises:
            SystemExit: With code 1 if a tile is not done, 75 if only services failed and trying later is right, 130 or
                143 if a signal ended the run.
        """
        try:
            code = darts.run.exit_code(pipeline.run())
        except darts.run.RunInterrupted as interrupted:
            raise SystemExit(interrupted.code) from None
        if code:
            raise SystemExit(code)

    @staticmethod
    def cli_prepare_data(
        *,
        pipeline: "_BasePipeline",
        optical: bool = False,
        aux: bool = False,
        arcticdem: bool | None = None,
        tcvis: bool | None = None,
    ) -> None:
        """Do what the command `prep-data` does: prepare, and end with its exit code.

        Args:
            pipeline: The pipeline whose run is prepared.
            optical: As for `prepare_data`.
            aux: As for `prepare_data`.
            arcticdem: As for `prepare_data`.
            tcvis: As for `prepare_data`.

        Raises:
            SystemExit: With code 1 if a scene could not be prepared, 75 if only services failed and trying later is
                right, 130 or 143 if a signal ended the downloads.
        """
        try:
            failed = pipeline._prepare(optical=optical, aux=aux, arcticdem=arcticdem, tcvis=tcvis)
        except darts.run.RunInterrupted as interrupted:
            raise SystemExit(interrupted.code) from None
        if code := darts.run.code_of_failures(failed.values()):
            raise SystemExit(code)
