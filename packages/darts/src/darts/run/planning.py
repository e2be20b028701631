"""Plan a run: find what is wrong with it, list its tiles, and decide which of them are to be computed.

Nothing here loads torch, a network or an image; of models only their cards are read.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import darts_acquisition
from darts.errors import ConfigurationError, NoTilesError
from darts.run import checks
from darts.run.auxiliary import CubesNow
from darts.run.classes import check_class_layers, divide_layers
from darts.run.features import auxiliary_of, features_among, find_feature, is_produced
from darts.run.fingerprint import fingerprint, package_versions, shared_dependencies
from darts.run.inputs import InputMemory
from darts.run.journal import PlanCounts
from darts.run.models import find_ensemble, find_models
from darts.run.resume import Decision, Resume
from darts.run.shards import Shard, ShardMetadata
from darts.run.task import Pipeline, TileTask
from darts.run.trends import TrendCubes
from darts.startup import resume_collection
from darts_export import check_export_bands, export_variables
from darts_preprocessing import FEATURES
from darts_segmentation import ModelCard, hash_model, read_card, read_ensemble
from darts_utils import OPTICAL_BANDS, resolve_device

if TYPE_CHECKING:
    from darts.run.fetching import PlannedFetch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """What all tiles of a run share: plain data that any process can be given.

    Attributes:
        models: Files of the ensemble's members, by name.
        ensemble: File of the ensemble where it is one, with a calibration of its own; else None.
        model_hashes: SHA-256 of the members, by name.
        depends_on: What the results of every tile depend on.
        subsets: Members whose own results are written.
        classes: Layers of the export that show other classes than thaw slumps, ``probabilities_{class}``.
        device: Where the work shall be done, as it was asked for.
        versions: Versions of the packages at the start of the run.
        configuration: The pipeline's configuration, as it goes into the results.
        features: Variables that preprocessing must add.
        cards: Cards of the models as plain data, by name.
        arcticdem: ArcticDEM datacube, None where no elevation is needed.
        tcvis: TCVIS datacubes, None where no trend is needed.
    """

    models: dict[str, Path]
    model_hashes: dict[str, str]
    depends_on: dict[str, Any]
    subsets: tuple[str, ...]
    device: str | int | None
    versions: dict[str, str]
    configuration: dict[str, object]
    features: tuple[str, ...] = ()
    cards: dict[str, dict[str, object]] = field(default_factory=dict)
    arcticdem: str | None = None
    tcvis: TrendCubes | None = None
    ensemble: Path | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        decisions: One per tile, in the order of the run.
        context: What the tiles share; complete where a tile is to be computed.
        fetch: What the tiles lack that are to be computed; None where nobody asked for it, as in a run.
    """

    decisions: Sequence[Decision]
    context: RunContext
    fetch: "PlannedFetch | None" = None

    @property
    def counts(self) -> PlanCounts:
        """Number of tiles in all, and by what was decided about them."""
        todo = sum(decision.todo for decision in self.decisions)
        reasons = Counter(decision.why.partition(":")[0] for decision in self.decisions)
        total = len(self.decisions)
        return {"total": total, "to_compute": todo, "finished": total - todo, "reasons": dict(reasons)}

    @property
    def todo(self) -> list[TileTask]:
        """The tiles to compute."""
        return [decision.task for decision in self.decisions if decision.todo]


class Planner:
    """Plans the run of a pipeline: what can be found wrong is found when it is made.

    Args:
        pipeline: The pipeline.
        writes: Whether what is learnt about input files may be kept in the folder of results.

    Attributes:
        tasks: The tiles of the run; where it is one shard of several, that shard's.
        shards: What is known of the shards; None where the run is none.
        context: What the tiles share, as far as that is known before one is to be computed.

    Raises:
        ConfigurationError: If the run cannot work as configured.
        DeviceError: If a GPU was asked for and does not work.
        ModelFileError: If a model is damaged.
    """

    def __init__(self, pipeline: Pipeline, *, writes: bool = True) -> None:
        self.pipeline = pipeline
        self.output = output_of(pipeline)
        checks.check_place(self.output)
        checks.check_executor(pipeline)
        checks.check_engine(pipeline)
        self._memory = InputMemory(self.output, writes=writes)
        self._completed: tuple[list[TileTask], RunContext] | None = None
        classes, others = divide_layers(pipeline)
        check_export_bands(others, variables=variables_of(pipeline))
        listed = datetime.now(UTC).isoformat(timespec="milliseconds")
        tasks = list_tasks(pipeline)
        models = find_models(pipeline._named_models(), pipeline.default_dirs.models, pipeline.engine)
        subsets = tuple(models) if pipeline.write_model_outputs and len(models) > 1 else ()
        if classes:
            check_class_layers(classes, read_cards(models))
        known = (*_with_members(pipeline, models), *classes)
        check_export_bands(pipeline.export_bands, variables=known, ensemble_subsets=subsets)
        checks.check_sizes(pipeline)
        resolve_device(pipeline.device)
        hashes = {name: hash_model(path) for name, path in models.items()}
        ensemble = find_ensemble(pipeline._named_models())
        together = {} if ensemble is None else {ensemble.name: read_ensemble(ensemble).sha256}
        self.context = RunContext(
            models=models,
            model_hashes=hashes,
            depends_on=shared_dependencies(pipeline._results_configuration(), hashes | together),
            ensemble=ensemble,
            subsets=subsets,
            classes=classes,
            device=pipeline.device,
            versions=package_versions(),
            configuration={
                **pipeline._results_configuration(),
                "export_bands": list(pipeline.export_bands),
                "write_model_outputs": pipeline.write_model_outputs,
                "trend": pipeline.trend,
            },
        )
        self._divide(tasks, listed)

    def _divide(self, tasks: list[TileTask], listed: str) -> None:
        """Keep the tiles of the shard that the pipeline is asked for, before anything else is known of them."""
        self.tasks, self.shards = tasks, None
        if self.pipeline.shard is None:
            return
        shard = Shard.parse(self.pipeline.shard)
        digest = fingerprint({"depends_on": self.context.depends_on, "configuration": self.context.configuration})
        self.tasks = [task for task in tasks if shard.holds(task.tile_id)]
        self.shards = ShardMetadata.of_tiles(shard, digest, (task.tile_id for task in tasks), listed)
        logger.info("Shard %s has %d of %d tiles.", shard, len(self.tasks), len(tasks))

    def plan(self) -> Plan:
        """Decide about every tile.

        Raises:
            ConfigurationError: If foreign files are in the way of results, or the tiles that are to be computed need
                what the pipeline does not produce, or a datacube that is not there or cannot be.
        """
        pipeline = self.pipeline
        resume = make_resume(pipeline, self.context, self._memory)
        resume_collection()
        decisions = [resume.decide(task) for task in self.tasks]
        _tell_earlier_release(decisions)
        context = self.context
        if todo := [decision.task for decision in decisions if decision.todo]:
            if self._completed is None or self._completed[0] != todo:  # A run plans twice, and says all once.
                self._completed = todo, complete_context(pipeline, context, todo)
            context = self._completed[1]
        return Plan(decisions, context)


def make_resume(pipeline: Pipeline, context: RunContext, memory: InputMemory | None = None) -> Resume:
    """Return what decides about the tiles of a run, in any process."""
    cubes = CubesNow(str(pipeline.arcticdem_dir), TrendCubes.of(pipeline))
    memory = memory or InputMemory(output_of(pipeline))
    return Resume(pipeline, context.depends_on, context.subsets, memory, cubes)


def list_tasks(pipeline: Pipeline) -> list[TileTask]:
    """List the tiles of a pipeline, those of all shards.

    Raises:
        NoTilesError: If there is none.
        ConfigurationError: If two tiles have one folder of results.
    """
    tasks = [TileTask(key, pipeline._get_tile_id(key), Path(output)) for key, output in pipeline._tileinfos()]
    if not tasks:
        raise NoTilesError(f"There is no tile to process: {pipeline._where_tiles_were_sought()}.")
    taken: dict[Path, TileTask] = {}
    for task in tasks:
        other = taken.setdefault(task.output, task)
        if other is not task:
            raise ConfigurationError(
                f"The tiles {other.tile_id} ({other.key}) and {task.tile_id} ({task.key}) have one folder of results, "
                f"{task.output}; process one of them only, or rename it."
            )
    return tasks


def complete_context(pipeline: Pipeline, context: RunContext, tasks: Sequence[TileTask]) -> RunContext:
    """Read the cards of the models, and find out which features and which auxiliary data they and the export need.

    Raises:
        ConfigurationError: If a band cannot be produced, or a datacube is not there or cannot be.
    """
    cards = read_cards(context.models)
    completed = with_auxiliary(pipeline, context, bands_wanted(pipeline, cards), tasks)
    return replace(completed, cards={name: card.to_dict() for name, card in cards.items()})


def with_auxiliary(pipeline: Pipeline, context: RunContext, wanted: set[str], tasks: Sequence[TileTask]) -> RunContext:
    """Find out which features and which auxiliary data bands need.

    Raises:
        ConfigurationError: If a datacube is not there or cannot be.
    """
    features = features_among(wanted)
    auxiliary = auxiliary_of(features)
    arcticdem = tcvis = None
    if "arcticdem" in auxiliary:
        arcticdem = str(pipeline.arcticdem_dir)
        resolution = pipeline._arcticdem_resolution()
        with _outside_first(
            pipeline, tasks, partial(darts_acquisition.estimate_arcticdem, data_dir=arcticdem, resolution=resolution)
        ):
            checks.check_cube(arcticdem, darts_acquisition.arcticdem_product(resolution), "--arcticdem-dir", pipeline)
    if "tcvis" in auxiliary:
        tcvis = TrendCubes.of(pipeline)
        for trend, some in tcvis.needed(pipeline, tasks).items():
            cube = tcvis.cubes[trend]
            with _outside_first(pipeline, some, partial(darts_acquisition.estimate_tcvis, data_dir=cube, trend=trend)):
                checks.check_cube(cube, darts_acquisition.tcvis_product(trend), "--tcvis-dir", pipeline)
    return replace(context, features=features, arcticdem=arcticdem, tcvis=tcvis)


@contextmanager
def _outside_first(
    pipeline: Pipeline, tasks: Sequence[TileTask], estimate: Callable[[object], object]
) -> Iterator[None]:
    """Where a datacube cannot be used, say first that all tiles lie outside its product: then no other would help.

    Raises:
        ConfigurationError: If the block raises it.
    """
    try:
        yield
    except ConfigurationError:
        error = _outside(pipeline, tasks, estimate)
        if error is None:
            raise
        tiles = f"{tasks[0].tile_id} lies" if len(tasks) == 1 else f"All {len(tasks)} tiles lie"
        raise ConfigurationError(
            f"{error} {tiles} outside, and the models (--model-files) or the export (--export-bands) need it: choose "
            "models and bands that do without it, or other tiles."
        ) from error


def _outside(pipeline: Pipeline, tasks: Sequence[TileTask], estimate: Callable[[object], object]) -> Exception | None:
    """Return the error that says where a tile lies, if all lie outside a product; None if one does not."""
    found = None
    for some in (tasks[:1], tasks):  # Places are read from files, so that one tile inside should be enough.
        try:
            estimate(list(pipeline._tile_areas(some, {}, offline=True).values()))
        except darts_acquisition.OutsideExtentError as error:
            found = error
        except Exception:  # noqa: BLE001 - a hook of somebody else, or no place is known
            return None
        else:
            return None
    return found


def read_cards(models: dict[str, Path]) -> dict[str, ModelCard]:
    """Read the cards of models by name; only a checkpoint of torch needs torch for it."""
    return {name: read_card(path) for name, path in models.items()}


def bands_wanted(pipeline: Pipeline, cards: dict[str, ModelCard]) -> set[str]:
    """Name the bands that models and export need.

    Raises:
        ConfigurationError: If the pipeline does not produce one that a model needs.
    """
    required = dict.fromkeys(str(band) for card in cards.values() for band in card.bands)
    check_produced(pipeline, required, "The ensemble")
    return set(required) | export_variables(pipeline.export_bands)


def check_produced(pipeline: Pipeline, required: Iterable[str], whose: str) -> None:
    """Check that a pipeline produces the bands that are required.

    Raises:
        ConfigurationError: If it does not produce one.
    """
    wanted = dict.fromkeys(required)
    produced = [name for name in wanted if name not in OPTICAL_BANDS and is_produced(name, pipeline)]
    checks.check_bands(wanted, dict.fromkeys([*OPTICAL_BANDS, *FEATURES, *produced]), whose)


def variables_of(pipeline: Pipeline) -> tuple[str, ...]:
    """Name the variables that an exported tile of a pipeline can have, but for those of members and classes."""
    known = dict.fromkeys((*pipeline._variables(), *FEATURES, "probabilities", "extent", "binarized_segmentation"))
    asked = export_variables(divide_layers(pipeline)[1])
    return (*known, *sorted(name for name in asked.difference(known) if find_feature(name) is not None))


def output_of(pipeline: Pipeline) -> Path:
    """Return the folder of a pipeline's results."""
    if pipeline.output_data_dir is None:
        raise ConfigurationError("There is no folder for results; name one with output_data_dir.")
    return pipeline.output_data_dir


def _with_members(pipeline: Pipeline, models: dict[str, Path]) -> tuple[str, ...]:
    kinds = ("probabilities", "binarized_segmentation")
    return (*variables_of(pipeline), *(f"{kind}-{name}" for kind in kinds for name in models))


def _tell_earlier_release(decisions: Sequence[Decision]) -> None:
    old = [decision for decision in decisions if decision.of_earlier_release]
    again = sum(decision.todo for decision in old)
    if again:
        logger.warning(
            "%d of %d tiles have results of an earlier release, which do not say enough to be compared, and are "
            "computed again; keep_finished takes those with the same configuration and models as finished.",
            again,
            len(decisions),
        )
