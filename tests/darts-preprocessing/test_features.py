"""The registry: every feature is found where it is defined, has all it needs, and comes out of preprocess_v2."""

import importlib
import inspect
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import darts_preprocessing as dp
from darts_preprocessing import features
from darts_utils import BANDS, InputTypeError, ParameterError, UnknownBandError, band_attrs, declared_bands, get_band
from support import preprocessing as oracle

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

ROWS, COLS = 60, 70
NAMES = tuple(dp.FEATURES)


@pytest.fixture(scope="module")
def given():
    """A tile, and auxiliary data with a wide margin, on the very grid of the tile, so that nothing is resampled."""
    grid = oracle.make_geobox((ROWS, COLS))
    wide = oracle.make_geobox((ROWS + 80, COLS + 80), origin=(500_000.0 - 120, 7_700_000.0 + 120))
    dem = oracle.make_dem(oracle.rough(wide.shape, np.random.default_rng(4)), wide)
    dem["arcticdem_data_mask"] = (dem.dem.dims, np.ones(wide.shape, np.uint8))
    trend = np.arange(wide.shape[0] * wide.shape[1]).reshape(wide.shape) % 251
    tcvis = dem.drop_vars(["dem", "arcticdem_data_mask"]).assign(
        {name: (dem.dem.dims, trend.astype(np.uint8)) for name in dp.FEATURES if name.startswith("tc_")}
    )
    return oracle.make_tile(grid), dem, tcvis


@pytest.fixture(scope="module")
def result(given):
    return dp.preprocess_v2(*given, device="cpu", features=NAMES)


def test_each_module_of_the_package_defines_features():
    modules = [
        importlib.import_module(f"{features.__name__}.{found.name}")
        for found in pkgutil.iter_modules(features.__path__)
    ]
    defined = [feature for module in modules for feature in module.FEATURES]
    assert sorted(feature.name for feature in defined) == sorted(NAMES)
    for module in modules:
        own = {name for name, value in vars(module).items() if name.startswith("calculate_") and callable(value)}
        functions = {feature.function.__name__ for feature in module.FEATURES if feature.function}
        assert own - {"calculate_spectral_index"} <= functions
        assert functions <= set(dp.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_says_what_it_is_and_comes_out_of_preprocess_v2(result, name):
    feature = dp.FEATURES[name]
    assert feature.definition
    assert get_band(name) is feature.band is BANDS[name]
    assert BANDS[name].low < BANDS[name].high
    assert (feature.kernels is None) == (feature.auxiliary is not None)
    assert result[name].dtype == feature.band.dtype
    assert result[name].shape == (ROWS, COLS)
    assert band_attrs(name).items() <= result[name].attrs.items()
    values = result[name].values.astype(np.float64)
    valid = values[~np.isnan(values)]
    assert valid.size > ROWS * COLS / 2
    assert valid.std() > 0 or name == "arcticdem_data_mask"


@pytest.mark.parametrize("name", [name for name in NAMES if dp.FEATURES[name].function])
def test_the_function_of_a_feature_gives_the_same(result, given, name):
    """On the wide DEM, cut out: the margin of the tile is wide enough for every window."""
    feature, (tile, dem, _) = dp.FEATURES[name], given
    if "dem" not in dp.needs_of([feature]).given:
        np.testing.assert_array_equal(feature.function(tile)[name], result[name])
        return
    ours = feature.function(dem.assign_attrs(tile.attrs))[name].values[40:-40, 40:-40]
    # Nodes of the resampling and of true north lie elsewhere on the wide grid.
    close = np.isclose(ours, result[name], rtol=1e-3, atol=1e-3)
    assert close.mean() > 0.99


def test_a_feature_of_features_is_computed_without_adding_them(given, result):
    ours = dp.preprocess_v2(*given, device="cpu", features=["northness"])
    assert set(ours.data_vars) == {*given[0].data_vars, "northness"}
    np.testing.assert_allclose(ours.northness, result.northness, atol=1e-4)


def test_northness_is_the_northern_part_of_the_unit_normal(given):
    _, dem, _ = given
    east, north = oracle.gradient(dem.dem.values, 3.0)  # on the central meridian of its zone, where both norths agree
    expected = -north / np.sqrt(1 + east**2 + north**2)
    np.testing.assert_allclose(dp.calculate_northness(dem).northness, expected, atol=1e-4)
    flat = dem.assign(dem=dem.dem * 0)
    assert (dp.calculate_northness(flat).northness == 0).all()


def test_any_index_of_spyndex_is_a_feature_by_its_name(given):
    tile = given[0]
    ours = dp.preprocess_v2(tile, None, None, device="cpu", features=["wdrvi", "gosavi"])
    np.testing.assert_array_equal(ours.wdrvi, dp.calculate_spectral_index(tile, "WDRVI").wdrvi)
    band = get_band("wdrvi")
    assert (band.name, band.low, band.high) == ("wdrvi", -1, 1)
    assert "wdrvi" not in dp.FEATURES
    for name in ("WDRVI", "nbr", "slop", "rendvi"):  # in another case, of other bands, of none, of the red edge
        with pytest.raises(KeyError):
            dp.FEATURES[name]
        with pytest.raises(UnknownBandError, match="is not in the band table"):
            get_band(name)
    with pytest.raises(
        ParameterError,
        match=r"features names nbr, slop, which is unknown\. Did you mean .*'slope'\? Known features: .*, and the",
    ):
        dp.preprocess_v2(tile, None, None, device="cpu", features=["slop", "nbr", "ndvi"])


def test_a_savi_has_the_constant_of_its_function(given, result):
    np.testing.assert_array_equal(dp.calculate_savi(given[0], L=0.5).savi, result.savi)


def test_a_missing_argument_is_named_for_what_needs_it_in_the_end(given):
    with pytest.raises(ParameterError, match="features names northness, tc_wetness, but ds_arcticdem is None"):
        dp.preprocess_v2(given[0], None, None, device="cpu", features=["ndvi", "northness", "tc_wetness"])


GUIDE = Path(__file__).parents[2] / "docs" / "features.md"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package of the guide, installed as pip would."""
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (entry_point,) = re.findall(r"^```toml\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ((group, entries),) = tomllib.loads(entry_point)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (tmp_path / "their_features.py").write_text(code, encoding="utf-8")
    about = tmp_path / "their_features-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-features\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    declared_bands.cache_clear()
    yield
    declared_bands.cache_clear()
    sys.modules.pop("their_features", None)


def test_another_package_brings_a_feature(installed, given, result):
    assert list(dp.FEATURES) == [*NAMES, "cell_wetness"]
    assert get_band("cell_wetness").high == 10
    ours = dp.preprocess_v2(*given, device="cpu", features=["cell_wetness", "slope"])
    slope = np.radians(np.maximum(ours.slope.values.astype(np.float64), 0.1))
    np.testing.assert_allclose(ours.cell_wetness, np.log(3.0 / np.tan(slope)), rtol=1e-5)
    assert ours.cell_wetness.attrs == {"long_name": "wetness of a cell", "units": "1"}


def test_functions_of_features_have_signatures():
    for name in dp.__all__:
        if name.startswith("calculate_"):
            assert next(iter(inspect.signature(getattr(dp, name)).parameters)) == "ds"


def _short(wrong):
    return repr(wrong)[:9]


@pytest.mark.parametrize("wrong", [["slope"], "slope", None, 5, [dp.FEATURES["slope"], 5]], ids=_short)
def test_needs_are_those_of_features(wrong):
    with pytest.raises(InputTypeError, match=r"Expected features, such as FEATURES\['slope'\], but got the "):
        dp.needs_of(wrong)
    assert list(dp.needs_of([dp.FEATURES["slope"]]).features) == ["dem", "slope"]


@pytest.mark.parametrize("wrong", [5, [5], [None], b"ndvi", [["ndvi"]], dp.FEATURES["slope"]], ids=_short)
def test_features_are_asked_for_by_name(wrong):
    with pytest.raises(InputTypeError, match="Expected names of features, such as 'slope', but got the "):
        dp.preprocess_v2(oracle.make_tile(oracle.make_geobox((4, 5))), None, None, features=wrong, device="cpu")
