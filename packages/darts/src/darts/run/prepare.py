"""Fetch ahead of time what an offline run needs: raw scenes and auxiliary data."""

import logging
import warnings
from collections.abc import Sequence
from functools import partial

import darts_acquisition
from darts.errors import ConfigurationError, IgnoredOptionWarning, NoTilesError
from darts.run.codes import LATER, code_of_failures
from darts.run.features import auxiliary_of, feature_margin_px, features_among
from darts.run.fetching import AuxiliaryCube, cubes_of, estimate_auxiliary
from darts.run.models import find_models
from darts.run.planning import bands_wanted, list_tasks, read_cards
from darts.run.task import Pipeline, TileTask
from darts.run.trends import TrendCubes
from darts_utils import DartsError

logger = logging.getLogger(__name__)


def prepare_run(
    pipeline: Pipeline, *, optical: bool, aux: bool, arcticdem: bool | None = None, tcvis: bool | None = None
) -> dict[str, Exception]:
    """Fetch what an offline run of a pipeline needs, see `_BasePipeline.prepare_data`.

    Returns:
        Why scenes could not be prepared, by their names.

    Raises:
        ConfigurationError: If that cannot be prepared.
        ServiceError: If auxiliary data cannot be fetched.
    """
    if not (optical or aux or arcticdem or tcvis):
        raise ConfigurationError("There is nothing to prepare: ask for --aux, --optical or both.")
    if pipeline.offline:
        raise ConfigurationError(
            "Data cannot be prepared offline; leave --offline out, or give --no-offline where a file sets it."
        )
    if pipeline.shard is not None:
        warnings.warn(
            f"shard {pipeline.shard} is ignored: data are prepared for the tiles of all shards.",
            IgnoredOptionWarning,
            stacklevel=2,
        )
    products = _products(pipeline, aux=aux, arcticdem=arcticdem, tcvis=tcvis)
    trends = TrendCubes.of(pipeline) if "TCVIS" in products else None
    tasks = list_tasks(pipeline)
    failed = _prepare_optical(pipeline, tasks) if optical else {}
    if products:
        readable = [task for task in tasks if task.tile_id not in failed]
        cube_path = str(pipeline.arcticdem_dir) if "ArcticDEM" in products else None
        _prepare_surroundings(pipeline, readable, cubes_of(pipeline, readable, cube_path, trends), failed)
    pipeline._note_prepared([task.tile_id for task in tasks if task.tile_id not in failed])
    return failed


def _products(pipeline: Pipeline, *, aux: bool, arcticdem: bool | None, tcvis: bool | None) -> set[str]:
    """Name the products to fetch: "ArcticDEM", "TCVIS"."""
    needed = _needed(pipeline) if aux else set()
    asked = {"ArcticDEM": arcticdem, "TCVIS": tcvis}
    return {name for name, wanted in asked.items() if wanted or (wanted is None and name in needed)}


def _needed(pipeline: Pipeline) -> set[str]:
    """Name the products that the models and the export need."""
    try:
        models = find_models(pipeline._named_models(), pipeline.default_dirs.models, pipeline.engine)
    except ConfigurationError as error:
        if pipeline.model_files:
            raise
        logger.warning("%s Without a model, both ArcticDEM and TCVIS are prepared.", error)
        return {"ArcticDEM", "TCVIS"}
    auxiliary = auxiliary_of(features_among(bands_wanted(pipeline, read_cards(models))))
    needed = {name for name in ("ArcticDEM", "TCVIS") if name.lower() in auxiliary}
    logger.info("The models and the export need %s.", " and ".join(sorted(needed)) or "no auxiliary data")
    return needed


def _prepare_optical(pipeline: Pipeline, tasks: Sequence[TileTask]) -> dict[str, Exception]:
    """Fetch the images of tiles, and list those that are there.

    A scene that fails is logged, and the others go on. Scenes that were fetched before are listed from the start, so
    that an interrupted repetition loses none of them.

    Returns:
        What scenes failed by, by their names.

    Raises:
        ConfigurationError: If the pipeline cannot fetch images, or has nowhere to put them.
        LoginError: If something must be fetched, and there is no login.
    """
    missing = {task.tile_id for task in tasks if not pipeline._tile_inputs(task.key)}
    pipeline._check_ready(tasks)

    def note_ready() -> None:
        pipeline._note_prepared([task.tile_id for task in tasks if task.tile_id not in missing])

    note_ready()
    failed: dict[str, Exception] = {}
    for number, task in enumerate(tasks, start=1):
        try:
            pipeline._download_tile(task.key)
        except ConfigurationError:
            raise
        except DartsError as error:
            failed[task.tile_id] = error
            logger.error("Scene %d of %d failed: %s", number, len(tasks), error)  # noqa: TRY400 - no bug of ours
            continue
        missing.discard(task.tile_id)
        logger.info("Scene %d of %d is in the store: %s", number, len(tasks), task.tile_id)
        note_ready()
    return failed


def _prepare_surroundings(
    pipeline: Pipeline, tasks: Sequence[TileTask], cubes: dict[str, AuxiliaryCube], failed: dict[str, Exception]
) -> None:
    """Fill cubes for the tiles whose place is known, margins included; add the others to `failed`.

    Says first how much there is to fetch. What was fetched stays where a later part fails.
    """
    areas = pipeline._tile_areas(tasks, failed)
    if not areas:
        if code_of_failures(failed.values()) == LATER:
            return
        raise NoTilesError("There is no tile to prepare data for: none of those selected can be read.")
    resolution, margin_px = pipeline._arcticdem_resolution(), feature_margin_px(pipeline)
    settings = darts_acquisition.EarthEngineSettings(
        project=pipeline.ee_project, use_highvolume=pipeline.ee_use_highvolume
    )
    found = {name: [areas[tile] for tile in areas if tile in cube.tiles] for name, cube in cubes.items()}
    parts = {name: part for name, part in found.items() if part}
    for name, part in parts.items():
        estimate = estimate_auxiliary(cubes[name], part, resolution=resolution, margin_px=margin_px)
        logger.info("%s: %s.", name, estimate)
    for name, part in parts.items():
        cube, progress = cubes[name], partial(logger.info, "%s: chunk %d of %d.", name)
        if cube.trend is None:
            report = darts_acquisition.download_arcticdem(
                part, cube.location, resolution, buffer=margin_px, progress=progress
            )
        else:
            report = darts_acquisition.download_tcvis(
                part, cube.location, trend=cube.trend, settings=settings, progress=progress
            )
        logger.info("%s: %d chunks filled, %d are empty at the provider.", name, report.filled, report.empty)
