"""Elevations that no place on Earth has: marks of missing pixels, which would be read as measured ground."""

from collections.abc import Mapping

import numpy as np

from darts_utils import ValueRangeError, elevation_fault, no_elevation, row_blocks

LOWEST_M, HIGHEST_M = -500.0, 9000.0
"""Beyond the shore of the Dead Sea and Mount Everest, whatever the elevations are counted from."""


def check_elevations(arrays: Mapping[str, np.ndarray]) -> None:
    """Pass elevations that can be some; every pixel counts, for terrain features are made of each.

    Args:
        arrays: What is to be written, by name; without `dem` and `arcticdem_data_mask` nothing is looked at.

    Raises:
        ValueRangeError: If an elevation lies outside −500…9000 m, or is NaN where the mask says that it was measured,
            or the mask has other values than 0 and 1.
    """
    if not {"dem", "arcticdem_data_mask"} <= set(arrays):
        return
    dem, mask = arrays["dem"], arrays["arcticdem_data_mask"]
    if mask.size and mask.max() > 1:
        raise ValueRangeError(
            f"arcticdem_data_mask holds {mask.max()}; expected 1 where the elevation was measured and 0 elsewhere."
        )
    blocks = [slice(*ends) for ends in row_blocks(0, *dem.shape)]
    if any(_impossible(dem[rows], mask[rows]).any() for rows in blocks):
        wrong = _impossible(dem, mask)
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        said = "measured" if mask[row, column] else "not measured"
        raise ValueRangeError(
            f"dem is {dem[row, column]:g} at row {row}, column {column} of what is to be written, {said} according to "
            f"arcticdem_data_mask, and no elevation at {np.count_nonzero(wrong)} pixels in all; expected metres from "
            f"{LOWEST_M:g} to {HIGHEST_M:g}. Where there is none, make dem NaN and the mask 0 "
            f"(`known = (dem >= {LOWEST_M:g}) & (dem <= {HIGHEST_M:g}); dem[~known] = np.nan; mask[~known] = 0`)."
        )


def check_possible(arrays: Mapping[str, np.ndarray]) -> None:
    """Pass elevations of a provider or another program, which may have spikes, but no marks of missing pixels.

    Args:
        arrays: As for :func:`check_elevations`.

    Raises:
        ValueRangeError: If :func:`darts_utils.no_elevation` finds one, or the mask has other values than 0 and 1.
    """
    if not {"dem", "arcticdem_data_mask"} <= set(arrays):
        return
    dem, mask = arrays["dem"], arrays["arcticdem_data_mask"]
    if elevation_fault(dem).any():
        row, column = np.unravel_index(no_elevation(dem).argmax(), dem.shape)
        raise ValueRangeError(f"dem is {dem[row, column]:g} at row {row}, column {column}, which is no elevation.")
    if mask.size and mask.max() > 1:
        raise ValueRangeError(f"arcticdem_data_mask holds {mask.max()}; expected 0 and 1.")


def _impossible(dem: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if dem.size and dem.min() >= LOWEST_M and dem.max() <= HIGHEST_M:  # neither is true where one is NaN
        return np.zeros(1, bool)
    wrong = ~((dem >= LOWEST_M) & (dem <= HIGHEST_M))
    wrong &= (mask == 1) | ~np.isnan(dem)
    return wrong
