"""Add probabilities to a tile."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from darts_segmentation.bands import get_bands
from darts_segmentation.engine import Engine
from darts_segmentation.predict import Member, Options, predict_tile
from darts_utils import band_attrs, spatial_dims

if TYPE_CHECKING:
    import xarray as xr

SPREAD_NAME = "std"
_BLOCK_ROWS = 256


def segment(tile: "xr.Dataset", members: Mapping[str, Member], engine: Engine, options: Options) -> "xr.Dataset":
    """Return a new tile with everything in a tile and the probabilities that networks give for it.

    Args:
        tile: The tile. Not changed.
        members: The networks by name.
        engine: Runs them.
        options: How, and what is kept.

    Returns:
        The tile plus what :func:`darts_segmentation.predict.predict_tile` returns, and ``probabilities-std`` where the
        members are kept.
    """
    names = dict.fromkeys(channel.band for member in members.values() for channel in member.channels)
    bands = get_bands(tile, names, engine.take)
    layers = predict_tile(bands, members, engine, options)
    variables = {name: _variable(tile, layer, _attrs(name)) for name, layer in layers.items()}
    of_members = [layer for name, layer in layers.items() if name.startswith("probabilities-")]
    if of_members:
        attrs = {"long_name": "standard deviation of the members' probabilities of a thaw slump", "units": "1"}
        variables[f"probabilities-{SPREAD_NAME}"] = _variable(tile, spread(of_members), attrs)
    return tile.assign(variables)


def _attrs(name: str) -> dict[str, Any]:
    if not name.startswith("probabilities_"):
        return band_attrs(name)
    return {"long_name": f"probability of {name.removeprefix('probabilities_')}", "units": "1"}


def _variable(tile: "xr.Dataset", values: Any, attrs: dict[str, Any]) -> "xr.Variable":
    import xarray as xr

    encoding = {"grid_mapping": "spatial_ref"} if "spatial_ref" in tile.coords else {}
    return xr.Variable(spatial_dims(tile), values, attrs, encoding)


def spread(layers: list[Any]) -> Any:
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
