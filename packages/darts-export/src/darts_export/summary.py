"""Figures of a tile for the records of a run: objects, area, and which share of the tile is reliable or cloudy."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import geopandas as gpd
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from darts_export.layers import variable_values
from darts_export.products import OPTICAL
from darts_utils import spatial_dims

_CHUNK_PIXELS = 1 << 22
SUMMARISED = ("binarized_segmentation", "extent", "quality_data_mask", "probabilities")
"""Variables that a summary is made of, where the tile has them."""


@dataclass
class Summary:
    """Figures of one tile; None where the tile lacks what they are made of.

    Attributes:
        objects: Number of 8-connected objects of the ensemble.
        area_m2: Sum of their areas, as in the table of objects.
        reliable_share: Pixels with data in the extent, per pixel with data, 0…1.
        cloudy_share: Pixels of low quality (cloud, shadow, haze, snow), per pixel with data, 0…1.
        mean_probability: Mean probability of the pixels of the objects, 0…1; None without an object.
    """

    objects: int | None = None
    area_m2: float | None = None
    reliable_share: float | None = None
    cloudy_share: float | None = None
    mean_probability: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the figures by name."""
        return asdict(self)

    def counting(self, frames: Iterator[gpd.GeoDataFrame]) -> Iterator[gpd.GeoDataFrame]:
        """Pass on the parts of the table of objects, and fill in the number of objects and their area."""
        areas = []
        for frame in frames:
            areas.append(frame["area_m2"].to_numpy())
            yield frame
            del frame
        area = np.concatenate(areas)
        self.objects, self.area_m2 = len(area), float(area.sum())

    def count_shares(self, tile: xr.Dataset) -> None:
        """Fill in the shares.

        A pixel with data is one whose `quality_data_mask` is above 0; in a tile without one, a pixel whose optical
        bands are all known; without those, every pixel. Without any such pixel the shares are None.

        Args:
            tile: The tile. Not changed.

        Raises:
            ParameterError: If a variable lacks a dimension of the grid.
        """
        arrays = {
            name: variable_values(tile, name) for name in ("extent", "quality_data_mask", *OPTICAL) if name in tile
        }
        extent, quality = arrays.get("extent"), arrays.get("quality_data_mask")
        optical = [arrays[name] for name in OPTICAL if name in arrays]
        height, width = (tile.sizes[dim] for dim in spatial_dims(tile))
        rows = max(1, _CHUNK_PIXELS // max(width, 1))
        valid = reliable = cloudy = 0
        for top in range(0, height, rows):
            part = slice(top, top + rows)
            data = _with_data(quality, optical, part, (min(rows, height - top), width))
            valid += int(np.count_nonzero(data))
            if extent is not None:
                reliable += int(np.count_nonzero(data & (extent[part] > 0)))
            if quality is not None:
                cloudy += int(np.count_nonzero(quality[part] == 1))
        if valid and extent is not None:
            self.reliable_share = reliable / valid
        if valid and quality is not None:
            self.cloudy_share = cloudy / valid

    def average_probability(self, tile: xr.Dataset) -> None:
        """Fill in the mean probability; missing probabilities do not count.

        Args:
            tile: The tile. Not changed.

        Raises:
            ParameterError: If a variable lacks a dimension of the grid.
        """
        if not {"binarized_segmentation", "probabilities"} <= set(tile.data_vars):
            return
        mask, probabilities = (variable_values(tile, name) for name in ("binarized_segmentation", "probabilities"))
        rows = max(1, _CHUNK_PIXELS // max(mask.shape[1], 1))
        total, count = 0.0, 0
        for top in range(0, len(mask), rows):
            found = probabilities[top : top + rows][mask[top : top + rows] > 0]
            known = found[~np.isnan(found)]
            total, count = total + float(known.sum(dtype=np.float64)), count + known.size
        self.mean_probability = total / count if count else None


def _with_data(
    quality: NDArray | None, optical: list[NDArray], part: slice, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    if quality is not None:
        return np.greater(quality[part], 0)
    data = np.ones(shape, np.bool_)
    for values in optical:
        data &= ~np.isnan(values[part])
    return data
