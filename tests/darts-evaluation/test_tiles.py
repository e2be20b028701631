"""Figures over the union of tiles are those of the whole, wherever the tiles lie and whatever their order."""

import dataclasses
import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from sklearn.metrics import brier_score_loss, f1_score

from darts_evaluation import FewBlocksWarning, PredictionsError, TileMap, evaluate, make_labels
from darts_utils import GridError
from support.lanes import mostly_slow
from support.maps import CRS, GRID, GROUND, PIXEL_M, SIZE, labels_of, make_tile, tile_of, view_of

pytestmark = pytest.mark.filterwarnings("ignore::darts_evaluation.FewBlocksWarning")
ALL = np.ones((SIZE, SIZE), bool)
BLOCK_M = 150


def assert_same(one, other, groups=("pixels", "objects", "outlines", "size", "probability")) -> None:
    for group in groups:
        assert one[group].keys() == other[group].keys()
        for name, figure in one[group].items():
            np.testing.assert_allclose(
                dataclasses.astuple(other[group][name]), dataclasses.astuple(figure), rtol=1e-6, atol=1e-6, err_msg=name
            )


@pytest.mark.parametrize("seed", mostly_slow(range(12), lambda seed: seed == 0))
def test_figures_of_overlapping_tiles_are_those_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    whole, truth = make_tile(seed, seen=ALL)
    row, col = rng.integers(40, 80, 2)
    more = rng.integers(0, 30, 8)
    parts = [
        view_of(whole, "dbca"[number], slice(top, bottom), slice(left, right))
        for number, (top, bottom, left, right) in enumerate(
            [
                (0, row + more[0], 0, col + more[1]),
                (0, row + more[2], col - more[3], SIZE),
                (row - more[4], SIZE, 0, col + more[5]),
                (row - more[6], SIZE, col - more[7], SIZE),
            ]
        )
    ]
    labels = labels_of(truth)
    one, many = evaluate([whole], labels, block_m=BLOCK_M), evaluate(parts, labels, block_m=BLOCK_M)
    # Boundaries at the border of a tile's own ground are not those of the whole, nor are confidences; objects that were
    # put together may count in the block beside.
    assert_same(one.figures, many.figures, ("pixels",))
    for group in ("objects", "size"):
        found, expected = ({k: v.value for k, v in each.figures[group].items()} for each in (many, one))
        found["average_precision"] = expected["average_precision"] = 0
        assert found == pytest.approx(expected, nan_ok=True)
    assert many.figures["outlines"]["distance_m"].value == pytest.approx(one.figures["outlines"]["distance_m"].value)
    assert many.figures["probability"]["brier"].value == pytest.approx(one.figures["probability"]["brier"].value)
    assert [tile.name for tile in many.tiles] == ["a", "b", "c", "d"]
    ground = [tile.figures["pixels"]["evaluated_km2"].value for tile in many.tiles]
    assert sum(ground) == pytest.approx(SIZE**2 * PIXEL_M**2 / 1e6 * GROUND, rel=1e-5)
    for name in ("labels", "mapped"):
        assert sum(tile.figures["objects"][name].value for tile in many.tiles) == one.figures["objects"][name].value


@pytest.mark.parametrize("seed", mostly_slow(range(4), lambda seed: seed == 0))
def test_order_of_tiles_objects_and_labels_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    whole, truth = make_tile(seed, seen=ALL)
    whole = dataclasses.replace(whole, objects=whole.objects.assign(mean=rng.integers(5, 8, len(whole.objects)) / 10))
    labels = labels_of(truth)
    named = whole.objects.set_index(whole.objects.index.map("object {}".format))
    mixed = dataclasses.replace(whole, objects=named.sample(frac=1, random_state=seed))
    outlines = labels.outlines.sample(frac=1, random_state=seed).reset_index(drop=True)
    other = dataclasses.replace(labels, outlines=outlines)
    one, two = evaluate([whole], labels, block_m=BLOCK_M), evaluate([mixed], other, block_m=BLOCK_M)
    assert repr(two.figures) == repr(one.figures)
    assert json.dumps(two.tables, default=list) == json.dumps(one.tables, default=list)
    parts = [view_of(whole, name, slice(0, SIZE), cols) for name, cols in (("b", slice(50, SIZE)), ("a", slice(0, 70)))]
    one, two = evaluate(parts, labels, block_m=BLOCK_M), evaluate(parts[::-1], labels, block_m=BLOCK_M)
    assert repr(two.figures) == repr(one.figures)
    assert repr(two.tiles) == repr(one.tiles)
    ground = {tile.name: tile.figures["pixels"]["evaluated_km2"].value for tile in two.tiles}
    assert ground == pytest.approx({"a": 70 * SIZE / 1e4 * GROUND, "b": 50 * SIZE / 1e4 * GROUND}, rel=1e-5)


@pytest.mark.parametrize("seed", mostly_slow(range(6), lambda seed: seed == 0))
def test_what_no_tile_has_seen_counts_once(seed):
    """Tiles overlap in any way; ground is unseen only where none of those that hold it has seen it."""
    rng = np.random.default_rng(seed)
    whole, truth = make_tile(8 + seed, seen=ALL)
    seen, held, parts = ~ALL, ~ALL, []
    for name in "abcd":
        top, left = rng.integers(0, 48, 2)
        bottom, right = top + rng.integers(54, 72), left + rng.integers(54, 72)
        rows, cols = slice(top, bottom), slice(left, right)
        sees = rng.random((bottom - top, right - left)) < 0.6
        seen[rows, cols] |= sees
        held[rows, cols] = True
        part = view_of(whole, name, rows, cols)
        parts.append(dataclasses.replace(part, seen=sees, objects=part.objects[:0]))
    found = evaluate(parts, labels_of(truth), block_m=BLOCK_M).figures["pixels"]
    pixel_km2 = PIXEL_M**2 / 1e6 * GROUND
    for name, mask in (("not_seen_km2", ALL), ("slump_not_seen_km2", truth)):
        assert found[name].value == pytest.approx((mask & held & ~seen).sum() * pixel_km2, rel=1e-5)
    assert found["evaluated_km2"].value == pytest.approx(seen.sum() * pixel_km2, rel=1e-5)


def test_tiles_of_two_zones_are_joined_and_count_once():
    """One map on two grids: an object that both have part of is one, and so is its label."""
    mapped = ~ALL
    mapped[40:80, 40:80] = True
    label = shapely.box(500_400, 7_599_200, 500_800, 7_599_600)
    outlines = gpd.GeoDataFrame(geometry=[label], crs=CRS)
    one = tile_of("a", mapped & (np.arange(SIZE) < 55), ALL & (np.arange(SIZE) < 55), None)
    zone = "EPSG:32609"
    (x, y) = gpd.GeoSeries([shapely.Point(500_600, 7_599_400)], crs=CRS).to_crs(zone).iloc[0].coords[0]
    grid = Affine(PIXEL_M, 0, x - 1000, 0, -PIXEL_M, y + 1000)
    shape = outlines.to_crs(zone).geometry.iloc[0]
    from darts_evaluation.ground import burn

    other = tile_of("b", burn([shape], grid, (200, 200)), np.ones((200, 200), bool), None, grid)
    there = other.objects.set_crs(zone, allow_override=True)
    other = dataclasses.replace(other, crs=gpd.GeoSeries([], crs=zone).crs.to_wkt(), objects=there)
    labels = make_labels(outlines, gpd.GeoSeries([shapely.box(500_000, 7_598_800, 501_200, 7_600_000)], crs=CRS))
    found = evaluate([one, other], labels)
    objects, pixels = found.figures["objects"], found.figures["pixels"]
    assert (objects["labels"].value, objects["mapped"].value, objects["recall@0.9"].value) == (1, 1, 1)
    assert pixels["iou"].value > 0.97
    assert pixels["slump_km2"].value == pytest.approx(0.16, rel=0.01)
    assert found.outlines.crs.to_epsg() == 6931
    assert found.outlines["area_m2"].tolist() == pytest.approx([160_000], rel=0.02)


def test_an_object_on_a_label_that_was_barely_seen_is_no_false_alarm():
    mapped, seen = ~ALL, ALL.copy()
    seen[:, :60] = False
    mapped[20:40, 60:68] = True  # the seen tenth of a label that reaches far into unseen ground
    mapped[80:100, 90:110] = True  # a real false alarm
    left, top = GRID * (0, 20)
    labels = make_labels(
        gpd.GeoDataFrame(geometry=[shapely.box(left - 120, top - 200, left + 680, top)], crs=CRS),
        gpd.GeoSeries([shapely.box(4e5, 7.5e6, 6e5, 7.7e6)], crs=CRS),
    )
    found = evaluate([tile_of("a", mapped, seen, None)], labels, block_m=BLOCK_M)
    objects = found.figures["objects"]
    assert (objects["labels"].value, objects["mapped"].value) == (0, 1)
    assert found.outlines["kind"].value_counts().to_dict() == {"false alarm": 1, "not seen": 1}
    assert any("1 labels lie with less than 50%" in note for note in found.notes)


def test_labels_of_the_whole_arctic_are_looked_at_near_the_tile_only():
    """Labels that the zone of the tile does not reach, some beyond 180°, change nothing."""
    tile, truth = make_tile(4, seen=ALL)
    labels = labels_of(truth)
    far = [shapely.box(x, y, x + 0.1, y + 0.05) for x, y in ((60, 70), (-45, 80), (150, 68), (179.9, 69), (-180, 69))]
    places = gpd.GeoDataFrame(geometry=far, crs="EPSG:4326")
    outlines = gpd.pd.concat([labels.outlines.to_crs("EPSG:4326"), places])[["geometry"]]
    area = gpd.pd.concat([gpd.GeoSeries([labels.area], crs=CRS).to_crs("EPSG:4326"), places.geometry])
    one, two = evaluate([tile], labels), evaluate([tile], make_labels(outlines, area))
    assert_same(one.figures, two.figures, ("pixels", "outlines", "probability"))
    assert two.figures["objects"]["labels"].value == one.figures["objects"]["labels"].value
    assert np.isfinite(two.outlines.total_bounds).all()


def test_two_results_of_one_tile_are_refused():
    tile, truth = make_tile(0)
    with pytest.raises(PredictionsError, match="one name"):
        evaluate([tile, tile], labels_of(truth))
    with pytest.raises(PredictionsError, match=r"Beside maps, results was given"):
        evaluate([tile, "results"], labels_of(truth))


def test_a_grid_whose_metres_are_none_is_refused():
    tile, truth = make_tile(0)
    with pytest.raises(GridError, match=r"Tile a .* areas are"):
        evaluate([dataclasses.replace(tile, crs="EPSG:3857")], labels_of(truth))


def test_metres_are_looked_at_in_the_middle_of_a_tile(monkeypatch):
    whole, truth = make_tile(0)
    looked: list = []
    monkeypatch.setattr("darts_evaluation.collecting.check_areal_scale", lambda *given: looked.append(given[1:3]))
    evaluate([view_of(whole, "a", slice(20, 60), slice(10, SIZE))], labels_of(truth), block_m=BLOCK_M)
    assert looked == [(GRID.c + (10 + SIZE) / 2 * PIXEL_M, GRID.f - 40 * PIXEL_M)]


def test_few_blocks_are_a_warning():
    tile, truth = make_tile(11)
    with pytest.warns(FewBlocksWarning, match="below 20") as given:
        found = evaluate([tile], labels_of(truth), block_m=2000)
    assert found.blocks < 20
    assert [each.filename for each in given if each.category is FewBlocksWarning] == [__file__]


def test_probabilities_of_two_pixel_sizes_count_by_their_ground():
    """Of the same ground in pixels of 5 and of 10 m, four small pixels weigh as much as a large one."""
    rng = np.random.default_rng(5)
    truth = np.zeros((2, 40, 40), bool)
    truth[:, 10:20, 10:20] = True
    percent = np.clip(
        100 * np.stack([truth[0] * 0.8 + 0.1, truth[1] * 0.2 + 0.4]) + rng.normal(0, 9, truth.shape), 0, 100
    )
    percent = percent.round().astype(np.uint8)
    tiles, shapes = [], []
    for number, (px, repeat) in enumerate(((5, 2), (10, 1))):
        grid = Affine(px, 0, GRID.c + 400 * number, 0, -px, GRID.f)
        large = np.kron(percent[number], np.ones((repeat, repeat), np.uint8))
        mapped = large >= 50
        objects = gpd.GeoDataFrame({"mean": []}, geometry=[], crs=CRS)
        tiles.append(TileMap("ab"[number], CRS, grid, mapped, np.ones_like(mapped), objects, large))
        left, top = GRID.c + 400 * number + 100, GRID.f - 100
        shapes.append(shapely.box(left, top - 100, left + 100, top))
    area = gpd.GeoSeries([shapely.box(GRID.c, GRID.f - 400, GRID.c + 800, GRID.f)], crs=CRS)
    found = evaluate(tiles, make_labels(gpd.GeoDataFrame(geometry=shapes, crs=CRS), area))
    figures, table = found.figures, found.tables["thresholds"]
    assert figures["probability"]["brier"].value == pytest.approx(
        brier_score_loss(truth.ravel(), percent.ravel() / 100)
    )
    assert table["f1"][50] == pytest.approx(f1_score(truth.ravel(), percent.ravel() >= 50))
    assert table["f1"][50] == pytest.approx(figures["pixels"]["f1"].value)
    assert found.tables["reliability"]["area_m2"].sum() == pytest.approx(2 * 400 * 400 * GROUND, rel=1e-5)
