"""Intervals hold the truth as often as they promise, for skewed sizes and for blocks that resemble one another."""

import functools
import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import logit
from scipy.stats import t as student

from darts_evaluation.blocks import enlarge
from darts_evaluation.counts import BlockCounts
from darts_evaluation.intervals import LEAST_BLOCKS, Figure, Resampling, number_text, percentile, ratio
from darts_evaluation.neighbours import Neighbours, influence
from support.lanes import mostly_slow


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


PARTS = {"f1": f1_parts, "iou": iou_parts}


@functools.cache
def truth_of(name: str, sd: float) -> float:
    part, whole = PARTS[name](simulate(2_000_000, sd, np.random.default_rng(99)))
    return float(part.sum() / whole.sum())


def coverage(name: str, blocks: int, sd: float, maps: int) -> tuple[float, float]:
    """Return how often the interval holds the truth, and its mean width."""
    found = [ratio(*PARTS[name](simulate(blocks, sd, np.random.default_rng(seed)))) for seed in range(maps)]
    held = np.mean([holds(figure, truth_of(name, sd)) for figure in found])
    return float(held), float(np.mean([figure.high - figure.low for figure in found]))


def percentile_width(name: str, blocks: int, sd: float, maps: int) -> float:
    """Return the mean width of the percentile interval of the bootstrap."""
    widths = []
    for seed in range(maps):
        part, whole = PARTS[name](simulate(blocks, sd, np.random.default_rng(seed)))
        a, b = part[whole > 0], whole[whole > 0]
        weights = np.random.default_rng(seed).multinomial(len(a), np.full(len(a), 1 / len(a)), 999)
        widths.append(np.ptp(np.quantile(weights @ a / (weights @ b), [0.025, 0.975])))
    return float(np.mean(widths))


def holds(figure: Figure, truth: float) -> bool:
    return figure.low <= truth <= figure.high


@pytest.mark.parametrize(
    ("name", "blocks"), mostly_slow(itertools.product(PARTS, (30, 60, 100)), lambda case: case == ("f1", 60))
)
@pytest.mark.parametrize(("sd", "least"), [(1.2, 0.93), (1.7, 0.90)])
def test_ratio_covers_in_a_thousand_simulated_maps(name, blocks, sd, least):
    held, width = coverage(name, blocks, sd, 1000)
    print(f"{name}, {blocks} blocks, sd {sd}: {held:.3f}, width {width:.3f}")
    assert least <= held <= 0.975


@pytest.mark.parametrize("maps", mostly_slow([40, 1000], lambda maps: maps == 40))
def test_ratio_is_hardly_wider_than_the_percentile_interval(maps):
    _, width = coverage("f1", 60, 1.2, maps)
    plain = percentile_width("f1", 60, 1.2, maps)
    print(f"f1, 60 blocks, sd 1.2: {width:.3f}, the percentile's {plain:.3f}")
    assert plain < width <= 1.2 * plain


def correlated(seed: int, side: int, reach: float) -> BlockCounts:
    """Make a map whose quality changes smoothly over some blocks."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(side + 24, side + 24)), reach)[12:-12, 12:-12]
    share = 1 / (1 + np.exp(-0.8 - 1.5 * field * 2 * reach * np.sqrt(np.pi))).ravel()
    size = rng.lognormal(0, 0.8, side**2)
    sums = {"hit": size * share, "alarm": size * (1 - share) * 0.7, "miss": size * (1 - share)}
    keys = [("grid", *divmod(number, side)) for number in range(side**2)]
    empty = np.zeros((side**2, 1), np.int64)
    return BlockCounts(keys, sums, empty, empty)


def f1_of(counts: BlockCounts, resembling: bool) -> Figure:
    parts = f1_parts(np.array([counts.sums[name] for name in ("hit", "alarm", "miss")]))
    return Resampling(counts.keys, resembling).ratio(*parts)


@pytest.mark.parametrize(
    ("side", "reach", "maps"),
    mostly_slow([(10, 1.0, 100), (10, 1.0, 1000), (16, 1.0, 1000), (32, 1.5, 1000)], lambda case: case[2] == 100),
)
def test_ratio_covers_for_correlated_blocks_after_they_are_enlarged(side, reach, maps):
    sums = [correlated(seed, 32, reach).sums for seed in range(10_000, 10_000 + 2 * maps)]
    hit, alarm, miss = (sum(each[name].sum() for each in sums) for name in ("hit", "alarm", "miss"))
    truth = 2 * hit / (2 * hit + alarm + miss)
    held, plain, factors = [], [], []
    for seed in range(maps):
        counts = correlated(seed, side, reach)
        factor, resembling = enlarge(counts)
        plain.append(holds(f1_of(counts, False), truth))
        held.append(holds(f1_of(counts.merged(factor), resembling), truth))
        factors.append(factor)
    print(f"{side} × {side} blocks, {reach}: {np.mean(held):.3f} ({np.mean(plain):.3f} with blocks as they are)")
    assert np.mean(factors) > 1.9
    assert np.mean(held) >= (0.90 if maps == 1000 else 0.84)
    assert np.mean(plain) < 0.8


def test_blocks_that_are_independent_stay_as_they_are():
    found = [enlarge(BlockCounts.together([correlated(seed, 10, 1e-3)])) for seed in range(60)]
    assert np.mean([factor == 1 and not resembling for factor, resembling in found]) >= 0.85


def test_ratio_of_unlike_blocks_has_the_quantile_of_one_degree_of_freedom():
    """One block holds nearly all, so that fewer than two count effectively; less than one degree is no use."""
    part, whole = np.array([60.0, 1, 1, 1, 1]), np.array([100.0, 2, 1, 3, 2])
    figure = ratio(part, whole, "ratio")
    value, share = part.sum() / whole.sum(), whole / whole.sum()
    residuals = (part - value * whole) / (1 - np.minimum(share, 0.95))
    error = np.sqrt(4 / 5 * (residuals**2).sum()) / whole.sum()
    assert np.log(figure.high / value) == pytest.approx(student.ppf(0.975, 1) * error / value)


@pytest.mark.parametrize("blocks", range(2, 7))
def test_few_blocks_have_no_interval(blocks):
    """The span of n blocks holds the middle of what they come from in 1 - 2^(1-n) of all cases, as drawing shows."""
    drawn = np.random.default_rng(blocks).normal(size=(20_000, blocks))
    holds = ((drawn.min(axis=1) < 0) & (drawn.max(axis=1) > 0)).mean()
    assert holds == pytest.approx(1 - 2.0 ** (1 - blocks), abs=0.01)
    part, whole = np.arange(1.0, blocks + 1), np.full(blocks, 8.0)
    found = ratio(part, whole), percentile(lambda weights: float(weights @ part / weights.sum()), blocks)
    for figure in found:
        assert np.isfinite(figure.value)
        assert np.isfinite([figure.low, figure.high]).all() == (blocks >= LEAST_BLOCKS) == (holds > 0.9)
        given = figure.interval_text().endswith(f", {blocks} blocks only")
        assert given
        assert figure.interval_text().startswith("not given") == (blocks < LEAST_BLOCKS)


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


@pytest.mark.parametrize("scale", ["share", "ratio"])
def test_an_interval_that_says_nothing_is_left_out(scale):
    """One block of seven holds nearly everything; it is given as soon as the others say something."""
    whole = np.array([1000.0, 1, 2, 1, 2, 1, 1])
    part = np.array([110.0, 1, 0, 1, 0, 1, 0])
    figure = ratio(part, whole, scale)
    assert figure.value == part.sum() / whole.sum()
    assert np.isfinite([figure.low, figure.high]).all()
    wild = ratio(np.array([110.0, 1, 90, 1, 0, 1, 0]), np.array([1000.0, 1, 100, 1, 2, 1, 1]), scale)
    assert np.isnan([wild.low, wild.high]).all()
    assert (wild.blocks, wild.interval_text()) == (7, "not given, 7 blocks only")


@pytest.mark.parametrize("scale", ["share", "ratio"])
def test_ratio_has_the_standard_error_of_the_jackknife_and_the_quantile_of_student(scale):
    rng = np.random.default_rng(5)
    whole = rng.lognormal(0, 0.7, 50)
    part = whole * rng.uniform(0.4, 0.6, 50)
    value = part.sum() / whole.sum()
    without = (part.sum() - part) / (whole.sum() - whole)
    error = np.sqrt(49 / 50 * ((without - value) ** 2).sum())
    reach = student.ppf(0.975, whole.sum() ** 2 / (whole**2).sum() - 1) * error
    figure = ratio(part, whole, scale)
    forward, slope = (logit, 1 / (value * (1 - value))) if scale == "share" else (np.log, 1 / value)
    assert figure.value == pytest.approx(value)
    for end, sign in ((figure.low, -1), (figure.high, 1)):
        assert forward(end) - forward(value) == pytest.approx(sign * reach * slope)


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


@pytest.mark.parametrize(
    ("figure", "value", "interval"),
    [
        (Figure(0.5, 0.25, 0.75, 30), "0.500", "0.250 to 0.750"),
        (Figure(0.5, 0.25, 0.75, 20), "0.500", "0.250 to 0.750"),
        (Figure(0.5, 0.25, 0.75, 19), "0.500", "0.250 to 0.750, 19 blocks only"),
        (Figure(1.0, blocks=30), "1.000", "not given"),
        (Figure(2.0, 0.1, np.inf, 30), "2.000", "not given"),
        (Figure(np.nan), "not defined", "not given"),
        (Figure(0.685, blocks=1), "0.685", "not given, 1 block only"),
        (Figure(-1234.5, -12_345.6, 99.99, 30), "-1,234", "-12,346 to 99.990"),
    ],
)
def test_figure_reads_well(figure, value, interval):
    assert (figure.value_text(), figure.interval_text()) == (value, interval)
    assert Figure(0.126, 0.1, 0.2, 30).value_text(2) == "0.13"
    assert (number_text(0.5), number_text(np.nan)) == ("0.500", "not given")


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
    figure = percentile(lambda weights: float("nan") if weights[0] else 1.0, 6)
    assert np.isnan(figure.value)
    figure = percentile(lambda weights: 1.0 if weights[0] else float("nan"), 6)
    assert (figure.value, figure.low, figure.high) == (1.0, 1.0, 1.0)


def grid(rows: int, cols: int, step: int = 1) -> list:
    return [("grid", step * row, step * col) for row in range(rows) for col in range(cols)]


def test_neighbours_resemble_one_another_where_a_field_is_smooth_and_nowhere_else():
    rng, near = np.random.default_rng(2), Neighbours.of(grid(12, 12))
    smooth = [gaussian_filter(rng.normal(size=(12, 12)), 2).ravel() for _ in range(20)]
    noise = [rng.lognormal(0, 1.2, 144) for _ in range(200)]
    assert all(near.resemble(values) for values in smooth)
    assert 0.005 <= np.mean([near.resemble(values) for values in noise]) <= 0.1
    assert not Neighbours.of(grid(1, 3)).resemble(np.array([1.0, 2.0, 3.0]))
    assert not Neighbours.of(grid(12, 12, 7)).resemble(smooth[0])
    assert not near.resemble(np.ones(144))
    assert not Neighbours.of([]).resemble(np.zeros(0))


def test_neighbours_are_those_of_all_pairs():
    rng = np.random.default_rng(6)
    keys = sorted({(crs, int(r), int(c)) for crs in "ab" for r, c in rng.integers(-4, 5, (30, 2))})
    near = Neighbours.of(keys)
    found = {
        (frozenset((keys[a], keys[b])), int(steps), bool(edge))
        for a, b, steps, edge in zip(near.one, near.other, near.steps, near.edge, strict=True)
    }
    expected = set()
    for one, other in itertools.combinations(keys, 2):
        down, right = abs(one[1] - other[1]), abs(one[2] - other[2])
        if one[0] == other[0] and max(down, right) <= 2:
            expected.add((frozenset((one, other)), max(down, right), down + right == 1))
    assert found == expected
    assert len(near.one) == len(expected)


def test_inflation_is_that_of_the_covariances_of_near_blocks():
    rng = np.random.default_rng(7)
    values = gaussian_filter(rng.normal(size=(9, 9)), 1.2)
    values -= values.mean()
    used = np.ones(81, bool)
    rows, cols = (each.ravel() for each in np.indices((9, 9)))
    apart = np.maximum(abs(rows[:, None] - rows), abs(cols[:, None] - cols))
    products = np.outer(values.ravel(), values.ravel())
    factors = [
        products[apart <= reach].sum() / (values**2).sum() / (1 - ((apart <= reach) & (apart > 0)).sum() / 81**2)
        for reach in (1, 2)
    ]
    near = Neighbours.of(grid(9, 9))
    assert near.inflation(values.ravel(), used) == pytest.approx(max(factors) ** 0.5)
    assert near.inflation(np.where(rows + cols & 1, 1.0, -1.0), used) == 1.0  # those that differ make nothing surer
    assert near.inflation(np.zeros(81), used) == 1.0


def test_inflation_widens_a_ratio_on_the_logit():
    counts = correlated(1, 10, 1.0)
    plain, wide = f1_of(counts, False), f1_of(counts, True)
    parts = f1_parts(np.array([counts.sums[name] for name in ("hit", "alarm", "miss")]))
    factor = Neighbours.of(counts.keys).inflation(influence(*parts), np.ones(100, bool))
    assert factor > 1.3
    for end in ("low", "high"):
        reach = [logit(getattr(each, end)) - logit(each.value) for each in (plain, wide)]
        assert reach[1] == pytest.approx(factor * reach[0])


def test_inflation_widens_other_figures_within_their_limits():
    keys, values = grid(5, 5), np.random.default_rng(3).random(25)

    def mean(weights: np.ndarray) -> float:
        return float(weights @ values / weights.sum())

    plain, wide = Resampling(keys).percentile(mean), Resampling(keys, True, 2.0).percentile(mean)
    assert (wide.value, wide.blocks) == (plain.value, 25)
    assert wide.high - wide.value == pytest.approx(2 * (plain.high - plain.value))
    assert wide.value - wide.low == pytest.approx(2 * (plain.value - plain.low))
    assert Resampling(keys, True, 50.0).percentile(mean).high == 1.0
    assert Resampling(keys, True, 50.0).percentile(mean, (-np.inf, np.inf)).high > 1.0
