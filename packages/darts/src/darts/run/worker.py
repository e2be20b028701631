"""Take tiles through their stages in one process, which opens models, cubes and device once."""

import importlib
import logging
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import darts_acquisition
import darts_export
import darts_postprocessing
import darts_preprocessing
from darts.errors import InputChangedError
from darts.run.auxiliary import describe_auxiliary
from darts.run.failures import no_data_reason, note_failure
from darts.run.features import feature_margin_px
from darts.run.fingerprint import DEPENDS_ON, fingerprint
from darts.run.footprint import footprint_of
from darts.run.inputs import InputMemory, describe_inputs, states_of
from darts.run.journal import Findings
from darts.run.messages import without_places
from darts.run.planning import RunContext, output_of
from darts.run.session import OpenSession, Session, open_session
from darts.run.task import Pipeline, Stage, TileTask, TileWork
from darts.run.tile_checks import check_tile
from darts.run.trends import TrendCubes, trend_of_tile
from darts.startup import resume_collection
from darts_utils import DartsError, free_gpu_memory, resolve_device, time_of, try_cupy
from darts_utils.device import CPU

if TYPE_CHECKING:
    import xarray as xr


logger = logging.getLogger(__name__)

_INSTALL = 'pip install "darts-nextgen[cuda12]", or [cuda13] for CUDA 13'
_WORK = "features are computed and objects made"
_ROOM = 3
"""Sizes of a tile that must be free on a GPU for it to stay there: its own, and what the other stages need."""


class Worker:
    """Takes the tiles of a run through their stages.

    Args:
        pipeline: The configuration, and how a tile is loaded.
        context: What all tiles share.
        open_session: Opens what computes probabilities.
        fetches: Ends the downloads of the tiles that are being loaded; None where nobody will ask for that.

    Attributes:
        startup_seconds: How long `open` took.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        context: RunContext,
        open_session: OpenSession = open_session,
        fetches: "darts_acquisition.FetchCancellation | None" = None,
    ) -> None:
        self.pipeline = pipeline
        self.context = context
        self.startup_seconds = 0.0
        self._fetches = fetches or darts_acquisition.FetchCancellation()
        self._open_session = open_session
        self._session: Session | None = None
        self._device = CPU
        self._memory = InputMemory(output_of(pipeline))

    def open(self) -> None:
        """Import the libraries of all stages and load the networks, so that no tile is charged with it.

        Raises:
            ConfigurationError: If a network cannot be run as configured.
            ModelFileError: If a model is damaged.
            DeviceError: If a GPU was asked for and does not work.
        """
        if self._session is not None:
            return
        start = perf_counter()
        self._device = resolve_device(self.context.device, trial=try_cupy(_INSTALL), work=_WORK, fallback=True)
        # Begun now, so that they are compiled or loaded while other things are imported.
        darts_preprocessing.compile_kernels(self.context.features, device=self._device)
        self._session = self._open_session(self.pipeline, self.context)
        logger.info("Networks run on %s; %s on %s.", self._session.device, _WORK, self._device)
        _import_stages()
        resume_collection()
        self.startup_seconds = perf_counter() - start
        logger.info("Start-up took %.1f s.", self.startup_seconds)

    @property
    def device(self) -> str:
        """Device that the networks compute on."""
        return self._opened().device

    @property
    def precision(self) -> str:
        """Number format that the networks compute in: what "auto" was decided to be."""
        return self._opened().precision

    def begin(self, task: TileTask) -> TileWork:
        """Return a task as work that no stage has touched."""
        work = TileWork(task)
        work.record.attempt = task.attempt
        work.record.device = self._opened().device
        return work

    def stages(self) -> list[Stage]:
        """List the stages that a tile of this run needs, by the names of the records."""
        loads = {"Loading Optical": self._load}
        if self.context.arcticdem is not None:
            loads["Loading ArcticDEM"] = partial(self._load_arcticdem, self.context.arcticdem)
        if self.context.tcvis is not None:
            loads["Loading TCVis"] = partial(self._load_tcvis, self.context.tcvis)
        return [
            *(Stage(name, "load", partial(self._fetch, load)) for name, load in loads.items()),
            Stage("Preprocessing", "load", self._preprocess),
            Stage("Segmenting", "infer", self._segment),
            Stage("Postprocessing", "write", self._postprocess),
            Stage("Exporting", "write", self._export, writes=True),
        ]

    def fail(self, work: TileWork, stage: Stage, error: Exception) -> None:
        """Write down that a stage failed; a scene that holds no data at all is empty, which is no failure."""
        record = work.record
        reason = no_data_reason(error)
        if reason is not None and stage.lane == "load":
            try:
                self._write_empty(work, reason)
            except (OSError, DartsError) as problem:
                error = problem
            else:
                record.status, record.error = "empty", reason
                return
        note_failure(record, stage.name, error, self.pipeline._how_to_prepare())
        logger.debug("Tile %s failed in stage %s.", record.tile_id, stage.name, exc_info=error)

    # The stages.

    def _fetch(self, load: Callable[[TileWork], None], work: TileWork) -> None:
        """Load something, until the run's downloads are cancelled."""
        with darts_acquisition.cancellable(self._fetches):
            load(work)

    def _load(self, work: TileWork) -> None:
        key = work.task.key
        before = states_of(self.pipeline._tile_inputs(key))
        work.tile = self.pipeline._load_tile(key)
        files = self.pipeline._tile_inputs(key)
        work.inputs = describe_inputs(files, self._memory)  # The digest is that of the bytes that were loaded.
        now = states_of(files)
        for path, state in before.items():
            if now.get(path) != state:
                raise InputChangedError(f"{path} was changed while it was read; start the run again when it is whole.")
        check_tile(work.tile, self.pipeline.export_bands, self.pipeline._variables())
        work.record.footprint = footprint_of(work.tile)
        time = time_of(work.tile)
        work.record.acquired = None if time is None else str(time)

    def _load_arcticdem(self, cube: str, work: TileWork) -> None:
        resolution = self.pipeline._arcticdem_resolution()
        work.arcticdem = darts_acquisition.load_arcticdem(
            work.peek().odc.geobox,
            cube,
            resolution,
            buffer=feature_margin_px(self.pipeline, self.context.features),
            offline=self.pipeline.offline,
        )
        work.auxiliary["arcticdem"] = describe_auxiliary(work.arcticdem)

    def _load_tcvis(self, cubes: TrendCubes, work: TileWork) -> None:
        settings = darts_acquisition.EarthEngineSettings(
            project=self.pipeline.ee_project, use_highvolume=self.pipeline.ee_use_highvolume
        )
        tile = work.peek()
        trend = trend_of_tile(cubes, self.pipeline._tile_year(work.task.key), tile)
        work.tcvis = darts_acquisition.load_tcvis(
            tile.odc.geobox, cubes.cubes[trend], self.pipeline.offline, trend, settings=settings
        )
        work.auxiliary["tcvis"] = describe_auxiliary(work.tcvis)

    def _preprocess(self, work: TileWork) -> None:
        arcticdem, work.arcticdem = work.arcticdem, None
        tcvis, work.tcvis = work.tcvis, None
        tile = work.take()
        work.tile = darts_preprocessing.preprocess_v2(
            tile,
            arcticdem,
            tcvis,
            self.pipeline.tpi_outer_radius,
            self.pipeline.tpi_inner_radius,
            device=self._device,
            features=self.context.features,
            keep_on_device=self._may_stay(tile),
        )

    def _may_stay(self, tile: "xr.Dataset") -> bool:
        """Tell whether a tile stays on the GPU: where networks run there too, and others have room beside it."""
        if self._device.type == "cpu" or self._opened().device != str(self._device):
            return False
        layers = len(tile.data_vars) + len(self.context.features)
        return free_gpu_memory(self._device) > _ROOM * layers * 4 * max(each.size for each in tile.values())

    def _segment(self, work: TileWork) -> None:
        work.tile = self._opened().segment(work.take())

    def _postprocess(self, work: TileWork) -> None:
        work.tile = darts_postprocessing.prepare_export(
            work.take(),
            bin_threshold=self.pipeline.binarization_threshold,
            mask_erosion_size=self.pipeline.mask_erosion_size,
            min_object_size=self.pipeline.min_object_size,
            quality_level=self.pipeline.quality_level,
            ensemble_subsets=self.context.subsets,
            device=self._device,
            edge_erosion_size=self.pipeline.edge_erosion_size,
            edge_objects=self.pipeline.edge_objects,
        )

    def _export(self, work: TileWork) -> None:
        depends_on = self._depends_on(work)
        manifest = darts_export.export_tile(
            work.take(),
            work.task.output,
            bands=self.pipeline.export_bands,
            ensemble_subsets=self.context.subsets,
            metadata=self._metadata(work, depends_on),
            debug=self.pipeline.debug_data,
            fingerprint=fingerprint(depends_on),
            overwrite=self.pipeline.overwrite,
        )
        work.record.note(Findings.of(manifest))

    def _write_empty(self, work: TileWork, reason: str) -> None:
        files = self.pipeline._tile_inputs(work.task.key)
        work.inputs = describe_inputs(files, self._memory)
        depends_on = self._depends_on(work)
        darts_export.export_empty(
            work.task.output,
            without_places(reason, [str(path.parent) for path in files]),
            tile_id=work.task.tile_id,
            metadata=self._metadata(work, depends_on),
            fingerprint=fingerprint(depends_on),
            overwrite=self.pipeline.overwrite,
        )

    def _depends_on(self, work: TileWork) -> dict[str, object]:
        shared = self.context.depends_on
        engine = {**shared["engine"], "precision": self._opened().precision}
        return {**shared, "engine": engine, "inputs": work.inputs, "auxiliary": work.auxiliary}

    def _metadata(self, work: TileWork, depends_on: dict[str, object]) -> dict[str, object]:
        context = self.context
        return {
            "pipeline": type(self.pipeline).__name__,
            "source_scene": {
                "id": work.task.tile_id,
                "files": {name: found["sha256"] for name, found in work.inputs.items() if "sha256" in found},
            },
            "configuration": context.configuration,
            "models": {
                name: {"file": path.name, "sha256": context.model_hashes[name], "card": context.cards[name]}
                for name, path in context.models.items()
            },
            "versions": context.versions,
            "footprint": work.record.footprint,
            DEPENDS_ON: depends_on,
        }

    def _opened(self) -> Session:
        if self._session is None:
            raise RuntimeError("The worker is asked for a tile before it is open.")
        return self._session


def _import_stages() -> None:
    """Import what the stages import when they are first called."""
    names = (
        # xarray imports dask.array when it first asks whether an array is one.
        *("odc.geo.xr", "dask.array", "rasterio", "geopandas", "pyogrio", "pandas", "pyarrow.parquet"),
        *("pystac.extensions.projection", "pystac.extensions.view"),
        *("darts_acquisition.planet", "darts_export.export", "darts_postprocessing.export"),
    )
    for name in names:
        importlib.import_module(name)
