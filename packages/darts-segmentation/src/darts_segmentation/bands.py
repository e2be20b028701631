"""Read the bands of a tile: where they are valid, and patch by patch as the networks want them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.arrays import Array, namespace
from darts_segmentation.grid import PatchGrid
from darts_utils import (
    GridError,
    MissingBandError,
    check_dataset,
    check_north_up,
    check_units,
    get_band,
    mask_declared,
    row_blocks,
    share_rows,
    upright,
)

if TYPE_CHECKING:
    import torch
    import xarray as xr


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


def distinct_channels(members: Iterable[Sequence[Channel]]) -> tuple[Channel, ...]:
    """Return the channels of all members of an ensemble in the order in which they first appear.

    Examples:
        >>> red, wide, nir = Channel("red", -0.1, 0.5), Channel("red", 0, 1), Channel("nir", -0.1, 0.5)
        >>> [(c.band, c.high) for c in distinct_channels([[red, nir], [wide, red]])]
        [('red', 0.5), ('nir', 0.5), ('red', 1)]
    """
    return tuple(dict.fromkeys(channel for member in members for channel in member))


def _of_numpy(arrays: Sequence[object]) -> list[NDArray]:
    return [np.asarray(array) for array in arrays]


def get_bands(
    tile: "xr.Dataset",
    names: Iterable[str],
    take: "Callable[[Sequence[object]], list[NDArray] | list[torch.Tensor]]" = _of_numpy,
) -> "dict[str, NDArray | torch.Tensor]":
    """Return the named bands of a tile as arrays of shape (y, x), without a copy where that is possible.

    Args:
        tile: The tile. Pixels that have the value of a band's ``_FillValue`` or ``nodata``, in its attributes or its
            encoding, become NaN.
        names: Names of the bands.
        take: Makes arrays of numpy, or tensors of torch, from those of the tile (of numpy, dask or cupy): all of one
            kind.

    Returns:
        Arrays by name.

    Raises:
        InputTypeError: If `tile` is no Dataset.
        MissingBandError: If the tile lacks a band.
        GridError: If a band has other dimensions than those of rows and columns, the tile is empty or not north-up, or
            a band does not hold numbers.
        ValueRangeError: If a band declares another unit than that of the band table.
    """
    check_dataset(tile)
    names = list(names)
    missing = [name for name in names if name not in tile.variables]
    if missing:
        present = ", ".join(str(name) for name in tile.data_vars)
        raise MissingBandError(f"The tile lacks {', '.join(missing)}, which the model needs; it has {present}.")
    check_north_up(tile, "The tile")
    arrays = {}
    for name in names:
        check_units(name, tile[name].attrs, taker="the model")
        band = tile[name]
        array = upright(band, f"Band {name!r}")
        if not band.size:
            raise GridError(f"The tile has the shape {band.shape}; expected at least one pixel.")
        if band.dtype.kind not in "buif":
            raise GridError(f"Band {name!r} has the type {band.dtype}; expected real numbers.")
        arrays[name] = array.data
    taken = zip(names, take(list(arrays.values())), strict=True)
    return {name: mask_declared(array, tile[name].attrs, tile[name].encoding) for name, array in taken}


def valid_pixels(bands: Mapping[str, Any], members: Iterable[Sequence[Channel]]) -> Any:
    """Tell where every member has a valid value in at least one of its bands.

    A band says something about that where it has a mark for missing pixels in the band table, whatever type it is
    stored as: NaN, with which what is infinite is missing as well, or a value. Bands without one (trends, masks) say
    nothing, unless no other band of the member does and they are real numbers, of which NaN is missing. A member all
    of whose bands say nothing is content everywhere.

    Args:
        bands: Arrays, or tensors, of shape (y, x) by name.
        members: The channels of each member.

    Returns:
        bool of shape (y, x), True where valid: an array, or a tensor where the bands are.

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
    speaking = [_speaking(dict.fromkeys(channel.band for channel in member), tests) for member in members]
    distinct = list({tuple(sorted(names)): names for names in speaking if names}.values())
    first: Array = next(iter(bands.values()))
    if not isinstance(first, np.ndarray):
        known = [reduce(or_, (tests[name](bands[name]) for name in names)) for names in distinct]  # type: ignore[misc]
        return reduce(and_, known) if known else namespace(first).ones_like(first, dtype=bool)
    valid: Any = np.ones(first.shape, dtype=bool)

    def look_at_rows(begin: int, end: int) -> None:
        for rows in map(slice, *zip(*row_blocks(begin, end, valid.shape[1]), strict=True)):
            for names in distinct:
                valid[rows] &= _valid_in_any([(tests[name], bands[name][rows]) for name in names])

    share_rows(look_at_rows, valid.shape)
    return valid


_Test = Callable[[Any], Any]


def _speaking(names: Iterable[str], tests: Mapping[str, _Test | None]) -> list[str]:
    """Return the bands of a member that say which pixels are valid."""
    able = [name for name in names if tests[name] is not None]
    return [name for name in able if get_band(name).nodata is not None] or able


def _validity_test(name: str, array: Array) -> _Test | None:
    """Return the function that finds valid values of a band, None where every value of it is valid."""
    is_real = array.dtype.kind == "f" if isinstance(array, np.ndarray) else array.is_floating_point()
    nodata = get_band(name).nodata
    if nodata is None or np.isnan(nodata):
        return _is_finite if is_real else None
    if is_real:
        return lambda values: _is_finite(values) & (values != nodata)
    return lambda values: values != nodata


def _is_finite(values: Any) -> Any:
    return namespace(values).isfinite(values)


def _valid_in_any(bands: Sequence[tuple[_Test | None, NDArray]]) -> NDArray[np.bool_]:
    """Return where any of the bands of numpy is valid."""
    valid = np.zeros(bands[0][1].shape, dtype=bool)
    for test, values in bands:
        if valid.all():
            break
        if test is not None:
            valid |= test(values)
    return valid


@dataclass(frozen=True)
class TilePatches:
    """The patches of a tile as they are, mirrored where they leave it.

    Attributes:
        grid: Where they lie.
        channels: What they show.
        bands: For each channel the array of shape (y, x) that holds it, any real dtype: all of numpy, or all tensors.
    """

    grid: PatchGrid
    channels: tuple[Channel, ...]
    bands: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a patch: (channels, y, x)."""
        return len(self.bands), self.grid.y.patch_size, self.grid.x.patch_size

    def copy(self, position: tuple[int, int], out: NDArray[np.float32]) -> None:
        """Copy a patch of bands of numpy.

        Args:
            position: Row and column of the patch in the grid.
            out: float32 of shape (channels, y, x), overwritten.
        """
        ys, xs = self.grid.y.source(position[0]), self.grid.x.source(position[1])
        window: tuple[slice | NDArray, ...] = (
            (ys, xs) if isinstance(ys, slice) or isinstance(xs, slice) else np.ix_(ys, xs)
        )
        for band, values in zip(self.bands, out, strict=True):
            np.copyto(values, band[window], casting="unsafe")
