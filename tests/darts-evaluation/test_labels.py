"""Labels as people draw them, and how far experts agree."""

import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from darts_evaluation import (
    Agreement,
    LabelsError,
    NoLabelAreaWarning,
    RepairedLabelsWarning,
    evaluate,
    majority,
    make_labels,
    measure_agreement,
    read_labels,
)
from darts_utils import InputTypeError

BOWTIE = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])


def table(*shapes, crs="EPSG:32608", **columns) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=crs, index=range(len(shapes)))


def test_read_labels_repairs_and_leaves_out(tmp_path):
    donut = shapely.box(0, 0, 30, 30).difference(shapely.box(10, 10, 20, 20))
    multi = shapely.MultiPolygon([shapely.box(50, 0, 60, 10), shapely.box(70, 0, 80, 10)])
    made = table(donut, BOWTIE, multi, shapely.Point(3, 3), shapely.Polygon())
    made.to_file(tmp_path / "labels.gpkg", geometry_type="Unknown")
    table(shapely.box(0, 0, 100, 100)).to_file(tmp_path / "area.gpkg")
    with pytest.warns(RepairedLabelsWarning, match="1 invalid .* 2 without"):
        labels = read_labels(tmp_path / "labels.gpkg", tmp_path / "area.gpkg")
    assert labels.outlines.area.tolist() == pytest.approx([800, 50, 200])
    assert labels.outlines.is_valid.all()
    assert labels.area.area == pytest.approx(10_000)
    assert labels.experts == [""]


def test_what_is_no_label_is_named(tmp_path):
    with pytest.raises(InputTypeError, match="Expected Labels, but got a str; `read_labels"):
        evaluate(tmp_path, "labels.gpkg")
    with pytest.raises(InputTypeError, match="Expected a GeoDataFrame, but got a str; `read_labels`"):
        make_labels("labels.gpkg")
    for given in ((table(BOWTIE), None), ("labels.gpkg", table(BOWTIE))):
        with pytest.raises(InputTypeError, match="Expected a vector file, but got a GeoDataFrame; `make_labels`"):
            read_labels(*given)


def test_warnings_name_the_line_that_reads(tmp_path):
    table(BOWTIE, shapely.box(50, 0, 60, 10), shapely.box(50, 0, 60, 10)).to_file(tmp_path / "twice.geojson")
    table(BOWTIE).to_file(tmp_path / "area.geojson")
    twice, area = (gpd.read_file(tmp_path / name) for name in ("twice.geojson", "area.geojson"))
    for read in (
        lambda: read_labels(tmp_path / "twice.geojson"),
        lambda: read_labels(tmp_path / "twice.geojson", tmp_path / "area.geojson"),
        lambda: make_labels(twice, area),
    ):
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            read()
        assert [each.category for each in given] in (
            [RepairedLabelsWarning, RepairedLabelsWarning, NoLabelAreaWarning],
            [RepairedLabelsWarning] * 3,
        )
        assert {each.filename for each in given} == {__file__}


def test_read_labels_reads_all_layers_and_brings_the_area_along(tmp_path):
    table(shapely.box(0, 0, 10, 10)).to_file(tmp_path / "labels.gpkg", layer="2021")
    table(shapely.box(20, 0, 30, 10)).to_file(tmp_path / "labels.gpkg", layer="2022")
    area = table(shapely.box(500_000, 7_600_000, 501_000, 7_601_000)).to_crs("EPSG:4326")
    area.to_file(tmp_path / "area.geojson")
    labels = read_labels(tmp_path / "labels.gpkg", tmp_path / "area.geojson")
    assert len(labels.outlines) == 2
    assert labels.area.area == pytest.approx(1e6, rel=1e-3)


def test_agreement_is_that_of_the_shapes():
    """Two boxes that share a half of each have an IoU of a third, and objects that match at 0.3."""
    outlines = table(
        shapely.box(0, 0, 20, 10), shapely.box(10, 0, 30, 10), shapely.box(0, 0, 20, 10), expert=["a", "b", "c"]
    )
    found = measure_agreement(make_labels(outlines))
    assert found.experts == ["a", "b", "c"]
    assert found.iou == pytest.approx(np.array([[1, 1 / 3, 1], [1 / 3, 1, 1 / 3], [1, 1 / 3, 1]]), rel=1e-5)
    assert found.f1 == pytest.approx(np.ones((3, 3)))
    assert found.median_iou == pytest.approx(1 / 3, rel=1e-5)
    assert found.is_agreed
    # a and c agree, b and c share a half; of two, one is a half, so that the others of each are a union.
    assert found.others_iou == pytest.approx([20 / 30, 1 / 3, 20 / 30], rel=1e-5)


def test_agreement_below_the_threshold_is_none():
    outlines = table(shapely.box(0, 0, 10, 10), shapely.box(9, 0, 19, 10), expert=["a", "b"])
    found = measure_agreement(make_labels(outlines))
    assert found.median_iou == pytest.approx(1 / 19)
    assert not found.is_agreed
    assert found.f1[0, 1] == 0


@pytest.mark.filterwarnings("ignore::darts_evaluation.NoLabelAreaWarning")
def test_agreement_of_experts_who_marked_nothing_in_the_area_is_not_defined():
    far = shapely.box(900, 900, 910, 910)
    area = gpd.GeoSeries([shapely.box(0, 0, 100, 100)], crs="EPSG:32608")
    found = measure_agreement(make_labels(table(far, far, expert=["a", "b"]), area))
    assert np.isnan(found.median_iou)
    assert found.is_agreed
    three = table(far, shapely.box(0, 0, 20, 10), shapely.box(0, 0, 20, 10), expert=["a", "b", "c"])
    assert measure_agreement(make_labels(three, area)).iou == pytest.approx(np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1]]))


def test_agreement_leaves_out_small_objects_by_their_area_on_the_ground():
    """In Web Mercator at 69° N a box of 36 m is one of 13 m, 166 m² on the ground."""
    x, y = -15_000_000, 10_700_000
    shapes = [shapely.box(x, y, x + 36, y + 36), shapely.box(x, y, x + 36, y + 36)]
    labels = make_labels(table(*shapes, crs="EPSG:3857", expert=["a", "b"]))
    assert measure_agreement(labels, 150).f1[0, 1] == 1
    assert np.isnan(measure_agreement(labels, 190).f1[0, 1])


def test_agreement_needs_two_experts():
    with pytest.raises(LabelsError, match="one expert"):
        measure_agreement(make_labels(table(BOWTIE.buffer(0))))


def test_majority_is_what_half_of_the_experts_marked():
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 40, (7, 3, 2))
    shapes = [shapely.box(x, y, x + 25, y + 25) for each in corners for x, y in each]
    labels = make_labels(table(*shapes, expert=[str(n) for n in range(7) for _ in range(3)]))
    votes = np.zeros((70, 70), int)
    for each in corners:
        mask = np.zeros((70, 70), bool)
        for x, y in each:
            mask[y : y + 25, x : x + 25] = True
        votes += mask
    found = majority(labels)
    assert found.outlines.union_all().area == pytest.approx((votes >= 4).sum())


def matrix_of(found: Agreement) -> list[str]:
    """Return a table for readers: IoU above the diagonal, F1 of objects below it, and each with the others."""
    order = sorted(range(len(found.experts)), key=lambda place: int(found.experts[place]))
    names = " | ".join(found.experts[place] for place in order)
    lines = [f"| | {names} | others: IoU | others: F1 |", "|---" * (len(order) + 3) + "|"]
    for one in order:
        above = int(found.experts[one])
        cells = [
            "–" if other == one else f"{(found.iou if int(found.experts[other]) > above else found.f1)[one, other]:.2f}"
            for other in order
        ]
        others = f"{found.others_iou[one]:.2f} | {found.others_f1[one]:.2f}"
        lines.append(f"| **{found.experts[one]}** | {' | '.join(cells)} | {others} |")
    return lines


@pytest.mark.slow
def test_agreement_of_twelve_real_experts_is_what_the_page_says(shared_data):
    labels = read_labels(shared_data / "peel" / "experts.gpkg", shared_data / "peel" / "aoi.geojson")
    found = measure_agreement(labels, min_object_m2=1000)
    assert len(found.experts) == 12
    assert found.median_iou == pytest.approx(0.60, abs=0.005)
    assert found.median_f1 == pytest.approx(0.80, abs=0.005)
    assert found.is_agreed
    page = Path(__file__).parents[2] / "docs" / "evaluation.md"
    assert "\n".join(matrix_of(found)) in page.read_text("utf-8")


def test_a_folder_is_no_file_of_labels(tmp_path):
    """As where results and labels are named the other way round: no word of GDAL about drivers."""
    with pytest.raises(LabelsError, match=r"is a folder; expected a vector file .*labels after them\.$"):
        read_labels(tmp_path, tmp_path)


def test_tables_without_polygons_are_named_in_one_sentence():
    points = gpd.GeoDataFrame(geometry=[shapely.Point(5e5, 7e6)], crs=32608)
    with pytest.raises(LabelsError, match=r"^The table of labels holds no polygon; found Point, expected polygons"):
        make_labels(points)
