"""Spectral indices: whatever spyndex makes of blue, green, red and near infrared, the usual ones as functions."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_preprocessing.backends.interface import Array
from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature, Inputs, Kernels, Request
from darts_utils import Band, ParameterError

if TYPE_CHECKING:
    import spyndex.axioms
    import xarray as xr

_BANDS = {"B": "blue", "G": "green", "R": "red", "N": "nir"}


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
    index = _find_index(name)
    if index is None:
        raise ParameterError(f"spyndex knows no index {name!r}.")
    if foreign := _foreign_bands(index):
        raise ParameterError(
            f"{index.short_name} needs the band(s) {', '.join(foreign)}; expected an index of "
            f"{', '.join(_BANDS.values())}."
        )
    return calculate(_from_spyndex(index), ds, constants=constants)


def find(name: str) -> Feature | None:
    """Return the feature that is an index of spyndex under its name in lower case; None where there is none."""
    index = _find_index(name) if name == name.lower() else None
    if index is None or _foreign_bands(index) or None in _constants(index).values():
        return None
    return _from_spyndex(index)


def _find_index(name: str) -> Any:
    """Return spyndex's description of an index, None where it has none."""
    indices = importlib.import_module("spyndex").indices
    return next((indices[key] for key in indices if key.lower() == name.lower()), None)


def _foreign_bands(index: spyndex.axioms.SpectralIndex) -> list[str]:
    known = importlib.import_module("spyndex").constants
    return [band for band in index.bands if band not in _BANDS and known.get(band) is None]


def _constants(index: spyndex.axioms.SpectralIndex) -> dict[str, float | None]:
    known = importlib.import_module("spyndex").constants
    return {name: known[name].default for name in index.bands if name not in _BANDS}


def _from_spyndex(index: spyndex.axioms.SpectralIndex) -> Feature:
    needs = [_BANDS[band] for band in index.bands if band in _BANDS]
    return _feature(index.short_name.lower(), index.long_name, f"`{index.formula}`", needs)


def _feature(
    name: str,
    long_name: str,
    definition: str,
    needs: list[str],
    span: tuple[float, float] = (-1.0, 1.0),
    constants: Mapping[str, float] = MappingProxyType({}),
    function: Callable[..., xr.Dataset] | None = None,
) -> Feature:
    return Feature(
        band=Band(name, "float32", long_name, "1", *span, float("nan")),
        definition=definition,
        needs=tuple(sorted(needs)),
        kernels=Kernels.of_one(partial(_compute, name)),
        prepare=partial(_prepare, name, constants),
        function=function,
    )


def _prepare(name: str, own: Mapping[str, float], request: Request) -> dict[str, float | None]:
    """Return the constants of an index: as given, else our own, else spyndex's."""
    index = _find_index(name)
    defaults, given = _constants(index), request.options.get("constants", {})
    if unknown := set(given) - set(defaults):
        raise ParameterError(
            f"{index.short_name} has no constant {', '.join(sorted(unknown))}; it has {', '.join(defaults) or 'none'}."
        )
    return {**defaults, **own, **given}


def _compute(name: str, inputs: Inputs) -> Array:
    spyndex = importlib.import_module("spyndex")
    index = _find_index(name)
    bands = {band: inputs[_BANDS[band]] for band in index.bands if band in _BANDS}
    with np.errstate(all="ignore"):
        values = spyndex.computeIndex(index.short_name, bands | inputs.settings[name])
    values = values.astype(np.float32)  # a copy, since some formulas are a band itself
    values[~(abs(values) < np.inf)] = np.nan
    return values


def _usual(
    name: str,
    long_name: str,
    formula: str,
    span: tuple[float, float] = (-1.0, 1.0),
    **constants: float,
) -> Feature:
    """Make the feature of an index, and its function."""

    def function(ds: xr.Dataset, **constants: float) -> xr.Dataset:
        return calculate(name, ds, constants=constants)

    function.__name__ = function.__qualname__ = f"calculate_{name}"
    function.__doc__ = (
        f"Add ``{name}``, the {long_name.lower()}: {formula}.\n\nBands, constants, result and errors: "
        "see :func:`calculate_spectral_index`."
    )
    needs = [band for band in _BANDS.values() if band in formula]
    return _feature(name, long_name, formula, needs, span, constants, function)


FEATURES = (
    _usual(
        "arvi",
        "Atmospherically Resistant Vegetation Index",
        "(nir − (red − γ (red − blue))) / (nir + (red − γ (red − blue)))",
    ),
    _usual("bndvi", "Blue Normalized Difference Vegetation Index", "(nir − blue) / (nir + blue)"),
    _usual("evi", "Enhanced Vegetation Index", "g (nir − red) / (nir + C1 red − C2 blue + L)"),
    _usual("evi2", "Two-Band Enhanced Vegetation Index", "g (nir − red) / (nir + 2.4 red + L)"),
    _usual("exg", "Excess Green Index", "2 green − red − blue"),
    _usual(
        "gemi",
        "Global Environment Monitoring Index",
        "η (1 − η / 4) − (red − 0.125) / (1 − red), η = (2 (nir² − red²) + 1.5 nir + 0.5 red) / (nir + red + 0.5)",
    ),
    _usual("gli", "Green Leaf Index", "(2 green − red − blue) / (2 green + red + blue)"),
    _usual("gndvi", "Green Normalized Difference Vegetation Index", "(nir − green) / (nir + green)"),
    _usual("grvi", "Green Ratio Vegetation Index", "nir / green", (0.0, 10.0)),
    _usual("msavi", "Modified Soil-Adjusted Vegetation Index", "(2 nir + 1 − √((2 nir + 1)² − 8 (nir − red))) / 2"),
    _usual("ndwi", "Normalized Difference Water Index", "(green − nir) / (green + nir)"),
    _usual("ngrdi", "Normalized Green Red Difference Index", "(green − red) / (green + red)"),
    _usual("osavi", "Optimized Soil-Adjusted Vegetation Index", "(nir − red) / (nir + red + 0.16)"),
    # L = 0.5 is Huete's (1988, doi:10.1016/0034-4257(88)90106-X).
    _usual(
        "savi", "Soil-Adjusted Vegetation Index", "(1 + L) (nir − red) / (nir + red + L), L = 0.5 unless given", L=0.5
    ),
    _usual("sr", "Simple Ratio", "nir / red", (0.0, 10.0)),
    _usual("tgi", "Triangular Greenness Index", "−(190 (red − green) − 120 (red − blue)) / 2", (-10.0, 10.0)),
    _usual("tvi", "Transformed Vegetation Index", "√((nir − red) / (nir + red) + 0.5)", (0.0, 1.25)),
    _usual("vari", "Visible Atmospherically Resistant Index", "(green − red) / (green + red − blue)"),
)
