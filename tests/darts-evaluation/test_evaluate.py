"""Figures against scikit-learn, torchmetrics, shapely and what is known of maps that are made for it."""

import dataclasses
import json

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from pyogrio.errors import DataSourceError
from scipy.ndimage import binary_erosion, label
from scipy.optimize import linear_sum_assignment

from darts_evaluation import (
    LabelsError,
    NoLabelAreaWarning,
    PredictionsError,
    evaluate,
    make_labels,
    read_labels,
    write_report,
)
from support.lanes import mostly_slow
from support.maps import CRS, GROUND, PIXEL_M, SIZE, labels_of, make_tile, shapes_of, tile_of

pytestmark = pytest.mark.filterwarnings("ignore::darts_evaluation.FewBlocksWarning")
ALL = np.ones((SIZE, SIZE), bool)
BLOCK_M = 150


@pytest.mark.parametrize("seed", mostly_slow(range(4), lambda seed: seed < 1))
def test_pixels_equal_scikit_learn(seed):
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    tile, truth = make_tile(seed)
    found = evaluate([tile], labels_of(truth), block_m=BLOCK_M).figures["pixels"]
    y, p = truth[tile.seen], tile.mapped[tile.seen]
    for name, score in (
        ("iou", jaccard_score),
        ("f1", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        assert found[name].value == pytest.approx(score(y, p), abs=1e-7)
        assert found[name].low < found[name].value < found[name].high
    assert found["evaluated_km2"].value == pytest.approx(tile.seen.sum() * 1e-4 * GROUND, rel=1e-5)
    assert found["not_seen_km2"].value == pytest.approx((~tile.seen).sum() * 1e-4 * GROUND, rel=1e-5)
    assert found["slump_not_seen_km2"].value == pytest.approx((truth & ~tile.seen).sum() * 1e-4 * GROUND, rel=1e-5)


@pytest.mark.parametrize("seed", mostly_slow(range(3), lambda seed: seed < 1))
def test_probabilities_equal_scikit_learn(seed):
    from sklearn.metrics import brier_score_loss, precision_recall_fscore_support

    tile, truth = make_tile(seed)
    found = evaluate([tile], labels_of(truth), block_m=BLOCK_M)
    figures = found.figures["probability"]
    y, p = truth[tile.seen].astype(int), tile.probability[tile.seen] / 100
    assert figures["brier"].value == pytest.approx(brier_score_loss(y, p), abs=1e-7)
    gaps = [
        abs(p[inside].mean() - y[inside].mean()) * inside.mean()
        for number in range(15)
        if (inside := (p >= number / 15) & ((p < (number + 1) / 15) | (number == 14))).any()
    ]
    assert figures["calibration_error"].value == pytest.approx(sum(gaps))
    curve = found.tables["thresholds"]
    for place in (20, 50, 77):
        precision, recall, f1, _ = precision_recall_fscore_support(
            y, tile.probability[tile.seen] >= place, average="binary"
        )
        assert curve["precision"][place] == pytest.approx(precision)
        assert curve["recall"][place] == pytest.approx(recall)
        assert curve["f1"][place] == pytest.approx(f1)
    assert figures["best_f1"].value == pytest.approx(np.nanmax(curve["f1"]))


@pytest.mark.slow
def test_calibration_error_equals_torchmetrics():
    """Marked slow because torch takes five seconds to come."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    tile, truth = make_tile(1)
    found = evaluate([tile], labels_of(truth), block_m=BLOCK_M).figures["probability"]["calibration_error"]
    y, p = truth[tile.seen].astype(int), tile.probability[tile.seen] / 100
    # Percents that lie on an edge of a bin fall to either side in float32; half of a thousandth moves none over it.
    expected = binary_calibration_error(torch.tensor(np.minimum(p + 5e-4, 1.0)), torch.tensor(y), n_bins=15, norm="l1")
    assert found.value == pytest.approx(float(expected), abs=1e-3)


def overlaps_of(mapped: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels of each object and of each label, and their intersections over union, 2-D."""
    (ours, count), (theirs, other_count) = (label(each, np.ones((3, 3))) for each in (mapped, truth))
    both = np.zeros((count + 1, other_count + 1))
    np.add.at(both, (ours.ravel(), theirs.ravel()), 1)
    one, other = both[1:].sum(1), both[:, 1:].sum(0)
    return one, other, both[1:, 1:] / (one[:, None] + other - both[1:, 1:])


@pytest.mark.parametrize("seed", mostly_slow(range(3), lambda seed: seed < 1))
def test_objects_and_sizes_equal_a_plain_count(seed):
    tile, truth = make_tile(seed, seen=ALL)
    found = evaluate([tile], labels_of(truth), block_m=BLOCK_M)
    one, other, iou = overlaps_of(tile.mapped, truth)
    figures = found.figures["objects"]
    assert (figures["labels"].value, figures["mapped"].value) == (len(other), len(one))
    for least in (0.1, 0.3, 0.5, 0.9):
        enough = iou >= least
        pairs = linear_sum_assignment(enough * (1 + iou / 1000), maximize=True)
        hits = int(enough[pairs].sum())
        assert figures[f"recall@{least}"].value == pytest.approx(hits / len(other))
        assert figures[f"precision@{least}"].value == pytest.approx(hits / len(one))
        assert figures[f"f1@{least}"].value == pytest.approx(2 * hits / (len(other) + len(one)))
        if least == 0.3:
            drawn = found.outlines[found.outlines["kind"] == "hit"]
            assert sorted(drawn["iou"]) == pytest.approx(sorted(iou[pairs][enough[pairs]]))
        if least in (0.3, 0.5):
            caught = np.isin(np.arange(len(other)), pairs[1][enough[pairs]])
            for low, high in ((0, 1e3), (1e3, 5e3), (5e3, 1e4), (1e4, 5e4)):
                inside = (other * PIXEL_M**2 * GROUND >= low) & (other * PIXEL_M**2 * GROUND < high)
                share = caught[inside].mean() if inside.any() else np.nan
                name = f"recall@{least} {low / 1e4:g}-{high / 1e4:g} ha"
                assert figures[name].value == pytest.approx(share, nan_ok=True)
    kinds = found.outlines["kind"].value_counts()
    assert kinds["hit"] + kinds.get("false alarm", 0) == len(one)
    assert kinds["hit"] + kinds.get("miss", 0) == len(other)
    assert found.outlines.area.sum() * GROUND == pytest.approx(found.outlines["area_m2"].sum(), rel=1e-5)
    sizes, pairs = found.figures["size"], linear_sum_assignment((iou >= 0.3) * (1 + iou / 1000), maximize=True)
    kept = iou[pairs] >= 0.3
    difference = (one[pairs[0][kept]] - other[pairs[1][kept]]) * PIXEL_M**2 * GROUND
    mean, spread = difference.mean(), 1.96 * difference.std(ddof=1)
    assert spread > 0
    assert sizes["area_bias_m2"].value == pytest.approx(mean, rel=1e-5)
    assert sizes["area_limit_low_m2"].value == pytest.approx(mean - spread, rel=1e-5)
    assert sizes["area_limit_high_m2"].value == pytest.approx(mean + spread, rel=1e-5)
    assert sizes["area_ratio"].value == pytest.approx(tile.mapped.sum() / truth.sum())
    assert sizes["count_ratio"].value == pytest.approx(len(one) / len(other))


def test_outlines_equal_a_plain_computation():
    tile, truth = make_tile(6, seen=ALL)
    figures = evaluate([tile], labels_of(truth), block_m=BLOCK_M).figures["outlines"]
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
    labels = labels_of(truth)
    plain = evaluate([tile], labels, block_m=BLOCK_M)
    other = truth.copy()
    other[:30, :24] ^= True  # what lies where nobody saw
    same = dataclasses.replace(tile, probability=np.where(tile.seen, tile.probability, 255).astype(np.uint8))
    again = evaluate([same], labels_of(truth & tile.seen | other & ~tile.seen), block_m=BLOCK_M)
    pixels = {("pixels", name) for name in ("iou", "f1", "precision", "recall", "evaluated_km2")}
    assert again.figures["probability"].keys() == plain.figures["probability"].keys()
    for group, name in pixels | {("probability", name) for name in plain.figures["probability"]}:
        now, before = (dataclasses.astuple(each.figures[group][name]) for each in (again, plain))
        np.testing.assert_array_equal(now, before)  # nan is nan here


def test_labels_in_another_crs_give_the_same():
    tile, truth = make_tile(9)
    labels = labels_of(truth)
    there = make_labels(labels.outlines.to_crs("EPSG:4326"), gpd.GeoSeries([labels.area], crs=CRS).to_crs("EPSG:4326"))
    one, two = evaluate([tile], labels, block_m=BLOCK_M), evaluate([tile], there, block_m=BLOCK_M)
    assert two.figures["pixels"]["iou"].value == pytest.approx(one.figures["pixels"]["iou"].value, abs=1e-4)
    assert two.figures["objects"]["f1@0.5"].value == pytest.approx(one.figures["objects"]["f1@0.5"].value, abs=0.02)


def test_without_an_area_nothing_is_said_about_false_alarms(tmp_path):
    tile, truth = make_tile(10)
    labels_of(truth).outlines.to_file(tmp_path / "labels.gpkg")
    with pytest.warns(NoLabelAreaWarning, match="false alarms"):
        labels = read_labels(tmp_path / "labels.gpkg")
    found = evaluate([tile], labels, block_m=BLOCK_M)
    names = {name for figures in found.figures.values() for name in figures}
    assert "recall" in names
    assert not [name for name in names if name.startswith(("precision", "f1", "iou", "average", "boundary", "brier"))]
    assert "false alarm" not in set(found.outlines["kind"])
    assert any("no precision" in note for note in found.notes)


def test_labels_elsewhere_are_one_sentence():
    tile, truth = make_tile(12)
    far = Affine(PIXEL_M, 0, 700_000, 0, -PIXEL_M, 7_000_000)
    with pytest.raises(LabelsError, match="overlap"):
        evaluate([tile], labels_of(truth, far), block_m=BLOCK_M)


def test_no_results_are_one_sentence(tmp_path):
    _, truth = make_tile(13)
    with pytest.raises(PredictionsError, match=r"no finished results.*manifest\.json"):
        evaluate(tmp_path, labels_of(truth))


def test_a_report_holds_the_figures_and_opens(tmp_path):
    import pyogrio
    from PIL import Image

    tile, truth = make_tile(14)
    found = evaluate([tile], labels_of(truth), block_m=BLOCK_M)
    files = write_report(found, tmp_path / "report", title="A map")
    content = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert content["format"] == 1
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
    before = {path.name: path.read_bytes() for path in files}
    assert int.from_bytes(before["evaluation.gpkg"][60:64], "big") == 10300  # GeoPackage 1.3, which old QGIS opens
    write_report(found, tmp_path / "report", title="A map")
    assert {path.name: path.read_bytes() for path in files} == before
    assert {path.name for path in files} >= {"reliability.png", "precision_recall.png", "size_classes.png"}
    other = write_report(dataclasses.replace(found, tables={}), tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {path.name for path in other}
    for name in ("thresholds", "objects_precision_recall"):
        some = write_report(dataclasses.replace(found, tables={name: found.tables[name]}), tmp_path / "report")
        assert [path.stem for path in some if path.suffix == ".png"] == ["precision_recall", "size_classes"]
    write_report(dataclasses.replace(found, tables={}), tmp_path / "report")
    assert "reliability" not in (tmp_path / "report" / "evaluation.md").read_text()


def test_what_is_drawn_are_the_figures(tmp_path, monkeypatch):
    from matplotlib.figure import Figure as Drawing

    drawn: list = []
    monkeypatch.setattr(Drawing, "savefig", lambda self, *_, **__: drawn.append(self))
    tile, truth = make_tile(14)
    found = evaluate([tile], labels_of(truth), block_m=BLOCK_M)
    write_report(found, tmp_path)
    lines = [[(line.get_xdata(), line.get_ydata()) for line in drawing.axes[0].lines] for drawing in drawn]
    table, pixels, objects = (found.tables[name] for name in ("reliability", "thresholds", "objects_precision_recall"))
    expected = [
        [([0, 1], [0, 1]), (table["probability"], table["frequency"])],
        [(each["recall"], each["precision"]) for each in (pixels, objects)],
    ]
    classes = [figure for name, figure in found.figures["objects"].items() if name.startswith("recall@0.3 ")]
    classes = [figure for figure in classes if np.isfinite(figure.value)]
    assert [bar.get_height() for bar in drawn[2].axes[0].patches] == [figure.value for figure in classes]
    expected.append([([n, n], [each.low, each.high]) for n, each in enumerate(classes) if np.isfinite(each.low)])
    assert len(expected[2]) > 0
    for curves, wanted in zip(lines, expected, strict=True):
        for curve, each in zip(curves, wanted, strict=True):
            np.testing.assert_array_equal(np.array(curve, float), np.array(each, float))


def test_outlines_that_cannot_be_written_are_an_os_error_and_leave_the_old_ones(tmp_path, monkeypatch):
    tile, truth = make_tile(14)
    found = evaluate([tile], labels_of(truth), block_m=BLOCK_M)
    found = dataclasses.replace(found, tables={}, figures=found.figures | {"objects": {}})  # nothing to draw
    *_, path = write_report(found, tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr("pyogrio.write_dataframe", _full)
    with pytest.raises(OSError, match=r"evaluation\.gpkg: disk full"):
        write_report(found, tmp_path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def _full(*_: object, **__: object) -> None:
    raise DataSourceError("disk full")


@pytest.mark.parametrize("count", [3, 4])
def test_distance_is_the_median_over_pairs(count):
    """Boxes of 400 m whose maps are shifted by 10, 20, … m: half of an outline moves along itself, half of it off."""
    shifts = np.arange(1, count + 1)
    truth, mapped = ~ALL, ~ALL
    for place, shift in enumerate(shifts):
        top, left = divmod(place, 2)
        truth[10 + 50 * top : 50 + 50 * top, 10 + 50 * left : 50 + 50 * left] = True
        mapped[10 + 50 * top + shift : 50 + 50 * top + shift, 10 + 50 * left + shift : 50 + 50 * left + shift] = True
    tile = tile_of("a", mapped, ALL, None)
    found = evaluate([tile], labels_of(truth), block_m=300).figures["outlines"]["distance_m"]
    medians = []
    for one, other in zip(shapes_of(mapped), shapes_of(truth), strict=True):
        edge = one.boundary
        points = [edge.interpolate(metre) for metre in np.arange(0.5, edge.length, 1)]
        medians.append(np.median([point.distance(other.boundary) for point in points]))
    assert found.value == pytest.approx(np.median(medians), abs=0.6)
    assert np.isnan([found.low, found.high]).all(), "there are fewer than five blocks"
    assert found.blocks == count


def test_blocks_that_were_asked_for_stay_as_they_are():
    """Errors that grow from west to east resemble one another in blocks of any size."""
    column = np.arange(SIZE)[None] + np.zeros((SIZE, 1), int)
    truth = column % 30 < 15
    mapped = truth & (column % 30 < 15 * column / SIZE)
    tile = tile_of("a", mapped, ALL, None)
    fixed = evaluate([tile], labels_of(truth), block_m=BLOCK_M)
    assert fixed.block_m == BLOCK_M
    assert any("resemble" in note for note in fixed.notes)


def test_a_year_goes_with_a_dataset_alone():
    tile, truth = make_tile(0)
    with pytest.raises(PredictionsError, match="The year 2020 was named; expected one with a dataset only"):
        evaluate([tile], labels_of(truth), year=2020)


def test_labels_of_which_as_much_is_hit_as_missed_are_there():
    truth = np.zeros((SIZE, SIZE), bool)
    truth[2:6, 2:6] = True
    mapped = truth.copy()
    mapped[:, 4:] = False
    outlines = dataclasses.replace(labels_of(truth), area=None)
    assert (
        evaluate([tile_of("a", mapped, ALL, None)], outlines, block_m=10_000).figures["pixels"]["recall"].value == 0.5
    )
