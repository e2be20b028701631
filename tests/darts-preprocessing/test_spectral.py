"""Spectral indices against their formulas, written down here in float64."""

import numpy as np
import pytest
import spyndex
import xarray as xr

import darts_preprocessing as dp
from darts_preprocessing.features import spectral_indices
from darts_utils import MissingBandError, ParameterError
from support import preprocessing as oracle


def _gemi(b, g, r, n):
    eta = (2 * (n**2 - r**2) + 1.5 * n + 0.5 * r) / (n + r + 0.5)
    return eta * (1 - 0.25 * eta) - (r - 0.125) / (1 - r)


FORMULAS = {
    "arvi": lambda b, g, r, n: (n - (r - 1.0 * (r - b))) / (n + (r - 1.0 * (r - b))),
    "bndvi": lambda b, g, r, n: (n - b) / (n + b),
    "evi": lambda b, g, r, n: 2.5 * (n - r) / (n + 6 * r - 7.5 * b + 1),
    "evi2": lambda b, g, r, n: 2.5 * (n - r) / (n + 2.4 * r + 1),
    "exg": lambda b, g, r, n: 2 * g - r - b,
    "gemi": _gemi,
    "gli": lambda b, g, r, n: (2 * g - r - b) / (2 * g + r + b),
    "gndvi": lambda b, g, r, n: (n - g) / (n + g),
    "grvi": lambda b, g, r, n: n / g,
    "msavi": lambda b, g, r, n: (2 * n + 1 - np.sqrt((2 * n + 1) ** 2 - 8 * (n - r))) / 2,
    "ndwi": lambda b, g, r, n: (g - n) / (g + n),
    "ngrdi": lambda b, g, r, n: (g - r) / (g + r),
    "osavi": lambda b, g, r, n: (n - r) / (n + r + 0.16),
    "savi": lambda b, g, r, n: 1.5 * (n - r) / (n + r + 0.5),
    "sr": lambda b, g, r, n: n / r,
    "tgi": lambda b, g, r, n: -0.5 * (190 * (r - g) - 120 * (r - b)),
    "tvi": lambda b, g, r, n: np.sqrt((n - r) / (n + r) + 0.5),
    "vari": lambda b, g, r, n: (g - r) / (g + r - b),
}


@pytest.fixture
def tile():
    return oracle.make_tile(oracle.make_geobox((40, 50)))


def bands(tile):
    return [tile[name].values.astype(np.float64) for name in ("blue", "green", "red", "nir")]


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(tile, name):
    with np.errstate(all="ignore"):
        expected = FORMULAS[name](*bands(tile))
    result = getattr(dp, f"calculate_{name}")(tile)
    assert list(result.data_vars) == [*tile.data_vars, name]
    ours = result[name]
    assert ours.dtype == np.float32
    assert ours.attrs["long_name"]
    well_behaved = np.abs(expected) < 100  # near a zero of the denominator, float32 input decides little
    close = np.isclose(ours, expected, rtol=1e-3, atol=1e-4)
    assert (close | ~well_behaved).mean() > 0.999
    assert np.isnan(ours.values[np.isnan(expected)]).all()
    assert not np.isinf(ours).any()


def test_every_index_of_the_package_is_tested_here():
    assert {feature.name for feature in spectral_indices.FEATURES} == set(FORMULAS)


def test_what_is_said_of_an_index_is_what_spyndex_says():
    names = {"B": "blue", "G": "green", "R": "red", "N": "nir"}
    theirs = {key.lower(): index for key, index in spyndex.indices.items()}
    for name in FORMULAS:
        feature = dp.FEATURES[name]
        assert feature.band.long_name == theirs[name].long_name
        assert set(feature.needs) == {names[band] for band in theirs[name].bands if band in names}


def test_ndvi_is_clipped_and_spyndex_is_not_asked(tile):
    _, _, r, n = bands(tile)
    r, n = np.clip(r, 0, 1), np.clip(n, 0, 1)
    with np.errstate(invalid="ignore"):
        expected = (n - r) / (n + r)
    np.testing.assert_allclose(dp.calculate_ndvi(tile).ndvi, expected, rtol=1e-5, atol=1e-7)


def test_any_index_and_its_constants(tile):
    _, _, r, n = bands(tile)
    with np.errstate(all="ignore"):
        expected = (0.3 * n - r) / (0.3 * n + r)
        ours = dp.calculate_spectral_index(tile, "WDRVI", alpha=0.3).wdrvi
        close = np.isclose(ours, expected, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert (close | (np.abs(expected) > 100)).all()
    savi = dp.calculate_savi(tile, L=1.0).savi.values
    with np.errstate(all="ignore"):
        assert np.isclose(savi, 2 * (n - r) / (n + r + 1), rtol=1e-4, atol=1e-5, equal_nan=True).all()


def test_an_index_that_is_a_band_does_not_change_it(tile):
    """Some formulas are a band itself; infinite values become NaN in the result only."""
    tile["nir"].values[3, 4] = np.inf
    ours = dp.calculate_spectral_index(tile, "CSIwoSWIR")
    assert np.isnan(ours.csiwoswir[3, 4])
    assert np.isinf(tile.nir[3, 4])


def test_division_by_zero_is_missing():
    zero, one = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    ds = xr.Dataset({"red": (("y", "x"), zero), "nir": (("y", "x"), one), "green": (("y", "x"), zero)})
    assert np.isnan(dp.calculate_sr(ds).sr).all()
    assert np.isnan(dp.calculate_ngrdi(ds).ngrdi).all()


def test_mistakes_are_named(tile):
    with pytest.raises(MissingBandError, match="evi needs blue; the Dataset holds green"):
        dp.calculate_evi(tile.drop_vars("blue"))
    with pytest.raises(MissingBandError, match="ndvi needs nir"):
        dp.calculate_ndvi(tile.drop_vars("nir"))
    with pytest.raises(ParameterError, match="knows no index 'NOPE'"):
        dp.calculate_spectral_index(tile, "NOPE")
    with pytest.raises(ParameterError, match="NBR needs the band"):
        dp.calculate_spectral_index(tile, "nbr")
    with pytest.raises(ParameterError, match="SAVI has no constant l; it has L"):
        dp.calculate_savi(tile, l=0.2)
