"""Read the bands of a tile: where they are valid, and patch by patch as the networks want them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.grid import PatchGrid
from darts_utils import GridError, MissingBandError, get_band, usable_cpus

if TYPE_CHECKING:
    import xarray as xr

_BLOCK_ROWS = 256
_THREADS = 8


@dataclass(frozen=True)
class Channel:
    """A band, scaled: what one input channel of a network shows.

    Attributes:
        band: Name of the band.
        low: Value that becomes 0, in the band's unit.
        high: Value that becomes 1.
    """

    band: str
    low: float
    high: float


def distinct_channels(members: Iterable[Sequence[Channel]]) -> list[Channel]:
    """Return the channels of all members of an ensemble in the order in which they first appear.

    Examples:
        >>> red, wide, nir = Channel("red", -0.1, 0.5), Channel("red", 0, 1), Channel("nir", -0.1, 0.5)
        >>> [(c.band, c.high) for c in distinct_channels([[red, nir], [wide, red]])]
        [('red', 0.5), ('nir', 0.5), ('red', 1)]
    """
    return list(dict.fromkeys(channel for member in members for channel in member))


def get_bands(tile: "xr.Dataset", names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return the named bands of a tile as numpy arrays of shape (y, x), without a copy where they are in memory.

    Args:
        tile: The tile.
        names: Names of the bands.

    Returns:
        Arrays by name.

    Raises:
        MissingBandError: If the tile lacks a band.
        GridError: If a band does not lie on the tile's (y, x), the tile is empty, or a band does not hold numbers.
    """
    names = list(names)
    missing = [name for name in names if name not in tile.variables]
    if missing:
        present = ", ".join(str(name) for name in tile.data_vars)
        raise MissingBandError(f"The tile lacks {', '.join(missing)}, which the model needs; it has {present}.")
    arrays = {}
    for name in names:
        band = tile[name]
        if set(band.dims) != {"y", "x"}:
            raise GridError(f"Band {name!r} has the dimensions {band.dims}; expected ('y', 'x').")
        arrays[name] = band.transpose("y", "x").values
        if not arrays[name].size:
            raise GridError(f"The tile has the shape {arrays[name].shape}; expected at least one pixel.")
        if arrays[name].dtype.kind not in "buif":
            raise GridError(f"Band {name!r} has the type {arrays[name].dtype}; expected real numbers.")
    return arrays


def valid_pixels(bands: Mapping[str, NDArray[Any]], members: Iterable[Sequence[Channel]]) -> NDArray[np.bool_]:
    """Tell where every member has a valid value in at least one of its bands.

    A band says something about that where it has a mark for missing pixels: NaN in bands of real numbers, the nodata
    value of the band table in others. Bands without one (masks, for example) say nothing. A member all of whose bands
    say nothing is content everywhere.

    Args:
        bands: Arrays of shape (y, x) by name.
        members: The channels of each member.

    Returns:
        bool of shape (y, x), True where valid.

    Examples:
        >>> nan = float("nan")
        >>> bands = {"red": np.array([[nan, nan, 0.1]]), "dem": np.array([[nan, 5.0, nan]])}
        >>> red, dem = Channel("red", -0.1, 0.5), Channel("dem", -100, 3000)
        >>> valid_pixels(bands, [[red, dem]])
        array([[False,  True,  True]])
        >>> valid_pixels(bands, [[red, dem], [red]])
        array([[False, False,  True]])
    """
    tests = {name: _validity_test(name, array) for name, array in bands.items()}
    speaking = [
        [name for name in dict.fromkeys(channel.band for channel in member) if tests[name] is not None]
        for member in members
    ]
    distinct = list({tuple(sorted(names)): names for names in speaking if names}.values())
    valid = np.ones(next(iter(bands.values())).shape, dtype=bool)

    def look_at_rows(top: int) -> None:
        rows = slice(top, top + _BLOCK_ROWS)
        for names in distinct:
            valid[rows] &= _valid_in_any([(tests[name], bands[name][rows]) for name in names])

    with ThreadPoolExecutor(min(_THREADS, usable_cpus())) as pool:
        list(pool.map(look_at_rows, range(0, len(valid), _BLOCK_ROWS)))
    return valid


_Test = Callable[[NDArray[Any]], NDArray[np.bool_]]


def _validity_test(name: str, array: NDArray[Any]) -> _Test | None:
    """Return the function that finds valid values of a band, None where every value of it is valid."""
    if array.dtype.kind == "f":
        return lambda values: ~np.isnan(values)
    nodata = get_band(name).nodata
    if nodata is None or np.isnan(nodata):
        return None
    return lambda values: values != nodata


def _valid_in_any(bands: Sequence[tuple[_Test | None, NDArray[Any]]]) -> NDArray[np.bool_]:
    valid = np.zeros(bands[0][1].shape, dtype=bool)
    for test, values in bands:
        if test is not None:
            valid |= test(values)
        if valid.all():
            break
    return valid


def copy_patch(bands: Sequence[NDArray[Any]], grid: PatchGrid, row: int, column: int, out: NDArray[np.float32]) -> None:
    """Copy a patch of each band as it is, mirrored where the patch leaves the tile.

    Args:
        bands: Arrays of shape (y, x), any numeric dtype.
        grid: The patches.
        row: Row of the patch in the grid.
        column: Column of the patch in the grid.
        out: float32 of shape (bands, patch, patch), overwritten.
    """
    ys, xs = grid.y.source(row), grid.x.source(column)
    window: Any = (ys, xs) if isinstance(ys, slice) or isinstance(xs, slice) else np.ix_(ys, xs)
    for band, values in zip(bands, out, strict=True):
        np.copyto(values, band[window], casting="unsafe")
