"""Figures against scikit-learn, torchmetrics, shapely and what is known of maps that are made for it."""

import dataclasses
import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from scipy.ndimage import binary_erosion, gaussian_filter, label
from scipy.optimize import linear_sum_assignment

from darts_evaluation import (
    FewBlocksWarning,
    LabelsError,
    NoLabelAreaWarning,
    PredictionsError,
    TileMap,
    evaluate,
    make_labels,
    mapped_objects,
    read_labels,
    write_report,
)
from darts_evaluation.ground import burn
from support.lanes import mostly_slow

CRS = "EPSG:32608"
PIXEL_M = 10.0


def shapes_of(mask: np.ndarray, transform: Affine) -> list:
    """Return the 8-connected areas of a mask, by GDAL's own labelling."""
    from rasterio.features import shapes

    numbers, _ = label(mask, np.ones((3, 3)))
    parts: dict[int, list] = {}
    for shape, number in shapes(numbers.astype("int32"), mask=mask, transform=transform, connectivity=4):
        parts.setdefault(int(number), []).append(shapely.geometry.shape(shape))
    return [shapely.MultiPolygon(each) for each in parts.values()]


def blobs(rng: np.random.Generator, shape: tuple[int, int], share: float = 0.1) -> np.ndarray:
    field = gaussian_filter(rng.normal(size=shape), 3)
    return field > np.quantile(field, 1 - share)


def make_tile(
    seed: int = 0, size: int = 200, left: float = 500_000, name: str = "a", **parts
) -> tuple[TileMap, np.ndarray]:
    """Make a tile and the truth on its grid: a map that errs in places, seen but for a corner."""
    rng = np.random.default_rng(seed)
    transform = Affine(PIXEL_M, 0, left, 0, -PIXEL_M, 7_600_000)
    truth = blobs(rng, (size, size))
    wrong = blobs(rng, (size, size), 0.03)
    seen = np.ones((size, size), bool)
    seen[: size // 4, : size // 5] = False
    seen = parts.get("seen", seen)
    mapped = (truth ^ wrong) & seen
    probability = np.clip(np.where(mapped, 70, 20) + rng.normal(0, 10, mapped.shape), 0, 100).round().astype(np.uint8)
    objects = gpd.GeoDataFrame({"mean": 0.5}, index=[], geometry=[], crs=CRS)
    made = shapes_of(mapped, transform)
    means = [float(probability[burn([each], transform, mapped.shape)].mean()) / 100 for each in made]
    objects = gpd.GeoDataFrame({"mean": means}, geometry=made, crs=CRS)
    return TileMap(
        name, rasterio.crs.CRS.from_user_input(CRS).to_wkt(), transform, mapped, seen, objects, probability
    ), truth


def labels_of(truth: np.ndarray, transform: Affine, area=None):
    outlines = gpd.GeoDataFrame(geometry=shapes_of(truth, transform), crs=CRS)
    height, width = truth.shape
    left, top = transform * (0, 0)
    box = shapely.box(left, top - height * PIXEL_M, left + width * PIXEL_M, top) if area is None else area
    return make_labels(outlines, gpd.GeoSeries([box], crs=CRS))


@pytest.mark.parametrize("seed", mostly_slow(range(4), lambda seed: seed < 2))
def test_pixels_equal_scikit_learn(seed):
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    tile, truth = make_tile(seed)
    found = evaluate([tile], labels_of(truth, tile.transform), block_m=300).figures["pixels"]
    y, p = truth[tile.seen], tile.mapped[tile.seen]
    for name, score in (
        ("iou", jaccard_score),
        ("f1", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        assert found[name].value == pytest.approx(score(y, p), abs=1e-12)
        assert found[name].low < found[name].value < found[name].high
    assert found["evaluated_km2"].value == pytest.approx(tile.seen.sum() * 1e-4)
    assert found["not_seen_km2"].value == pytest.approx((~tile.seen).sum() * 1e-4)
    assert found["slump_not_seen_km2"].value == pytest.approx((truth & ~tile.seen).sum() * 1e-4)


@pytest.mark.parametrize("seed", mostly_slow(range(3), lambda seed: seed < 2))
def test_probabilities_equal_scikit_learn_and_torchmetrics(seed):
    import torch
    from sklearn.metrics import brier_score_loss, precision_recall_fscore_support
    from torchmetrics.functional.classification import binary_calibration_error

    tile, truth = make_tile(seed)
    found = evaluate([tile], labels_of(truth, tile.transform), block_m=300)
    figures = found.figures["probability"]
    y, p = truth[tile.seen].astype(int), tile.probability[tile.seen] / 100
    assert figures["brier"].value == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    # Percents that lie on an edge of a bin fall to either side in float32; half of a thousandth moves none over it.
    expected = binary_calibration_error(torch.tensor(np.minimum(p + 5e-4, 1.0)), torch.tensor(y), n_bins=15, norm="l1")
    assert figures["calibration_error"].value == pytest.approx(float(expected), abs=1e-3)
    curve = found.tables["thresholds"]
    for place in (20, 50, 77):
        precision, recall, f1, _ = precision_recall_fscore_support(
            y, tile.probability[tile.seen] >= place, average="binary"
        )
        assert curve["precision"][place] == pytest.approx(precision)
        assert curve["recall"][place] == pytest.approx(recall)
        assert curve["f1"][place] == pytest.approx(f1)
    assert figures["best_f1"].value == pytest.approx(np.nanmax(curve["f1"]))


@pytest.mark.parametrize("seed", mostly_slow(range(3), lambda seed: seed < 2))
def test_objects_equal_a_plain_count(seed):
    tile, truth = make_tile(seed, seen=np.ones((200, 200), bool))
    found = evaluate([tile], labels_of(truth, tile.transform), block_m=300)
    numbers, count = label(truth, np.ones((3, 3)))
    mapped, mapped_count = label(tile.mapped, np.ones((3, 3)))
    pairs = np.stack([mapped.ravel(), numbers.ravel()])
    both = np.zeros((mapped_count + 1, count + 1))
    np.add.at(both, tuple(pairs), 1)
    iou = both / (both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both)
    enough = iou[1:, 1:] >= 0.5
    hits = int(enough[linear_sum_assignment(enough, maximize=True)].sum())
    figures = found.figures["objects"]
    assert (figures["labels"].value, figures["mapped"].value) == (count, mapped_count)
    assert figures["recall@0.5"].value == pytest.approx(hits / count)
    assert figures["precision@0.5"].value == pytest.approx(hits / mapped_count)
    assert figures["f1@0.5"].value == pytest.approx(2 * hits / (count + mapped_count))
    assert figures["recall@0.1"].value >= figures["recall@0.5"].value >= figures["recall@0.9"].value
    kinds = found.outlines["kind"].value_counts()
    assert kinds["hit"] + kinds.get("false alarm", 0) == mapped_count
    assert kinds["hit"] + kinds.get("miss", 0) == count
    assert found.outlines.area.sum() == pytest.approx(found.outlines["area_m2"].sum())


def test_size_is_that_of_the_shapes():
    tile, truth = make_tile(5, seen=np.ones((200, 200), bool))
    figures = evaluate([tile], labels_of(truth, tile.transform), block_m=300).figures["size"]
    assert figures["area_ratio"].value == pytest.approx(tile.mapped.sum() / truth.sum())
    low, bias, high = (figures[name].value for name in ("area_limit_low_m2", "area_bias_m2", "area_limit_high_m2"))
    assert low < bias < high
    assert (low + high) / 2 == pytest.approx(bias)


def test_outlines_equal_a_plain_computation():
    tile, truth = make_tile(6, size=120, seen=np.ones((120, 120), bool))
    figures = evaluate([tile], labels_of(truth, tile.transform), block_m=200).figures["outlines"]
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])

    def edge(mask):
        return mask & ~binary_erosion(mask, cross, border_value=1)

    one, other = np.argwhere(edge(tile.mapped)), np.argwhere(edge(truth))
    apart = np.hypot(*(one[:, None] - other[None]).transpose(2, 0, 1))
    for width in (1, 2, 3):
        precision, recall = (apart.min(1) <= width).mean(), (apart.min(0) <= width).mean()
        expected = 2 * precision * recall / (precision + recall)
        assert figures[f"boundary_f1@{width}px"].value == pytest.approx(expected)
        strips = []
        for mask, points in ((tile.mapped, one), (truth, other)):
            places = np.argwhere(mask)
            near = np.hypot(*(places[:, None] - points[None]).transpose(2, 0, 1)).min(1) < width
            strip = np.zeros(mask.shape, bool)
            strip[tuple(places[near].T)] = True
            strips.append(strip)
        assert figures[f"boundary_iou@{width}px"].value == pytest.approx(
            (strips[0] & strips[1]).sum() / (strips[0] | strips[1]).sum()
        )


def test_never_seen_ground_is_neither_missed_nor_right():
    tile, truth = make_tile(7)
    labels = labels_of(truth, tile.transform)
    plain = evaluate([tile], labels, block_m=300)
    other = truth.copy()
    other[:50, :40] ^= True  # what lies where nobody saw
    same = dataclasses.replace(tile, probability=np.where(tile.seen, tile.probability, 255).astype(np.uint8))
    again = evaluate([same], labels_of(truth & tile.seen | other & ~tile.seen, tile.transform), block_m=300)
    pixels = {("pixels", name) for name in ("iou", "f1", "precision", "recall", "evaluated_km2")}
    assert again.figures["probability"].keys() == plain.figures["probability"].keys()
    for group, name in pixels | {("probability", name) for name in plain.figures["probability"]}:
        now, before = (dataclasses.astuple(each.figures[group][name]) for each in (again, plain))
        np.testing.assert_array_equal(now, before)  # nan is nan here


def test_ground_of_two_tiles_counts_once():
    """Two halves of one map that overlap give what the whole gives."""
    whole, truth = make_tile(8, seen=np.ones((200, 200), bool))
    labels = labels_of(truth, whole.transform)
    parts = []
    for name, cols in (("b", slice(60, 200)), ("a", slice(0, 120))):
        transform = whole.transform * Affine.translation(cols.start, 0)
        mapped = whole.mapped[:, cols]
        objects = gpd.GeoDataFrame(
            {"mean": 0.5}, index=range(len(made := shapes_of(mapped, transform))), geometry=made, crs=CRS
        )
        seen = np.ones(mapped.shape, bool)
        parts.append(TileMap(name, whole.crs, transform, mapped, seen, objects, whole.probability[:, cols]))
    one, two = evaluate([whole], labels, block_m=300), evaluate(parts, labels, block_m=300)
    for name in ("iou", "f1", "precision", "recall", "evaluated_km2", "slump_km2"):
        assert two.figures["pixels"][name].value == pytest.approx(one.figures["pixels"][name].value)
    assert two.figures["probability"]["brier"].value == pytest.approx(one.figures["probability"]["brier"].value)
    assert two.figures["objects"]["labels"].value <= one.figures["objects"]["labels"].value
    assert [tile.name for tile in two.tiles] == ["a", "b"]
    areas = [tile.figures["pixels"]["evaluated_km2"].value for tile in two.tiles]
    assert areas == pytest.approx([1.2 * 2, 0.8 * 2])
    reversed_order = evaluate(parts[::-1], labels, block_m=300)
    assert json.dumps(str(reversed_order.figures)) == json.dumps(str(two.figures))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_what_no_tile_has_seen_counts_once(seed):
    """Tiles overlap in any way; ground is unseen only where none of those that hold it has seen it."""
    rng = np.random.default_rng(seed)
    whole, truth = make_tile(8 + seed, seen=np.ones((200, 200), bool))
    labels = labels_of(truth, whole.transform)
    seen, held, parts = np.zeros((200, 200), bool), np.zeros((200, 200), bool), []
    for name in "abcd":
        top, left = rng.integers(0, 80, 2)
        bottom, right = top + rng.integers(90, 120), left + rng.integers(90, 120)
        view = np.s_[top:bottom, left:right]
        sees = rng.random((bottom - top, right - left)) < 0.6
        seen[view] |= sees
        held[view] = True
        transform = whole.transform * Affine.translation(int(left), int(top))
        made = gpd.GeoDataFrame({"mean": []}, geometry=[], crs=CRS)
        mapped = whole.mapped[view]
        parts.append(TileMap(name, whole.crs, transform, mapped, sees, made, whole.probability[view]))
    found = evaluate(parts, labels, block_m=300).figures["pixels"]
    area = burn([labels.area], whole.transform, truth.shape)
    pixel_km2 = abs(whole.transform.a * whole.transform.e) / 1e6
    for name, mask in (("not_seen_km2", area), ("slump_not_seen_km2", area & truth)):
        assert found[name].value == pytest.approx((mask & held & ~seen).sum() * pixel_km2)
    assert found["evaluated_km2"].value == pytest.approx((area & seen).sum() * pixel_km2)


def test_labels_in_another_crs_give_the_same():
    tile, truth = make_tile(9)
    labels = labels_of(truth, tile.transform)
    there = make_labels(labels.outlines.to_crs("EPSG:4326"), gpd.GeoSeries([labels.area], crs=CRS).to_crs("EPSG:4326"))
    one, two = evaluate([tile], labels, block_m=300), evaluate([tile], there, block_m=300)
    assert two.figures["pixels"]["iou"].value == pytest.approx(one.figures["pixels"]["iou"].value, abs=1e-4)
    assert two.figures["objects"]["f1@0.5"].value == pytest.approx(one.figures["objects"]["f1@0.5"].value, abs=0.02)


def test_without_an_area_nothing_is_said_about_false_alarms(tmp_path):
    tile, truth = make_tile(10)
    labels_of(truth, tile.transform).outlines.to_file(tmp_path / "labels.gpkg")
    with pytest.warns(NoLabelAreaWarning, match="false alarms"):
        labels = read_labels(tmp_path / "labels.gpkg")
    found = evaluate([tile], labels, block_m=300)
    names = {name for figures in found.figures.values() for name in figures}
    assert "recall" in names
    assert not [name for name in names if name.startswith(("precision", "f1", "iou", "average", "boundary", "brier"))]
    assert "false alarm" not in set(found.outlines["kind"])
    assert any("no precision" in note for note in found.notes)


def test_few_blocks_are_a_warning():
    tile, truth = make_tile(11)
    with pytest.warns(FewBlocksWarning, match="below 20"):
        found = evaluate([tile], labels_of(truth, tile.transform), block_m=2000)
    assert found.blocks < 20


def test_labels_elsewhere_are_one_sentence():
    tile, truth = make_tile(12)
    far = Affine(PIXEL_M, 0, 700_000, 0, -PIXEL_M, 7_000_000)
    with pytest.raises(LabelsError, match="overlap"):
        evaluate([tile], labels_of(truth, far), block_m=300)


def test_no_results_are_one_sentence(tmp_path):
    tile, truth = make_tile(13)
    with pytest.raises(PredictionsError, match=r"no finished results.*manifest\.json"):
        evaluate(tmp_path, labels_of(truth, tile.transform))


def test_a_report_holds_the_figures_and_opens(tmp_path):
    import pyogrio
    from PIL import Image

    tile, truth = make_tile(14)
    found = evaluate([tile], labels_of(truth, tile.transform), block_m=300)
    files = write_report(found, tmp_path / "report", title="A map")
    content = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert content["figures"]["pixels"]["iou"]["value"] == found.figures["pixels"]["iou"].value
    text = (tmp_path / "report" / "evaluation.md").read_text()
    assert text.startswith("# A map")
    assert f"{found.figures['pixels']['iou'].value:.3f}" in text
    for path in files:
        if path.suffix == ".png":
            assert f"![{path.stem}]({path.name})" in text
            with Image.open(path) as picture:
                assert picture.size > (400, 300)
    layers = dict(pyogrio.list_layers(tmp_path / "report" / "evaluation.gpkg"))
    assert set(layers) == {"hits", "false_alarms", "misses", "not_seen"}
    hits = gpd.read_file(tmp_path / "report" / "evaluation.gpkg", layer="hits")
    assert len(hits) == (found.outlines["kind"] == "hit").sum()
    assert {path.name for path in (tmp_path / "report").iterdir()} == {path.name for path in files}
    before = (tmp_path / "report" / "evaluation.json").read_bytes()
    write_report(found, tmp_path / "report", title="A map")
    assert (tmp_path / "report" / "evaluation.json").read_bytes() == before


def test_an_object_on_a_label_that_was_barely_seen_is_no_false_alarm():
    tile, _ = make_tile(3, seen=np.ones((200, 200), bool))
    mapped, seen = np.zeros((200, 200), bool), np.ones((200, 200), bool)
    seen[:, :100] = False
    mapped[40:60, 100:108] = True  # the seen tenth of a label that reaches far into unseen ground
    mapped[140:160, 150:170] = True  # a real false alarm
    objects = mapped_objects(mapped, tile.transform, CRS)
    barely = dataclasses.replace(tile, mapped=mapped, seen=seen, objects=objects, probability=None)
    left, top = tile.transform * (20, 40)
    label_shape = shapely.box(left, top - 200, left + 880, top)
    labels = make_labels(
        gpd.GeoDataFrame(geometry=[label_shape], crs=CRS), gpd.GeoSeries([shapely.box(0, 0, 1e6, 1e7)], crs=CRS)
    )
    with pytest.warns(FewBlocksWarning):
        figures = evaluate([barely], labels, block_m=300).figures["objects"]
    assert (figures["labels"].value, figures["mapped"].value) == (0, 1)
