"""Make training data: tiles as a run loads and preprocesses them, with labels, in the place of the network."""

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import darts_evaluation
import darts_segmentation
import darts_training
from darts.errors import ConfigurationError
from darts.run import checks
from darts.run.failures import describe, is_disk_full, no_data_reason
from darts.run.features import auxiliary_of, features_among
from darts.run.fingerprint import QUALITY_LEVELS
from darts.run.made_from import MadeFrom
from darts.run.names import counted
from darts.run.planning import RunContext, check_produced, list_tasks, with_auxiliary
from darts.run.task import Pipeline, TileTask
from darts.run.worker import Worker
from darts_training.samples import TILES
from darts_utils import DartsError, get_band, resolve_device

logger = logging.getLogger(__name__)

DEFAULT_BANDS = ("blue", "green", "red", "nir", "ndvi", "relative_elevation", "slope")
"""What samples show where neither bands nor a model are named."""


@dataclass(frozen=True)
class TrainingData:
    """What came of it.

    Attributes:
        samples: The samples; None where no tile gave any.
        errors: What tiles failed by, by their names.
        outside: Labels that lie outside the area in which labels are complete.
    """

    samples: "darts_training.Samples | None"
    errors: Mapping[str, Exception]
    outside: int

    @property
    def failed(self) -> list[str]:
        """Names of the tiles that failed."""
        return list(self.errors)


def make_training_data(
    pipeline: Pipeline, labels: Path, area: Path, out: Path, *, bands: Sequence[str] = (), **form: Any
) -> TrainingData:
    """Make samples of all tiles that show labelled ground; those that are there stay while they are the same.

    Args:
        pipeline: Where tiles come from, and how they are preprocessed. Where `bands` is empty and it names one model,
            the samples are made for that model.
        labels: Vector file of outlines.
        area: Vector file of the area in which they are complete.
        out: Folder of the samples.
        bands: What the samples show, in their order.
        **form: Further fields of :class:`darts_training.SampleFormat`.

    Returns:
        The samples.

    Raises:
        ConfigurationError: If the pipeline does not produce a band, has no tile, or two of one name.
        LabelsError: If labels or area cannot be read.
        SamplesError: If the folder holds other samples.
        WritingError: If a disk is full.
    """
    resolve_device(pipeline.device)
    channels = _channels(pipeline, bands)
    names = [channel.band for channel in channels]
    check_produced(pipeline, names, "The training data")
    tasks = list_tasks(pipeline)
    given = darts_evaluation.read_labels(labels, area)
    drawn = darts_training.agreed(given)
    source = type(pipeline).__name__.removesuffix("Pipeline")
    described = darts_training.SampleFormat(
        channels=channels, source=source, made_with=_digest(pipeline, drawn, names), **form
    )
    checks.check_place(out, "Training data")
    labelled = _on_labelled_ground(pipeline, tasks, drawn)
    if twice := [name for name, number in Counter(task.tile_id for task in labelled).items() if number > 1]:
        raise ConfigurationError(
            f"Two tiles are called {twice[0]!r}; samples are kept by the name of their tile, and one would be lost. "
            "Give each a name of its own."
        )
    done = darts_training.begin_samples(out, described)
    made_from = MadeFrom(out)
    todo = [task for task in labelled if task.tile_id not in done or made_from.is_changed(pipeline, task)]
    logger.info("%d of %d tiles are to be cut into samples.", len(todo), len(tasks))
    failed: dict[str, Exception] = {}
    if todo:
        empty = RunContext({}, {}, {}, (), pipeline.device, {}, {})
        try:
            context = with_auxiliary(pipeline, empty, set(names), todo)
        except ConfigurationError:
            with suppress(darts_training.SamplesError):  # so that nothing of it stays where nothing was there before
                darts_training.finish_samples(out)
            raise
        worker = Worker(replace(pipeline, output_data_dir=out), context, _no_network)
        worker.open()
        ended = ((task.tile_id, _cut(worker, task, out, described, drawn, made_from)) for task in todo)
        failed = {name: error for name, error in ended if error is not None}
    samples = None
    try:
        samples = darts_training.finish_samples(out)
    except darts_training.SamplesError as error:
        beside = f"None of {counted(len(tasks), 'tile')} touches the labelled area {area}: name images of that area."
        logger.error("%s", error if labelled else beside)  # noqa: TRY400 - no bug of ours
    return TrainingData(samples, failed, darts_training.count_outside(given))


def _channels(pipeline: Pipeline, bands: Sequence[str]) -> "tuple[darts_segmentation.Channel, ...]":
    models = list(getattr(pipeline, "model_files", None) or ())
    if not bands and len(models) == 1:
        card = darts_segmentation.read_card(models[0])
        return tuple(darts_segmentation.Channel(band, *map(float, card.normalization[band])) for band in card.bands)
    chosen = [get_band(band) for band in dict.fromkeys(bands or DEFAULT_BANDS)]
    return tuple(darts_segmentation.Channel(band.name, float(band.low), float(band.high)) for band in chosen)


def _digest(pipeline: Pipeline, labels: "darts_evaluation.Labels", bands: Sequence[str]) -> str:
    """Return the SHA-256 of the labels and of the options on which a tile's content depends."""
    options = pipeline._results_configuration()
    if "tcvis" in auxiliary_of(features_among(bands)):
        options["trend"] = pipeline.trend
    configuration = json.dumps(options, sort_keys=True, default=str)
    return hashlib.sha256(f"{darts_training.digest_labels(labels)} {configuration}".encode()).hexdigest()


def _on_labelled_ground(
    pipeline: Pipeline, tasks: Sequence[TileTask], labels: "darts_evaluation.Labels"
) -> list[TileTask]:
    """Leave out tiles that lie beside the labelled area, as far as their place is known."""
    from odc.geo.geom import Geometry

    plane = labels.equal_area_crs  # where 180° is no seam, and the pole a place
    area = labels.to_crs(plane).area
    if area is None:
        return list(tasks)
    areas = pipeline._tile_areas(tasks, {}, offline=pipeline.offline)
    labelled = Geometry(area, crs=plane)
    kept = []
    for task in tasks:
        found_area: Any = areas.get(task.tile_id)
        outline = getattr(found_area, "extent", found_area)
        if outline is None or outline.to_crs(plane).intersects(labelled):
            kept.append(task)
    return kept


def _cut(
    worker: Worker,
    task: TileTask,
    out: Path,
    form: "darts_training.SampleFormat",
    labels: "darts_evaluation.Labels",
    made_from: MadeFrom,
) -> Exception | None:
    """Take a tile to where the network would be, and write its samples; return what it failed by."""
    level = worker.pipeline.quality_level
    work, stage = worker.begin(task), "Loading Optical"
    try:
        for each in worker.stages():
            stage = each.name
            if each.lane == "load":
                each.run(work)
        stage = "Cutting"
        count = darts_training.write_tile_samples(
            out,
            form,
            work.take(),
            task.tile_id,
            labels,
            least_quality=int(QUALITY_LEVELS.get(level, level)),
        )
        made_from.note(work)
    except (DartsError, OSError, ValueError) as error:
        if is_disk_full(error) or isinstance(error, ConfigurationError):
            raise
        reason = no_data_reason(error)
        logger.error("Tile %s: %s", task.tile_id, reason or describe(stage, error))  # noqa: TRY400 - no bug of ours
        if reason is None:
            return error
        # Those of an image that held something before.
        shutil.rmtree(out / TILES / f"{task.tile_id}.zarr", ignore_errors=True)
        return None
    finally:
        work.drop()
    logger.info("Tile %s: %d samples.", task.tile_id, count)
    return None


def _no_network(pipeline: Pipeline, context: RunContext) -> Any:  # noqa: ARG001 - as a session is opened
    """Return what stands where the networks of a run stand, and segments nothing."""
    return SimpleNamespace(device="cpu", precision="fp32")
