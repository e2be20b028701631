"""Add probabilities to a tile."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import xarray as xr

from darts_segmentation.arrays import Array
from darts_segmentation.bands import get_bands
from darts_segmentation.engine import Engine
from darts_segmentation.errors import PixelSizeWarning
from darts_segmentation.predict import Member, Options, predict_tile
from darts_utils import band_attrs, spatial_dims

SPREAD_NAME = "std"
_BLOCK_ROWS = 256
_METRES = {"m", "metre", "metres", "meter", "meters"}
_TOLERATED_SCALE = 1.5
"""Images of PlanetScope have pixels of 3 to 4 m and are one kind; those of Sentinel-2, 10 m, are another."""


def segment(tile: xr.Dataset, members: Mapping[str, Member], engine: Engine, options: Options) -> xr.Dataset:
    """Return a new tile with everything in a tile and the probabilities that networks give for it.

    Args:
        tile: The tile. Not changed.
        members: The networks by name.
        engine: Runs them.
        options: How, and what is kept.

    Returns:
        The tile plus what :func:`darts_segmentation.predict.predict_tile` returns, and ``probabilities-std`` where the
        members are kept.

    Warns:
        PixelSizeWarning: If the pixels are more than one and a half times larger or smaller than those that a network
            was trained on, as far as its card and the coordinates of the tile say so.
    """
    _check_pixel_size(tile, members)
    names = dict.fromkeys(channel.band for member in members.values() for channel in member.channels)
    bands = get_bands(tile, names, engine.take)
    layers = predict_tile(bands, members, engine, options)
    variables = {name: _variable(tile, layer, band_attrs(name)) for name, layer in layers.items()}
    of_members = [layer for name, layer in layers.items() if name.startswith("probabilities-")]
    if of_members:
        attrs = {"long_name": "standard deviation of the members' probabilities of a thaw slump", "units": "1"}
        variables[f"probabilities-{SPREAD_NAME}"] = _variable(tile, spread(of_members), attrs)
    return tile.assign(variables)


def _check_pixel_size(tile: xr.Dataset, members: Mapping[str, Member]) -> None:
    coordinates = [tile.coords[dim] for dim in spatial_dims(tile) if dim in tile.coords]
    sizes = [
        abs(float(values[-1]) - float(values[0])) / (len(values) - 1)
        for values in coordinates
        if values.attrs.get("units") in _METRES and len(values) > 1
    ]
    if not sizes:
        return
    size = math.prod(sizes) ** (1 / len(sizes))  # the edge of a square of the same area, as a training says it
    for name, member in members.items():
        trained = member.pixel_size or size
        if not trained / _TOLERATED_SCALE <= size <= trained * _TOLERATED_SCALE:
            warnings.warn(
                f"Model {name!r} was trained on pixels of {trained:.3g} m, and the tile has pixels of {size:.3g} m: "
                "what it finds there is not what its figures promise. Take a model for such images.",
                PixelSizeWarning,
                stacklevel=4,
            )


def _variable(tile: xr.Dataset, values: Array, attrs: Mapping[str, object]) -> xr.Variable:
    encoding = {"grid_mapping": "spatial_ref"} if "spatial_ref" in tile.coords else {}
    return xr.Variable(spatial_dims(tile), values, attrs, encoding)


def spread(layers: list[Any]) -> Array:
    """Return the standard deviation over layers, pixel by pixel: the root of the mean squared distance from the mean.

    Args:
        layers: Arrays float32 of shape (y, x) each, of numpy or cupy.

    Returns:
        float32 of shape (y, x), NaN where a layer is NaN.

    Examples:
        >>> import numpy as np
        >>> spread([np.array([[0.0, 1.0]], "float32"), np.array([[1.0, 1.0]], "float32")])
        array([[0.5, 0. ]], dtype=float32)
    """
    result = layers[0].copy()
    for top in range(0, len(result), _BLOCK_ROWS):
        rows = slice(top, top + _BLOCK_ROWS)
        parts = [layer[rows].astype("float64") for layer in layers]
        mean = sum(parts) / len(parts)
        result[rows] = (sum((part - mean) * (part - mean) for part in parts) / len(parts)) ** 0.5
    return result
