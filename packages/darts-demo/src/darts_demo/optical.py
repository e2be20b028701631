"""A landscape's image as a tile in memory."""

import numpy as np
import xarray as xr
from odc.geo.xr import xr_coords

from darts_demo.landscape import Landscape
from darts_demo.planet import scene_id
from darts_utils import OPTICAL_BANDS, band_attrs


def optical_dataset(landscape: Landscape) -> xr.Dataset:
    """Return what ``load_planet_scene`` and ``load_planet_masks`` would load of a landscape's files, but unrounded.

    Args:
        landscape: What to show.

    Returns:
        Tile with ``blue``, ``green``, ``red``, ``nir`` (float32, surface reflectance, NaN where there is no data),
        ``quality_data_mask`` (uint8), ``planet_udm`` (uint8), and the tile's attributes.
    """
    udm = landscape.udm
    quality = np.where(udm[7] > 0, 0, np.where(udm[1:6].any(axis=0), 1, 2)).astype(np.uint8)
    bands = dict(zip(OPTICAL_BANDS, landscape.reflectance.copy(), strict=True))
    variables: dict[str, object] = {name: (("y", "x"), band, band_attrs(name)) for name, band in bands.items()}
    variables["quality_data_mask"] = (("y", "x"), quality, band_attrs("quality_data_mask"))
    variables["planet_udm"] = (("udm_band", "y", "x"), udm.copy(), band_attrs("planet_udm"))
    return xr.Dataset(
        variables,
        coords=dict(xr_coords(landscape.geobox)) | {"udm_band": np.arange(1, 9)},
        attrs={
            "tile_id": scene_id(landscape),
            "azimuth": landscape.azimuth,
            "elevation": landscape.elevation,
            "time": f"{landscape.time:%Y-%m-%dT%H:%M:%S}Z",
        },
    )
