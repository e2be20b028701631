"""Fetch ahead of time what an offline run needs: raw scenes and auxiliary data."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from darts.errors import ConfigurationError, NoTilesError
from darts.run.task import TileJob

if TYPE_CHECKING:
    from darts.pipelines.sequential_v2.base import _BasePipeline
    from darts_acquisition import EarthEngineSettings

logger = logging.getLogger(__name__)


def prepare_run(pipeline: "_BasePipeline", *, optical: bool, aux: bool, margin_px: int) -> list[str]:
    """Fetch what an offline run of a pipeline needs, see `_BasePipeline.prepare_data`.

    Args:
        pipeline: The pipeline whose run is prepared.
        optical: Fetch raw scenes.
        aux: Fetch auxiliary data.
        margin_px: Pixels of the DEM around each tile.

    Returns:
        Names of the scenes that could not be prepared.

    Raises:
        ConfigurationError: If that cannot be prepared.
        ServiceError: If auxiliary data cannot be fetched.
    """
    if not optical and not aux:
        raise ConfigurationError("There is nothing to prepare: ask for --aux, --optical or both.")
    if pipeline.offline:
        raise ConfigurationError(
            "Data cannot be prepared offline; leave --offline out, or give --no-offline where a file sets it."
        )
    jobs = pipeline._jobs(pipeline._output_dir())
    if not jobs:
        raise NoTilesError(f"There is no tile to prepare data for: {pipeline._where_tiles_were_sought()}.")
    failed = pipeline._prepare_optical(jobs) if optical else []
    if aux:
        readable = [job for job in jobs if job.tile_id not in failed]
        _prepare_surroundings(pipeline, readable, margin_px, failed)
    pipeline._note_prepared([job.tile_id for job in jobs if job.tile_id not in failed])
    return failed


def _prepare_surroundings(
    pipeline: "_BasePipeline", jobs: Sequence[TileJob], margin_px: int, failed: list[str]
) -> None:
    """Fill the cubes for the tiles whose place is known; add the names of the others to `failed`."""
    from darts_acquisition import EarthEngineSettings

    areas = pipeline._tile_areas(jobs, failed)
    if not areas:
        raise NoTilesError("There is no tile to prepare data for: none of those selected can be read.")
    prepare_auxiliary(
        list(areas.values()),
        pipeline._arcticdem_path(),
        pipeline._tcvis_path(),
        resolution=pipeline._dem_resolution,
        margin_px=margin_px,
        earthengine=EarthEngineSettings(project=pipeline.ee_project, use_highvolume=pipeline.ee_use_highvolume),
    )


def prepare_auxiliary(
    areas: Sequence[Any],
    arcticdem_dir: str,
    tcvis_dir: str,
    *,
    resolution: int,
    margin_px: int,
    earthengine: "EarthEngineSettings",
) -> None:
    """Fill the ArcticDEM and the TCVIS cube for the area of all tiles, margins included.

    Says first how much there is to fetch. What was fetched stays where a later part fails.

    Args:
        areas: Grids or footprints of the tiles (odc.geo), in any CRS.
        arcticdem_dir: ArcticDEM datacube; created where there is none.
        tcvis_dir: TCVIS datacube; created where there is none.
        resolution: Pixel size of the DEM in metres.
        margin_px: Pixels of the DEM around each tile.
        earthengine: How Earth Engine is asked.

    Raises:
        ServiceError: If something cannot be fetched.
        LoginError: If Earth Engine refuses the login, or there is none.
    """
    from darts_acquisition import download_arcticdem, download_tcvis, estimate_arcticdem, estimate_tcvis

    logger.info("ArcticDEM: %s.", estimate_arcticdem(areas, arcticdem_dir, resolution, buffer=margin_px))
    logger.info("TCVIS: %s.", estimate_tcvis(areas, tcvis_dir))
    done = download_arcticdem(areas, arcticdem_dir, resolution, buffer=margin_px, progress=_tell("ArcticDEM"))
    logger.info("ArcticDEM: %d chunks filled, %d are empty at the provider.", done.filled, done.empty)
    done = download_tcvis(areas, tcvis_dir, settings=earthengine, progress=_tell("TCVIS"))
    logger.info("TCVIS: %d chunks filled, %d are empty at the provider.", done.filled, done.empty)


def _tell(product: str) -> Any:
    def progress(done: int, total: int) -> None:
        logger.info("%s: chunk %d of %d.", product, done, total)

    return progress
