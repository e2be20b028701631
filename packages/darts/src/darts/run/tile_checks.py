"""Find what is wrong with a loaded tile before anything is fetched for it or computed from it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from darts.run.footprint import check_grid
from darts_export import export_variables
from darts_utils import MissingBandError, check_dataset, check_quality, time_of, to_utc, upright

if TYPE_CHECKING:
    import xarray as xr

_QUALITY = "quality_data_mask"


def check_tile(tile: "xr.Dataset", export_bands: Iterable[str], loaded: Iterable[str]) -> None:
    """Pass a tile that lacks nothing that the later stages would miss, after the networks or at the export.

    Args:
        tile: The tile as it was loaded.
        export_bands: What is to be exported.
        loaded: Names of the variables that loading is to give and that can be exported.

    Raises:
        InputTypeError: If it is no Dataset.
        GridError: If it does not lie on a grid in metres, or its quality is no plane.
        MissingBandError: If it lacks the quality, or a variable that is exported as it was loaded.
        ParameterError: If its time cannot be read.
        ValueRangeError: If its quality has other values than 0, 1 and 2.
    """
    check_dataset(tile)
    check_grid(tile)
    to_utc(time_of(tile))
    exported = export_variables(export_bands) & set(loaded)
    for name in (_QUALITY, *sorted(exported)):
        if name not in tile:
            present = ", ".join(map(str, tile.data_vars)) or "none"
            raise MissingBandError(f"The tile has no variable {name!r}; it has {present}.")
    quality = upright(tile[_QUALITY], _QUALITY)
    if quality.chunks is None:
        check_quality(quality.data, quality.attrs, quality.encoding)
