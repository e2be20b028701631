"""What cannot be in the unit of a band, and marks of missing pixels, against a plain reading of the rule."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from darts_utils import ValueRangeError, check_quality, check_range, quality_fault

LOW, HIGH = 0.0, 1.0
LEAST, MOST = -2.0, 3.0  # twice the width of the range beyond it


def refusal(values: np.ndarray, low: float = LOW, high: float = HIGH) -> str:
    """What is said of a band; nothing where it passes."""
    try:
        check_range("red", values, low, high, taker="the test", remedy="think of a remedy")
    except ValueRangeError as error:
        return str(error)
    return ""


edges = [LEAST, np.nextafter(LEAST, -9), MOST, np.nextafter(MOST, 9), LOW, HIGH, 0.5, 20.0, -5.0, np.nan]


@given(st.lists(st.sampled_from(edges), min_size=1, max_size=9))
@example([LEAST]).via("the edge belongs to what passes")
@example([MOST])
@example([np.nan, 0.0])
def test_the_middle_decides(values: list[float]) -> None:
    known = [value for value in values if value and not np.isnan(value)]
    expected = False
    if known:
        below, above = (float(np.quantile(known, 0.5, method=method)) for method in ("lower", "higher"))
        expected = above < LEAST or below > MOST
    said = refusal(np.array([values]))
    assert bool(said) == expected
    if said:
        found = f"values from {min(known):g} to {max(known):g} (median {np.median(known):g})"
        assert said.startswith(f"Band 'red' has {found}, but the test takes 0 to 1; ")


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (80.0, "divide the band by 100 first (`/ 100`), if it is stored so."),
        (100.0, "divide the band by 100 first (`/ 100`), if it is stored so."),
        (101.0, "divide the band by 255 first (`/ 255`), if it is stored so."),
        (255.5, "divide the band by 10000 first (`/ 10000`), if it is stored so."),
        (10_001.0, "think of a remedy."),
        (-50.0, "if this marks missing pixels, make them NaN (rioxarray does so with masked=True)."),
    ],
)
def test_what_to_do_follows_from_the_median(value: float, remedy: str) -> None:
    said = refusal(np.full((3, 3), value))
    assert said.endswith("; " + remedy)


@pytest.mark.parametrize("mark", [-999.0, -9999.0, -99999.0, -32767.0, -32768.0, -2147483648.0, 3.4e38, -1.7e308, 9e36])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_pixels_of_a_mark_are_refused(mark: float, dtype: str) -> None:
    with np.errstate(over="ignore"):
        stored = np.array(mark).astype(dtype)
    if np.isinf(stored):
        return
    band = np.full((40, 30), 0.25, dtype)
    band[3, 4] = stored
    assert refusal(band) == ""  # one may be a speck
    band[30, 20] = stored
    said = refusal(band)
    assert said.startswith(f"Band 'red' is {float(stored):g} in {2 / band.size:.1%} of the pixels that were looked at")
    kept = band[abs(band) < 1e15] if abs(mark) > 1e15 else band[band != mark]
    assert len(kept) == band.size - 2
    assert ("abs(band) < 1e+15" if abs(mark) > 1e15 else f"band != {mark:.0f}") in said
    assert refusal(np.where(band == stored, np.nan, band)) == ""


@pytest.mark.parametrize("others", [2, 3])
@pytest.mark.parametrize("at", [-9999 * 1.01, -9999 * 0.99, -10_000.0])
def test_a_mark_among_values_like_it_is_a_value(others: int, at: float) -> None:
    """Of whole numbers that go on beyond the range, one in a while is -9999: two of five around it are no mark."""
    band = np.full((40, 30), 0.25)
    band[0, :2] = -9999
    band[1, :others] = at
    assert bool(refusal(band)) == (others == 2)
    band[1, :others] = at * 1.02 if at <= -9999 else at * 0.98  # farther than a hundredth
    assert refusal(band)


def test_a_mark_within_the_range_is_a_value() -> None:
    band = np.full((40, 30), 5.0)
    band[:2] = -999
    assert refusal(band, -1000, 5) == ""
    assert refusal(band, -999, 5) == ""
    assert refusal(band, -998, 5)


@given(st.integers(1, 400), st.integers(1, 400))
def test_pixels_are_looked_at_all_over_the_band(height: int, width: int) -> None:
    """Every 48th part of height and width: a mark in each of these rows and columns is found, one beside is not."""
    rows, cols = (np.arange(0, size, max(1, size // 48)) for size in (height, width))
    assert max(len(rows), len(cols)) < 96
    band = np.full((height, width), -9999.0)
    band[np.ix_(rows, cols)] = 0.5
    assert refusal(band) == ""
    if len(rows) * len(cols) > 2:
        band[rows[-1], cols[-1]] = band[rows[0], cols[0]] = -9999
        assert refusal(band)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan, -1.0, 0.5, 2.5, 255.0]), min_size=1, max_size=5))
@example([0.0, 1.0, 2.0])
@example([0.5])
def test_quality_is_from_0_to_2_in_every_pixel(values: list[float]) -> None:
    mask = np.array([values])
    known = mask[~np.isnan(mask)]
    wrong = bool(((known < 0) | (known > 2)).any())
    fault = quality_fault(mask)
    assert fault.shape == (1, 1)
    assert bool(fault) == wrong
    if wrong:
        with pytest.raises(ValueRangeError, match=f"values from {known.min():g} to {known.max():g}; expected 0"):
            check_quality(mask)
    else:
        check_quality(mask)
