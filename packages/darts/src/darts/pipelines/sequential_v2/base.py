"""The loop over tiles, written once for every source of images."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict, field_validator, model_validator
from pydantic.dataclasses import dataclass

from darts.errors import NoTilesError
from darts.pipelines import checks
from darts.pipelines.configfile import config_values, write_config
from darts.pipelines.options import AbsolutePath, CubePlace, option
from darts.run.cancel import RunInterrupted, raising_on_signals
from darts.run.executors import overlap_executor, serial_executor
from darts.run.fingerprint import results_configuration, versions
from darts.run.loop import run_tiles
from darts.run.prepare import prepare_run
from darts.run.progress import warnings_once
from darts.run.records import RunRecords
from darts.run.resume import Decision, decide
from darts.run.task import TileJob
from darts.run.worker import Session, TileStages, dem_margin_px
from darts_utils import DefaultPaths, resolve_device

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

    from darts_acquisition import CubeProduct

logger = logging.getLogger(__name__)

_FEATURES = ("ndvi", *checks.TCVIS_BANDS, *checks.DEM_BANDS)
DEFAULT_EXPORT_BANDS = ("probabilities", "binarized", "polygonized", "extent", "thumbnail")


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class _BasePipeline:
    """What both pipelines have in common: the fields of a run, and the run itself.

    Configuration mistakes that show without looking at any file raise a ``pydantic.ValidationError`` (a ValueError)
    when the pipeline is made; all others raise a :class:`darts.errors.ConfigurationError` at the start of `run`.
    """

    model_files: list[AbsolutePath] | None = option(
        None,
        help="Models of the ensemble, files or folders; default every model in the models folder.",
        panel="Model",
    )
    default_dirs: DefaultPaths = field(default_factory=DefaultPaths)
    output_data_dir: AbsolutePath | None = option(None, help="Folder of the results.", panel="Input and output")
    arcticdem_dir: CubePlace | None = option(
        None,
        help="ArcticDEM datacube, a folder or s3://bucket/prefix; default by the resolution that the pipeline uses.",
        panel="Auxiliary data",
    )
    tcvis_dir: CubePlace | None = option(
        None, help="TCVIS datacube, a folder or s3://bucket/prefix.", panel="Auxiliary data"
    )
    ee_project: str | None = option(
        None, help="Earth Engine project; default that of the login.", panel="Auxiliary data"
    )
    ee_use_highvolume: bool = option(True, help="Use Earth Engine's high-volume endpoint.", panel="Auxiliary data")
    device: str | int | None = option(
        None,
        help='"cuda", "cpu", a GPU\'s index, or "auto" for a GPU with less than half of its memory in use; '
        "default a GPU where one works.",
        panel="Run",
    )
    tpi_outer_radius: int = option(
        100,
        help="Outer radius of the topographic position index, metres.",
        panel="Features",
        gt=0,
        affects_results=True,
    )
    tpi_inner_radius: int = option(
        0,
        help="Inner radius of the topographic position index, metres; above 0 it makes a ring.",
        panel="Features",
        ge=0,
        affects_results=True,
    )
    patch_size: int = option(1024, help="Edge of a patch, pixels.", panel="Model", gt=0, affects_results=True)
    overlap: int = option(256, help="Overlap of patches, pixels.", panel="Model", ge=0, affects_results=True)
    batch_size: int = option(8, help="Patches that the network sees at once.", panel="Model", gt=0)
    reflection: int = option(
        0, help="Reflected border around the tile, pixels.", panel="Model", ge=0, affects_results=True
    )
    precision: Literal["fp32", "bf16", "fp16", "auto"] = option(
        "fp32",
        help="Number format of the network: fp32 gives the same map on every machine; auto takes the fastest that the "
        "device does well.",
        panel="Model",
        affects_results=True,
    )
    tta: Literal["d4"] | None = option(
        None,
        help='"d4" averages over all flips and quarter turns of each patch, at eight times the cost; default off.',
        panel="Model",
        affects_results=True,
    )
    binarization_threshold: float = option(
        0.5, help="A pixel above this probability is slump.", panel="Objects", ge=0, le=1, affects_results=True
    )
    mask_erosion_size: int = option(
        10,
        help="Radius of the disk that erodes the valid area, pixels.",
        panel="Objects",
        ge=0,
        affects_results=True,
    )
    edge_erosion_size: int | None = option(
        None,
        help="Border that is cut off the tile, pixels; default as mask_erosion_size, 0 for none.",
        panel="Objects",
        ge=0,
        affects_results=True,
    )
    min_object_size: int = option(
        32, help="Objects with fewer pixels are dropped.", panel="Objects", ge=0, affects_results=True
    )
    edge_objects: Literal["clip", "remove"] = option(
        "clip",
        help="Objects that reach into the invalid area are cut at its border (clip) or dropped whole (remove).",
        panel="Objects",
        affects_results=True,
    )
    quality_level: Literal[0, 1, 2, "none", "low_quality", "high_quality"] = option(
        1,
        help="Lowest data quality that counts: 0 none, 1 low_quality, 2 high_quality.",
        panel="Objects",
        affects_results=True,
    )
    export_bands: list[str] = option(
        factory=lambda: list(DEFAULT_EXPORT_BANDS),
        help="What is written: probabilities, binarized, polygonized, extent, thumbnail, optical, dem, tcvis, "
        "metadata, or the name of any variable.",
        panel="Input and output",
    )
    write_model_outputs: bool = option(
        False, help="Also write the results of each member of the ensemble.", panel="Input and output"
    )
    overwrite: bool = option(False, help="Compute finished tiles again.", panel="Run")
    offline: bool = option(False, help="Never touch the network.", panel="Run")
    debug_data: bool = option(False, help="Also write the whole tile as NetCDF.", panel="Input and output")
    fail_fast: bool = option(False, help="Stop at the first tile that fails.", panel="Run")
    max_failures: int | None = option(
        None, help="Stop after this many tiles have failed; default never.", panel="Run", gt=0
    )

    executor: Literal["overlap", "serial"] = option(
        "overlap",
        help="Load the next tiles and write the last ones while the network is busy (overlap), or one tile after the "
        "other (serial); the results are the same.",
        panel="Run",
    )
    prefetch: int = option(1, help="Tiles that may wait before the network, and as many behind it.", panel="Run", ge=0)

    _dem_resolution: ClassVar[int]
    _prepared_by: ClassVar[str]

    @field_validator("model_files", mode="before")
    @classmethod
    def _one_model_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value

    @field_validator("quality_level", mode="before")
    @classmethod
    def _quality_as_number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("device")
    @classmethod
    def _device_has_a_known_form(cls, value: str | int | None) -> str | int | None:
        number = isinstance(value, str) and value.isdecimal()
        chosen = int(value) if number and value is not None else value
        if chosen not in ("cuda", "cpu", "auto", None) and not isinstance(chosen, int):
            raise ValueError("expected 'cuda', 'cpu', 'auto' or the index of a GPU")
        return chosen

    @model_validator(mode="after")
    def _sizes_make_sense(self) -> "_BasePipeline":
        if 2 * self.overlap > self.patch_size:
            raise ValueError(
                f"overlap is {self.overlap} px, but at most half of patch_size ({self.patch_size // 2} px) can work; "
                "reduce overlap or raise patch_size"
            )
        if self.tpi_inner_radius >= self.tpi_outer_radius:
            raise ValueError(
                f"tpi_inner_radius is {self.tpi_inner_radius} m, but must be below "
                f"tpi_outer_radius ({self.tpi_outer_radius} m)"
            )
        return self

    # What differs by source.

    @abstractmethod
    def _output_dir(self) -> Path:
        """Return the folder of the results."""

    @abstractmethod
    def _jobs(self, output: Path) -> list[TileJob]:
        """List the tiles to process."""

    @abstractmethod
    def _tile_areas(self, jobs: Sequence[TileJob], failed: list[str]) -> "dict[str, GeoBox | Geometry]":
        """Return grid or footprint of each tile by name; add the names of tiles that cannot be read to `failed`."""

    @abstractmethod
    def _prepare_optical(self, jobs: Sequence[TileJob]) -> list[str]:
        """Fetch the raw images of the tiles, and name those that failed."""

    def _note_prepared(self, names: list[str]) -> None:
        """Write down which tiles an offline run can process."""

    def _check_login(self, jobs: Sequence[TileJob], session: Session) -> None:
        """Find out before the first tile whether a login is missing that every tile would miss."""

    @abstractmethod
    def _load_optical(self, job: TileJob) -> "xr.Dataset":
        """Load the optical data of a tile with its quality mask."""

    # The run.

    def run(self) -> RunRecords:
        """Process every tile, and keep records.

        What can be validated is validated first. A tile whose finished results depend on the same inputs,
        configuration, models and versions is skipped. One that fails is recorded with its error, and the run goes on;
        where the network or the memory failed, the tile is tried again at the end.

        Returns:
            The records of the run, which also lie beside the results.

        Raises:
            ConfigurationError: If the run cannot work as configured. Nothing has been computed.
            DeviceError: If a GPU was asked for and does not work.
            RunInterrupted: If a signal ended the run (a KeyboardInterrupt); the records are complete, and what was
                finished stays.
        """
        with warnings_once():
            jobs, session = self._prepare()
            self._check_login(jobs, session)
            output = self._output_dir()
            checks.check_folder_is_writable(output)
            return run_tiles(
                plan=lambda: self._decide(jobs, session),
                stages=TileStages(self, session).list(),
                executor=overlap_executor(self.prefetch) if self.executor == "overlap" else serial_executor(),
                output=output,
                write_configuration=lambda path: write_config(self, path),
                failures_allowed=0 if self.fail_fast else self.max_failures,
            )

    def prepare_data(self, optical: bool = False, aux: bool = False) -> list[str]:
        """Download what an offline run needs. No GPU and no model is used.

        Args:
            optical: Fetch the raw scenes of the selection into the store.
            aux: Fill the ArcticDEM and the TCVIS cube for the area of all tiles, margins included.

        Returns:
            Names of the scenes that could not be prepared; what can be done without them is done.

        Raises:
            ConfigurationError: If neither is asked for, `offline` is set, this pipeline cannot fetch images, or there
                is no tile.
            ServiceError: If auxiliary data cannot be fetched; what was fetched stays.
            RunInterrupted: If a signal ended the downloads (a KeyboardInterrupt); what was fetched stays.
        """
        with warnings_once(), raising_on_signals():
            margin_px = dem_margin_px(self.tpi_outer_radius, self._dem_resolution)
            return prepare_run(self, optical=optical, aux=aux, margin_px=margin_px)

    @staticmethod
    def cli_prepare_data(*, pipeline: "_BasePipeline", optical: bool = False, aux: bool = False) -> None:
        """Do what the command `prep-data` does: prepare, and end with its exit code.

        Args:
            pipeline: The pipeline whose run is prepared.
            optical: As for `prepare_data`.
            aux: As for `prepare_data`.

        Raises:
            SystemExit: With code 1 if a scene could not be prepared, 130 or 143 if a signal ended the downloads.
        """
        try:
            failed = pipeline.prepare_data(optical=optical, aux=aux)
        except RunInterrupted as interrupted:
            raise SystemExit(interrupted.code) from None
        if failed:
            raise SystemExit(1)

    def plan(self) -> list[Decision]:
        """Say what `run` would do about each tile and why, without computing or writing anything.

        Returns:
            One decision per tile, in the order of the run.

        Raises:
            ConfigurationError: As `run`.
        """
        with warnings_once():
            return self._decide(*self._prepare())

    def _prepare(self) -> tuple[list[TileJob], Session]:
        """Validate what can be validated, and load the ensemble."""
        from darts_export import check_export_bands

        check_export_bands(self.export_bands, variables=self._tile_variables())
        jobs = self._jobs(self._output_dir())
        if not jobs:
            raise NoTilesError(f"There is no tile to process: {self._where_tiles_were_sought()}.")
        session = self._start_session()
        count = "1 tile" if len(jobs) == 1 else f"{len(jobs)} tiles"
        logger.info("%s, models %s, on %s.", count, ", ".join(session.models), session.device)
        return jobs, session

    def _decide(self, jobs: list[TileJob], session: Session) -> list[Decision]:
        shared = {
            "configuration": results_configuration(self),
            "models": session.model_hashes,
            "versions": session.versions,
        }
        return [decide(job, shared, self.export_bands, session.subsets, self.overwrite) for job in jobs]

    @staticmethod
    def cli(*, pipeline: "_BasePipeline") -> None:
        """Do what the command does: run, and end with its exit code.

        Args:
            pipeline: The pipeline to run.

        Raises:
            SystemExit: With code 1 if a tile failed, 130 or 143 if a signal ended the run.
        """
        try:
            records = pipeline.run()
        except RunInterrupted as interrupted:
            raise SystemExit(interrupted.code) from None
        if records.count("failed"):
            raise SystemExit(1)

    def _tile_variables(self) -> tuple[str, ...]:
        """Name the variables that a tile of this pipeline can have when it is exported."""
        return (
            *self._optical_variables,
            *_FEATURES,
            *("probabilities", "extent", "binarized_segmentation"),
        )

    _optical_variables: ClassVar[tuple[str, ...]] = (*checks.OPTICAL_BANDS, "quality_data_mask")

    def _where_tiles_were_sought(self) -> str:
        return "the selection is empty"

    def _start_session(self) -> Session:
        """Load the ensemble and find out what it needs."""
        from darts_acquisition import arcticdem_product, tcvis_product
        from darts_segmentation import EnsembleV1, hash_model

        models = checks.find_models(self.model_files, self.default_dirs.models)
        device = resolve_device(self.device)
        ensemble = EnsembleV1(models, str(device))
        checks.check_bands(ensemble.required_bands, (*checks.OPTICAL_BANDS, *_FEATURES), "The ensemble")
        wanted = {*ensemble.required_bands, *self._bands_of_export()}
        arcticdem_dir = tcvis_dir = None
        if wanted & set(checks.DEM_BANDS):
            arcticdem_dir = self._arcticdem_path()
            self._check_cube(arcticdem_dir, arcticdem_product(self._dem_resolution), "--arcticdem-dir")
        if wanted & set(checks.TCVIS_BANDS):
            tcvis_dir = self._tcvis_path()
            self._check_cube(tcvis_dir, tcvis_product(), "--tcvis-dir")
        return Session(
            device=device,
            ensemble=ensemble,
            models=models,
            model_hashes={name: hash_model(path) for name, path in models.items()},
            features=tuple(name for name in _FEATURES if name in wanted),
            subsets=tuple(models) if self.write_model_outputs and len(models) > 1 else (),
            arcticdem_dir=arcticdem_dir,
            tcvis_dir=tcvis_dir,
            configuration=config_values(self),
            versions=versions(),
        )

    def _check_cube(self, place: str, product: "CubeProduct", option_name: str) -> None:
        checks.check_cube(place, product, option_name, offline=self.offline, prepared_by=self._prepared_by)

    def _arcticdem_path(self) -> str:
        return str(self.arcticdem_dir or self.default_dirs.arcticdem(self._dem_resolution))

    def _tcvis_path(self) -> str:
        return str(self.tcvis_dir or self.default_dirs.tcvis)

    def _bands_of_export(self) -> set[str]:
        groups = {"dem": ("slope", "relative_elevation"), "tcvis": checks.TCVIS_BANDS}
        return {name for band in self.export_bands for name in groups.get(band, (band,))}
