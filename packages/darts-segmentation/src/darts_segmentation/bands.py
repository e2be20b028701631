"""Read the bands of a tile: where they are valid, and patch by patch as the networks want them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.arrays import namespace
from darts_segmentation.grid import PatchGrid
from darts_utils import (
    GridError,
    MissingBandError,
    check_dataset,
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


def get_bands(
    tile: "xr.Dataset", names: Iterable[str], take: Callable[[Any], Any] = np.asarray
) -> "dict[str, NDArray[Any] | torch.Tensor]":
    """Return the named bands of a tile as arrays of shape (y, x), without a copy where that is possible.

    Args:
        tile: The tile. Pixels that have the value of a band's ``_FillValue`` or ``nodata``, in its attributes or its
            encoding, become NaN.
        names: Names of the bands.
        take: Makes an array of numpy, or a tensor of torch, from one of the tile's (of numpy, dask or cupy).

    Returns:
        Arrays by name.

    Raises:
        InputTypeError: If `tile` is no Dataset.
        MissingBandError: If the tile lacks a band.
        GridError: If a band has other dimensions than those of rows and columns, the tile is empty, or a band does not
            hold numbers.
    """
    check_dataset(tile)
    names = list(names)
    missing = [name for name in names if name not in tile.variables]
    if missing:
        present = ", ".join(str(name) for name in tile.data_vars)
        raise MissingBandError(f"The tile lacks {', '.join(missing)}, which the model needs; it has {present}.")
    arrays = {}
    for name in names:
        band = tile[name]
        array = upright(band, f"Band {name!r}")
        if not band.size:
            raise GridError(f"The tile has the shape {band.shape}; expected at least one pixel.")
        if band.dtype.kind not in "buif":
            raise GridError(f"Band {name!r} has the type {band.dtype}; expected real numbers.")
        arrays[name] = mask_declared(take(array.data), band.attrs, band.encoding)
    return arrays


def valid_pixels(bands: Mapping[str, Any], members: Iterable[Sequence[Channel]]) -> NDArray[np.bool_]:
    """Tell where every member has a valid value in at least one of its bands.

    A band says something about that where it has a mark for missing pixels: NaN in bands of real numbers, the nodata
    value of the band table in others. Bands without one (masks, for example) say nothing. A member all of whose bands
    say nothing is content everywhere.

    Args:
        bands: Arrays or tensors of shape (y, x) by name.
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
    # What tensors say lies on their device; it comes to the host once for each set of bands.
    on_device = [_any_valid_tensor([(tests[name], bands[name]) for name in names]) for names in distinct]
    valid = np.ones(next(iter(bands.values())).shape, dtype=bool)

    def look_at_rows(first: int, end: int) -> None:
        for rows in map(slice, *zip(*row_blocks(first, end, valid.shape[1]), strict=True)):
            for names, known in zip(distinct, on_device, strict=True):
                on_host = [(tests[name], bands[name][rows]) for name in names if isinstance(bands[name], np.ndarray)]
                valid[rows] &= _valid_in_any(on_host, None if known is None else known[rows])

    share_rows(look_at_rows, valid.shape)
    return valid


_Test = Callable[[Any], Any]


def _validity_test(name: str, array: Any) -> _Test | None:
    """Return the function that finds valid values of a band, None where every value of it is valid."""
    if array.dtype.kind == "f" if isinstance(array, np.ndarray) else array.is_floating_point():
        return lambda values: ~namespace(values).isnan(values)
    nodata = get_band(name).nodata
    if nodata is None or np.isnan(nodata):
        return None
    return lambda values: values != nodata


def _any_valid_tensor(bands: Sequence[tuple[_Test | None, Any]]) -> NDArray[np.bool_] | None:
    """Return where any of the tensors among bands is valid, None where there is none."""
    found = [test(values) for test, values in bands if test is not None and not isinstance(values, np.ndarray)]
    if not found:
        return None
    valid = found[0]
    for one in found[1:]:
        valid |= one
    return valid.cpu().numpy()


def _valid_in_any(
    bands: Sequence[tuple[_Test | None, NDArray[Any]]], known: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Return where any of the bands of numpy is valid, or is known to be so."""
    valid = np.zeros(bands[0][1].shape, dtype=bool) if known is None else known.copy()
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
        bands: For each channel the array of shape (y, x) that holds it: of numpy, or a tensor of torch, any real dtype.
    """

    grid: PatchGrid
    channels: tuple[Channel, ...]
    bands: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a patch: (channels, y, x)."""
        return len(self.bands), self.grid.y.patch_size, self.grid.x.patch_size

    def copy(self, place: tuple[int, int], out: NDArray[np.float32]) -> None:
        """Copy the bands of a patch that numpy holds; those of tensors are left as they are.

        Args:
            place: Row and column of the patch in the grid.
            out: float32 of shape (channels, y, x), overwritten.
        """
        ys, xs = self.grid.y.source(place[0]), self.grid.x.source(place[1])
        window: Any = (ys, xs) if isinstance(ys, slice) or isinstance(xs, slice) else np.ix_(ys, xs)
        for band, values in zip(self.bands, out, strict=True):
            if isinstance(band, np.ndarray):
                np.copyto(values, band[window], casting="unsafe")

    def copy_tensors(self, place: tuple[int, int], out: "torch.Tensor") -> None:
        """Copy the bands of a patch that tensors hold; see :meth:`copy`."""
        ys, xs = self.grid.y.source(place[0]), self.grid.x.source(place[1])
        for band, values in zip(self.bands, out, strict=True):
            if not isinstance(band, np.ndarray):
                values.copy_(band[ys][:, xs])
