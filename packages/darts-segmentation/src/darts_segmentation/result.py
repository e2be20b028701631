"""Add probabilities to a tile."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.engine import Prediction
from darts_utils import band_attrs

if TYPE_CHECKING:
    import xarray as xr

SPREAD_NAME = "std"
_BLOCK_ROWS = 256


def with_probabilities(tile: "xr.Dataset", prediction: Prediction) -> "xr.Dataset":
    """Return a new tile with everything in `tile` and the probabilities of a prediction.

    Args:
        tile: The tile. Not changed.
        prediction: Probabilities on the tile's grid.

    Returns:
        The tile plus ``probabilities`` and, where the prediction holds members, ``probabilities-{member}`` and
        ``probabilities-std``.
    """
    layers = {"probabilities": prediction.mean}
    layers |= {f"probabilities-{name}": layer for name, layer in prediction.members.items()}
    variables = {name: _variable(tile, layer, band_attrs(name)) for name, layer in layers.items()}
    if prediction.members:
        attrs = {"long_name": "standard deviation of the members' probabilities of a thaw slump", "units": "1"}
        variables[f"probabilities-{SPREAD_NAME}"] = _variable(tile, spread(list(prediction.members.values())), attrs)
    return tile.assign(variables)


def _variable(tile: "xr.Dataset", values: NDArray[np.float32], attrs: dict[str, Any]) -> "xr.Variable":
    import xarray as xr

    encoding = {"grid_mapping": "spatial_ref"} if "spatial_ref" in tile.coords else {}
    return xr.Variable(("y", "x"), values, attrs, encoding)


def spread(layers: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the standard deviation over layers, pixel by pixel: the root of the mean squared distance from the mean.

    Args:
        layers: float32 of shape (y, x) each.

    Returns:
        float32 of shape (y, x), NaN where a layer is NaN.

    Examples:
        >>> spread([np.array([[0.0, 1.0]], "float32"), np.array([[1.0, 1.0]], "float32")])
        array([[0.5, 0. ]], dtype=float32)
    """
    result = np.empty_like(layers[0])
    for top in range(0, len(result), _BLOCK_ROWS):
        rows = slice(top, top + _BLOCK_ROWS)
        result[rows] = np.std([layer[rows] for layer in layers], axis=0, dtype=np.float64)
    return result
