"""Spectral indices: NDVI, and what spyndex knows of the bands blue, green, red and near infrared."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_preprocessing.backends import backend_of
from darts_preprocessing.grid import check_dataset, read_band
from darts_utils import MissingBandError, ParameterError, band_attrs, step

if TYPE_CHECKING:
    import xarray as xr

_BANDS = {"B": "blue", "G": "green", "R": "red", "N": "nir"}


def calculate_ndvi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``ndvi``: (nir − red) / (nir + red), both clipped to 0…1 first, the result clipped to −1…1.

    Args:
        ds: Tile with ``red`` and ``nir``, (y, x) float32 reflectance, NaN where there is none. Not changed.

    Returns:
        A new Dataset with ``ndvi``, (y, x) float32, −1 to 1, NaN where a band is NaN or both are 0 or less.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If a band cannot be reflectance from 0 to 1.
        GridError: If a band has other dimensions than (y, x).
        MissingBandError: If a band is absent.
    """
    _require(ds, ("red", "nir"), "ndvi")
    backend = backend_of(ds["nir"].data, ["ndvi"])
    with backend.active(), step("ndvi"):
        nir, red = (read_band(ds, name, backend) for name in ("nir", "red"))
        values = backend.ndvi(nir, red)
    return _add(ds, "ndvi", values, band_attrs("ndvi"))


def calculate_spectral_index(ds: xr.Dataset, name: str, **constants: float) -> xr.Dataset:
    """Add a spectral index that spyndex knows, as a variable with its name in lower case.

    The formula is that of the Awesome Spectral Indices list (Montero and others 2023, doi:10.1038/s41597-023-02096-0).

    Args:
        ds: Tile with the bands that the index needs, out of ``blue``, ``green``, ``red`` and ``nir``: (y, x) float32
            reflectance, NaN where there is none. Not changed.
        name: Short name of the index in spyndex, in any case: "EVI", "savi".
        **constants: Constants of the formula, for example ``L=0.5``. Those not given take spyndex's default.

    Returns:
        A new Dataset with the index, (y, x) float32, NaN where a band is NaN or the formula has no finite value.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If a band cannot be reflectance from 0 to 1.
        GridError: If a band has other dimensions than (y, x).
        MissingBandError: If a band is absent.
        ParameterError: If spyndex does not know the index, it needs other bands, or a constant is not one of its own.
    """
    spyndex = importlib.import_module("spyndex")
    index = _find_index(spyndex, name)
    needed = [band for band in index.bands if band in _BANDS]
    defaults = {key: spyndex.constants[key].default for key in index.bands if key not in _BANDS}
    if unknown := set(constants) - set(defaults):
        raise ParameterError(
            f"{index.short_name} has no constant {', '.join(sorted(unknown))}; it has {', '.join(defaults) or 'none'}."
        )
    _require(ds, [_BANDS[band] for band in needed], index.short_name)
    backend = backend_of(ds[_BANDS[needed[0]]].data, ())
    with backend.active(), step("spectral index"), np.errstate(all="ignore"):
        params: dict[str, Any] = {band: read_band(ds, _BANDS[band], backend) for band in needed}
        values = spyndex.computeIndex(index.short_name, params | defaults | constants)
    values = values.astype(np.float32)  # a copy, since some formulas are a band itself
    values[~(abs(values) < np.inf)] = np.nan
    return _add(ds, index.short_name.lower(), values, {"long_name": index.long_name, "units": "1"})


def _find_index(spyndex: Any, name: str) -> Any:
    by_lower = {key.lower(): key for key in spyndex.indices}
    key = by_lower.get(name.lower())
    if key is None:
        raise ParameterError(f"spyndex knows no index {name!r}.")
    index = spyndex.indices[key]
    if foreign := [band for band in index.bands if band not in _BANDS and spyndex.constants.get(band) is None]:
        raise ParameterError(
            f"{key} needs the band(s) {', '.join(foreign)}; expected an index of {', '.join(_BANDS.values())}."
        )
    return index


def _require(ds: xr.Dataset, names: Any, what: str) -> None:
    check_dataset(ds)
    if missing := [name for name in names if name not in ds]:
        raise MissingBandError(
            f"{what} needs {', '.join(missing)}; the Dataset holds {', '.join(map(str, ds.data_vars))}."
        )


def _add(ds: xr.Dataset, name: str, values: Any, attrs: dict[str, Any]) -> xr.Dataset:
    import xarray as xr

    variable = xr.Variable(("y", "x"), values, attrs, encoding={"grid_mapping": "spatial_ref"})
    return ds.assign({name: variable})
