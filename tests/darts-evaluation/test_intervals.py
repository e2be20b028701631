"""Intervals hold the truth as often as they promise, for skewed sizes and for blocks that resemble one another."""

import numpy as np
import pytest

from darts_evaluation.intervals import Figure, influence, neighbours_agree, percentile, ratio


def simulate(blocks: int, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Return hits, alarms and misses of blocks with some slumps of log-normal size each, 2-D by kind and block."""

    def draw(mean: float) -> tuple[np.ndarray, np.ndarray]:
        owners = np.repeat(np.arange(blocks), rng.poisson(mean, blocks))
        return owners, rng.lognormal(0, sd, len(owners))

    owners, sizes = draw(2.0)
    found = sizes * rng.beta(4, 1.5, len(sizes)) * (rng.random(len(sizes)) < 0.85)
    others, alarms = draw(0.7)
    beside = found * rng.random(len(sizes)) * 0.3
    return np.array(
        [
            np.bincount(owners, found, blocks),
            np.bincount(others, alarms, blocks) + np.bincount(owners, beside, blocks),
            np.bincount(owners, sizes - found, blocks),
        ]
    )


def f1_parts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hit, alarm, miss = counts
    return 2 * hit, 2 * hit + alarm + miss


def iou_parts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hit, alarm, miss = counts
    return hit, hit + alarm + miss


def coverage(parts, blocks: int, sd: float, maps: int) -> tuple[float, float, float]:
    """Return how often the interval holds the truth, and its mean width and that of the percentile interval."""
    part, whole = parts(simulate(2_000_000, sd, np.random.default_rng(99)))
    truth = part.sum() / whole.sum()
    held, widths, plain = [], [], []
    for seed in range(maps):
        part, whole = parts(simulate(blocks, sd, np.random.default_rng(seed)))
        figure = ratio(part, whole, seed=seed, replicates=999)
        held.append(figure.low <= truth <= figure.high)
        widths.append(figure.high - figure.low)
        used = whole > 0
        a, b = part[used], whole[used]
        weights = np.random.default_rng(seed).multinomial(len(a), np.full(len(a), 1 / len(a)), 999)
        plain.append(np.ptp(np.quantile(weights @ a / (weights @ b), [0.025, 0.975])))
    return float(np.mean(held)), float(np.mean(widths)), float(np.mean(plain))


def test_ratio_covers_in_a_few_simulated_maps():
    held, width, plain = coverage(f1_parts, 60, 1.2, 150)
    assert 0.89 <= held <= 0.995  # 93 to 97.5 %, and what 150 maps leave to chance
    assert width <= 1.2 * plain


@pytest.mark.slow
@pytest.mark.parametrize("parts", [f1_parts, iou_parts], ids=["f1", "iou"])
@pytest.mark.parametrize("blocks", [30, 60, 100])
@pytest.mark.parametrize(("sd", "least"), [(1.2, 0.93), (1.7, 0.90)])
def test_ratio_covers_in_a_thousand_simulated_maps(parts, blocks, sd, least):
    held, width, plain = coverage(parts, blocks, sd, 1000)
    print(f"{parts.__name__}, {blocks} blocks, sd {sd}: {held:.3f}, width {width:.3f}, percentile's {plain:.3f}")
    assert least <= held <= 0.975
    if (parts, blocks, sd) == (f1_parts, 60, 1.2):
        assert width <= 1.2 * plain


@pytest.mark.slow
def test_ratio_covers_for_correlated_blocks_after_they_are_enlarged():
    """A field that is smooth over two blocks makes 32 × 32 blocks resemble their neighbours."""
    from scipy.ndimage import gaussian_filter

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        mood = gaussian_filter(rng.normal(size=(32, 32)), 1.5, mode="wrap")
        share = 1 / (1 + np.exp(-0.8 - 1.5 * mood / mood.std()))
        size = rng.lognormal(0, 0.8, (32, 32))
        return np.array([size * share, size * (1 - share) * 0.7, size * (1 - share)]).reshape(3, -1)

    total = sum(make(seed).sum(axis=1) for seed in range(10_000, 12_000))
    truth = 2 * total[0] / (2 * total[0] + total[1] + total[2])
    rows, cols = np.divmod(np.arange(32 * 32), 32)
    held, alone, grew = [], [], []
    for seed in range(300):
        counts, factor = make(seed), 1
        alone.append(_holds(ratio(*f1_parts(counts), seed=seed, replicates=499), truth))
        merged, r, c = counts, rows, cols
        while (32 // (2 * factor)) ** 2 >= 20 and neighbours_agree(r, c, influence(*f1_parts(merged))):
            factor *= 2
            places = (rows // factor) * 32 + cols // factor
            names, index = np.unique(places, return_inverse=True)
            merged = np.array([np.bincount(index, each) for each in counts])
            r, c = np.divmod(names, 32)
        grew.append(factor)
        held.append(_holds(ratio(*f1_parts(merged), seed=seed, replicates=499), truth))
    print(f"{np.mean(held):.3f} after growth by {np.mean(grew):.1f}, {np.mean(alone):.3f} without")
    assert np.mean(held) >= 0.90 > np.mean(alone)


def _holds(figure: Figure, truth: float) -> bool:
    return figure.low <= truth <= figure.high


def test_ratio_is_the_ratio_of_the_sums_and_ignores_empty_blocks():
    rng = np.random.default_rng(3)
    whole = rng.integers(1, 50, 40).astype(float)
    part = np.floor(whole * rng.random(40))
    figure = ratio(part, whole)
    assert figure.value == part.sum() / whole.sum()
    assert 0 < figure.low < figure.value < figure.high < 1
    padded = ratio(np.append(part, np.zeros(60)), np.append(whole, np.zeros(60)))
    assert padded == figure
    assert figure.blocks == 40


def test_ratio_has_the_standard_error_of_the_jackknife():
    """A studentised interval of many alike blocks is close to the normal one, whose error the jackknife gives."""
    rng = np.random.default_rng(5)
    whole = rng.uniform(50, 60, 400)
    part = whole * rng.uniform(0.4, 0.6, 400)
    value = part.sum() / whole.sum()
    without = (part.sum() - part) / (whole.sum() - whole)
    error = np.sqrt(399 / 400 * ((without - without.mean()) ** 2).sum())
    figure = ratio(part, whole)
    assert (figure.high - figure.low) / 2 == pytest.approx(1.96 * error, rel=0.06)
    assert figure.value == pytest.approx(value)


@pytest.mark.parametrize("scale", ["share", "ratio"])
@pytest.mark.parametrize(
    ("part", "whole"),
    [([0.0, 0.0], [2.0, 3.0]), ([], []), ([1.0], [2.0]), ([0.0, 0.0], [0.0, 0.0])],
    ids=["none", "nothing", "one block", "empty blocks"],
)
def test_ratio_without_enough_to_go_by_has_no_interval(part, whole, scale):
    figure = ratio(np.array(part), np.array(whole), scale)
    assert np.isnan(figure.low)
    assert np.isnan(figure.high)
    assert np.isnan(figure.value) == (sum(whole) == 0)


def test_ratio_of_perfect_maps_is_one():
    figure = ratio(np.array([3.0, 4.0, 5.0]), np.array([3.0, 4.0, 5.0]))
    assert (figure.value, figure.blocks) == (1.0, 3)


def test_ratio_without_an_end_may_exceed_one():
    rng = np.random.default_rng(8)
    whole = rng.lognormal(0, 0.5, 80)
    figure = ratio(whole * rng.uniform(1.0, 2.0, 80), whole, "ratio")
    assert 1.3 < figure.low < figure.value < figure.high < 1.7


def test_percentile_interval_of_a_mean_is_the_bootstraps():
    values = np.random.default_rng(4).normal(10, 2, 200)
    figure = percentile(lambda weights: float(weights @ values / weights.sum()), 200, replicates=2000)
    error = values.std() / np.sqrt(200)
    assert figure.value == pytest.approx(values.mean())
    assert (figure.low, figure.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.03
    )


def test_percentile_leaves_out_replicates_without_a_figure():
    figure = percentile(lambda weights: float("nan") if weights[0] else 1.0, 3)
    assert np.isnan(figure.value)
    figure = percentile(lambda weights: 1.0 if weights[0] else float("nan"), 3)
    assert (figure.value, figure.low, figure.high) == (1.0, 1.0, 1.0)


def test_neighbours_agree_where_a_field_is_smooth_and_nowhere_else():
    from scipy.ndimage import gaussian_filter

    rows, cols = np.divmod(np.arange(144), 12)
    rng = np.random.default_rng(2)
    smooth = [gaussian_filter(rng.normal(size=(12, 12)), 2).ravel() for _ in range(50)]
    noise = [rng.lognormal(0, 1.2, 144) for _ in range(400)]
    assert all(neighbours_agree(rows, cols, values) for values in smooth)
    assert 0.01 <= np.mean([neighbours_agree(rows, cols, values) for values in noise]) <= 0.08
    assert not neighbours_agree(rows[:3], cols[:3], np.array([1.0, 2.0, 3.0]))
    assert not neighbours_agree(rows * 7, cols * 7, smooth[0])
    assert not neighbours_agree(rows, cols, np.ones(144))
