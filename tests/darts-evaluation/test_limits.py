"""What lies exactly at a limit counts, and what is left to a default is what the pages say."""

import dataclasses
import sys
import warnings

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from scipy.special import logit

from darts_evaluation import (
    Agreement,
    Evaluation,
    FewBlocksWarning,
    Figure,
    Labels,
    LabelsError,
    TileFigures,
    TileMap,
    evaluate,
    make_labels,
    measure_agreement,
    write_report,
)
from darts_evaluation.datasets import dataset_maps
from darts_evaluation.intervals import Resampling, percentile
from darts_evaluation.matching import Overlaps, match
from darts_evaluation.neighbours import Neighbours
from support.maps import CRS, GROUND, labels_of, make_tile, tile_of, view_of

FEW = pytest.mark.filterwarnings("ignore::darts_evaluation.FewBlocksWarning")


def boxes(*places: tuple[int, int, int, int]) -> np.ndarray:
    """Return a mask of 20 rows and 400 columns with boxes by row, column, height and width."""
    mask = np.zeros((20, 400), bool)
    for row, col, height, width in places:
        mask[row : row + height, col : col + width] = True
    return mask


@pytest.mark.parametrize("count", [19, 20])
def test_twenty_blocks_are_enough(count):
    mask = boxes(*((4, 20 * number + 4, 5, 5 + number % 3) for number in range(count)))
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        found = evaluate([tile_of("a", mask, np.ones_like(mask), None)], labels_of(mask), block_m=200)
    assert found.blocks == count
    assert any(each.category is FewBlocksWarning for each in given) == (count < 20)
    assert any("below 20" in note for note in found.notes) == (count < 20)


@FEW
def test_what_half_lies_on_ground_that_counts_counts():
    seen = np.ones((20, 400), bool)
    seen[:, :100] = False
    label = boxes((2, 96, 5, 8), (10, 95, 5, 9), (10, 200, 5, 5))  # half of it seen, less than half, all
    mapped = boxes((2, 100, 5, 4), (10, 200, 5, 5))
    found = evaluate([tile_of("a", mapped, seen, None)], labels_of(label), block_m=200)
    objects = found.figures["objects"]
    assert (objects["labels"].value, objects["mapped"].value, objects["recall@0.9"].value) == (2, 2, 1)
    assert found.outlines["kind"].tolist().count("not seen") == 1


@FEW
@pytest.mark.parametrize(("least", "count"), [(2499.9, 2), (2500.1, 1)])
def test_what_has_the_least_area_counts(least, count):
    mask = boxes((2, 30, 5, 5), (10, 200, 5, 6))
    tile = tile_of("a", mask, np.ones_like(mask), None)
    objects = evaluate([tile], labels_of(mask), block_m=200, min_object_m2=least * GROUND).figures["objects"]
    assert (objects["labels"].value, objects["mapped"].value) == (count, count)


@pytest.mark.parametrize(("iou", "is_agreed"), [(0.3, True), (0.2999, False), (np.nan, True)])
def test_experts_agree_from_a_median_of_three_tenths_on(iou, is_agreed):
    pairs = np.array([[1, iou], [iou, 1]])
    assert Agreement(["a", "b"], pairs, pairs, pairs[0], pairs[0]).is_agreed is is_agreed


def test_experts_objects_match_from_three_tenths_on():
    """Boxes of 100 m and 30 m of it: an overlap of 0.3, or a little less."""
    for width, f1 in ((30.1, 1.0), (29.9, 0.0)):
        shapes = [shapely.box(5e5, 7.6e6, 5e5 + each, 7.6e6 + 50) for each in (100, width)]
        labels = make_labels(gpd.GeoDataFrame({"expert": ["a", "b"]}, geometry=shapes, crs=CRS))
        assert measure_agreement(labels).f1[0, 1] == f1


@pytest.mark.parametrize(("x", "y", "is_right"), [(360, 0, True), (360.5, 0, False), (0, 90, True), (0, 90.5, False)])
def test_degrees_reach_to_360_and_90(x, y, is_right):
    corner = shapely.Polygon([(x, y), (x - 1, y), (x, y - 1)])
    outlines = gpd.GeoDataFrame(geometry=[corner], crs="EPSG:4326")
    if is_right:
        assert len(make_labels(outlines).outlines) == 1
    else:
        with pytest.raises(LabelsError, match="has degrees, but has a point at"):
            make_labels(outlines)


def test_labels_south_of_the_equator_have_the_southern_equal_area_crs():
    for top, code in ((-1, "EPSG:6932"), (2, "EPSG:6931")):
        outlines = gpd.GeoDataFrame(geometry=[shapely.box(10, -3, 11, top)], crs="EPSG:4326")
        assert make_labels(outlines).equal_area_crs == code


def test_seeds_are_0_where_none_is_given():
    values = np.random.default_rng(1).random(30)

    def mean(weights: np.ndarray) -> float:
        return float(weights @ values / weights.sum())

    keys = [("grid", 0, number) for number in range(30)]
    assert percentile(mean, 30) == percentile(mean, 30, seed=0) == Resampling(keys).percentile(mean)
    assert percentile(mean, 30) != percentile(mean, 30, seed=1)
    near, noise = Neighbours.of(keys), np.random.default_rng(2).normal(size=(3000, 30))
    noise[:, 1:] += 0.8 * noise[:, :-1]  # near the level, so that some depend on the permutations
    found, other = ([near.resemble(each, seed=seed) for each in noise[:300]] for seed in (0, 1))
    assert [near.resemble(each) for each in noise[:300]] == found != other


@FEW
def test_evaluation_has_the_seed_0_where_none_is_given():
    tile, truth = make_tile(3)
    one, two, other = (
        evaluate([tile], labels_of(truth), block_m=150, **seed) for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert repr(one.figures) == repr(two.figures)
    assert repr(one.figures) != repr(other.figures)


@FEW
def test_a_report_has_a_row_for_each_tile_and_each_expert(tmp_path):
    whole, truth = make_tile(5)
    drawn = labels_of(truth)
    moved = drawn.outlines.assign(geometry=drawn.outlines.translate(20, 0), expert="b")
    both = gpd.pd.concat([drawn.outlines.assign(expert="a"), moved], ignore_index=True)
    tiles = [view_of(whole, name, slice(0, 120), cols) for name, cols in (("x", slice(0, 60)), ("y", slice(60, 120)))]
    found = evaluate(tiles, dataclasses.replace(drawn, outlines=both), block_m=150)
    write_report(dataclasses.replace(found, tables={}), tmp_path)
    text = (tmp_path / "evaluation.md").read_text()
    for tile in found.tiles:
        figures = tile.figures["pixels"]["iou"], *(tile.figures["objects"][name] for name in ("f1@0.3", "recall@0.3"))
        assert f"| {tile.name} | {' | '.join(f'{each.value:.3f}' for each in figures)} |" in text
    who = found.agreement
    for name, iou, f1 in zip("ab", who.others_iou, who.others_f1, strict=True):
        assert f"| {name} | {iou:.3f} | {f1:.3f} |" in text
    assert f"2 experts drew the labels. Two of them agree with an IoU of {who.median_iou:.2f} and an F1" in text
    write_report(dataclasses.replace(found, tables={}, tiles=found.tiles[:1], agreement=None), tmp_path)
    assert "## Tiles" not in (tmp_path / "evaluation.md").read_text()


@FEW
def test_other_figures_are_widened_as_the_f1_is(monkeypatch):
    """A map that finds the slumps in one half of the tile only, so that neighbouring blocks resemble one another."""
    _, truth = make_tile(6)
    mapped = truth & (np.arange(120) < 70)
    tile = tile_of("a", mapped, np.ones_like(mapped), None)
    found = []
    for resembling in (False, True):
        monkeypatch.setattr(
            sys.modules[evaluate.__module__], "enlarge", lambda *_, with_it=resembling, **__: (1, with_it)
        )
        found.append(evaluate([tile], labels_of(truth), block_m=150).figures)
    f1, wide_f1 = (each["pixels"]["f1"] for each in found)
    factor = (logit(wide_f1.high) - logit(f1.value)) / (logit(f1.high) - logit(f1.value))
    assert factor > 1.3
    one, other = (each["outlines"]["boundary_f1@2px"] for each in found)
    assert one.high - one.value > 0.01
    assert other.high == pytest.approx(min(one.value + factor * (one.high - one.value), 1))
    assert other.low == pytest.approx(max(one.value + factor * (one.low - one.value), 0))
    bias, wide_bias = (each["size"]["area_bias_m2"] for each in found)
    assert wide_bias.low - bias.value == pytest.approx(factor * (bias.low - bias.value))


@FEW
def test_boundaries_far_from_any_label_and_without_labels_have_an_f1_of_0_and_without_either_none():
    mapped, truth = boxes((4, 20, 5, 5)), boxes((4, 220, 5, 5))
    tile = tile_of("a", mapped, np.ones_like(mapped), None)
    figures = evaluate([tile], labels_of(truth), block_m=200).figures["outlines"]
    assert [figures[f"boundary_f1@{width}px"].value for width in (1, 2, 3)] == [0, 0, 0]
    labels = dataclasses.replace(labels_of(truth), outlines=labels_of(truth).outlines[:0])
    figures = evaluate([tile], labels, block_m=200).figures["outlines"]
    assert [figures[f"boundary_f1@{width}px"].value for width in (1, 2, 3)] == [0, 0, 0]
    tile = tile_of("a", ~np.ones_like(mapped), np.ones_like(mapped), None)
    figures = evaluate([tile], labels, block_m=200).figures["outlines"]
    assert np.isnan([figures[f"boundary_f1@{width}px"].value for width in (1, 2, 3)]).all()


@pytest.mark.parametrize("kind", [Agreement, Evaluation, Figure, Labels, TileFigures, TileMap])
def test_what_is_returned_cannot_be_changed_by_chance(kind):
    made = object.__new__(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"


@FEW
def test_blocks_that_were_doubled_are_those_of_twice_the_edge(monkeypatch):
    rng = np.random.default_rng(4)
    truth, mapped = np.zeros((2, 20, 2000), bool)
    for col in range(5, 1990, 20):
        truth[4:9, col : col + 5 + rng.integers(4)] = rng.random() < 0.8
        mapped[4:9, col : col + 5 + rng.integers(4)] = rng.random() < 0.8
    tile, labels, found = tile_of("a", mapped, np.ones_like(mapped), None), labels_of(truth), []
    for factor, edge_m in ((2, None), (1, 2000)):
        monkeypatch.setattr(sys.modules[evaluate.__module__], "enlarge", lambda *_, by=factor, **__: (by, False))
        found.append(evaluate([tile], labels, block_m=edge_m))
    one, other = (
        [dataclasses.astuple(figure) for group in each.figures.values() for figure in group.values()] for each in found
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)  # the areal scale is that of the middle of a block
    assert [(each.block_m, each.blocks) for each in found] == [(2000, 10), (2000, 10)]
    assert found[0].figures["objects"]["recall@0.3"].blocks == 10


@pytest.mark.parametrize(("lon", "lat", "zone", "code"), [(-177, 66, "01N", 32601), (177, -60, "60S", 32760)])
def test_a_dataset_is_looked_at_in_the_first_zone_and_in_the_last(tmp_path, lon, lat, zone, code):
    nothing = gpd.GeoDataFrame({"mean_probability": np.empty(0)}, geometry=[], crs="OGC:CRS84")
    for part in ("coverage", "level2"):
        (tmp_path / part / "year=2021").mkdir(parents=True)
        nothing.to_parquet(tmp_path / part / "year=2021" / "rows.parquet", write_covering_bbox=True)
    area = gpd.GeoSeries([shapely.box(lon, lat, lon + 0.01, lat + 0.005)], crs="EPSG:4326")
    labels = make_labels(gpd.GeoDataFrame(geometry=list(area), crs="EPSG:4326"), area)
    tiles = list(dataset_maps(tmp_path, labels))
    assert [tile.name[:3] for tile in tiles] == [zone]
    assert pyproj.CRS(tiles[0].crs).to_epsg() == code
    assert not tiles[0].seen.any()


def test_an_object_without_a_label_is_paired_with_minus_one():
    some = np.array([0, 1])
    overlaps = Overlaps(some, some, np.array([0.3, 0.299]), 3, 2)
    assert match(overlaps, 0.3).tolist() == [0, -1, -1]
