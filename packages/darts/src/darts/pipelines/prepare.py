"""Fetch ahead of time what an offline run needs of the auxiliary data."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts_acquisition import EarthEngineSettings

logger = logging.getLogger(__name__)


def prepare_auxiliary(
    areas: Sequence[Any],
    arcticdem_dir: Path,
    tcvis_dir: Path,
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
