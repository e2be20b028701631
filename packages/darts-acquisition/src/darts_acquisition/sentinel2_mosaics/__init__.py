"""Quarterly Sentinel-2 mosaics of the Copernicus Data Space."""

from darts_acquisition.io.settings import CDSEMosaicSettings
from darts_acquisition.sentinel2_mosaics.mosaics import (
    CDSEMosaicSource,
    download_cdse_s2_mosaic,
    load_cdse_s2_mosaic,
    search_cdse_s2_mosaics,
)

__all__ = [
    "CDSEMosaicSettings",
    "CDSEMosaicSource",
    "download_cdse_s2_mosaic",
    "load_cdse_s2_mosaic",
    "search_cdse_s2_mosaics",
]
