"""The numbers that the band table and normalisation give, against those that RESULTS_VERSION stands for."""

from pathlib import Path

import numpy as np
import pytest

from darts_utils import BANDS, RESULTS_VERSION, normalize_band
from support.reference import MAKE, TOLERANCE, assert_light, check_reference, differences

FILE = Path(__file__).parent / "reference" / "results.npz"
CONSTANT = "darts_utils.version.RESULTS_VERSION"


def test_reference_results() -> None:
    names = sorted(BANDS.data_model)
    # From a quarter of the range below it to a quarter above, and no value.
    steps = np.append(np.arange(-8, 41) / 32, np.nan)
    values = [band.low + (band.high - band.low) * steps for band in (BANDS[name] for name in names)]
    results = {
        "names": np.array(names),
        "ranges": np.array([[BANDS[name].low, BANDS[name].high] for name in names], np.float64),
        "nodata": np.array([str(BANDS[name].nodata) for name in names]),
        "dtypes": np.array([BANDS[name].dtype for name in names]),
        "normalized": np.stack([normalize_band(value, name) for name, value in zip(names, values, strict=True)]),
    }
    check_reference(FILE, results, RESULTS_VERSION, CONSTANT)


def test_the_version_is_read_lightly() -> None:
    assert_light("darts_utils")


BEFORE = {
    "count": np.arange(6, dtype=np.int32).reshape(2, 3),
    "mask": np.array([True, False]),
    "text": np.array(["a", "b"]),
    "value": np.array([0.5, np.nan, 90, np.inf], np.float32),
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "reference/results.npz"
    monkeypatch.setenv(MAKE, "1")
    check_reference(file, BEFORE, 3, CONSTANT)
    monkeypatch.delenv(MAKE)
    check_reference(file, BEFORE, 3, CONSTANT)
    return file


@pytest.mark.parametrize(
    "change",
    [
        {"count": np.array([[0, 1, 2], [3, 4, 6]], np.int32)},
        {"count": BEFORE["count"].astype(np.int64)},
        {"count": BEFORE["count"].T},
        {"mask": np.array([True, True])},
        {"text": np.array(["a", "bc"])},
        {"value": np.array([0.5 + 3e-5, np.nan, 90, np.inf], np.float32)},
        {"value": np.array([0.5, np.nan, 90.003, np.inf], np.float32)},
        {"value": np.array([0.5, 0, 90, np.inf], np.float32)},
        {"value": np.array([np.nan, np.nan, 90, np.inf], np.float32)},
        {"value": np.array([0.5, np.nan, 90, 1], np.float32)},
        {"more": np.zeros(1)},
    ],
)
def test_a_changed_number_fails_until_the_version_is_raised(
    file: Path, change: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    after = BEFORE | change
    with pytest.raises(AssertionError, match=rf"raise {CONSTANT} and make the reference again.*{next(iter(change))}"):
        check_reference(file, after, 3, CONSTANT)
    with pytest.raises(AssertionError, match=r"was made with .* = 3, which is 4 now"):
        check_reference(file, after, 4, CONSTANT)
    monkeypatch.setenv(MAKE, "1")
    if "more" not in change:
        with pytest.raises(AssertionError, match=f"raise {CONSTANT}"):
            check_reference(file, after, 3, CONSTANT)
    check_reference(file, after, 4, CONSTANT)
    monkeypatch.delenv(MAKE)
    check_reference(file, after, 4, CONSTANT)


def test_a_removed_number_fails_and_rounding_passes(file: Path) -> None:
    less = {name: values for name, values in BEFORE.items() if name != "text"}
    with pytest.raises(AssertionError, match="text"):
        check_reference(file, less, 3, CONSTANT)
    rounded = BEFORE["value"] + np.array([TOLERANCE / 2, 0, 90 * TOLERANCE / 2, 0], np.float32)
    assert differences(BEFORE, BEFORE | {"value": rounded}) == {}


def test_absent_reference_results_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MAKE, raising=False)
    with pytest.raises(AssertionError, match="make them"):
        check_reference(tmp_path / "reference/results.npz", BEFORE, 1, CONSTANT)
