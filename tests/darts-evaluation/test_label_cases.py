"""Labels as they come: each case is right, or one sentence that names the file, what it holds and what is expected."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from darts_evaluation import LabelsError, RepairedLabelsWarning, evaluate, make_labels, read_labels
from support.maps import CRS, GRID, GROUND, SIZE, tile_of

pytestmark = pytest.mark.filterwarnings(
    "ignore::darts_evaluation.FewBlocksWarning", "ignore::darts_evaluation.NoLabelAreaWarning"
)
ALL = np.ones((SIZE, SIZE), bool)
LEFT, TOP = GRID.c, GRID.f
AREA = shapely.box(LEFT, TOP - 1200, LEFT + 1200, TOP)


def block(left: float, top: float, width: float, height: float) -> shapely.Polygon:
    """Return a box, in metres from the corner of the tile."""
    return shapely.box(LEFT + left, TOP - top - height, LEFT + left + width, TOP - top)


def table(*shapes, crs: str | None = CRS, **columns) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=crs, index=range(len(shapes)))


def a_map() -> np.ndarray:
    """Return a map of two objects of 20 × 20 pixels: at 100 m and at 600 m, both from the left and from the top."""
    mapped = ~ALL
    mapped[10:30, 10:30] = mapped[60:80, 60:80] = True
    return mapped


def figures_of(labels, mapped: np.ndarray | None = None) -> dict[str, float]:
    tile = tile_of("a", a_map() if mapped is None else mapped, ALL, None)
    found = evaluate([tile], labels).figures
    return {name: each.value for group in ("pixels", "objects") for name, each in found[group].items()}


HECTARES_4, BOTH = 0.04 * GROUND, (block(100, 100, 200, 200), block(600, 600, 200, 200))


@pytest.mark.parametrize("crs", ["EPSG:4326", "OGC:CRS84", "EPSG:3857", "EPSG:3413", "EPSG:32609", "EPSG:6931"])
def test_labels_in_any_crs_are_right(tmp_path, crs):
    for name, shapes in (("labels", BOTH), ("area", [AREA])):
        table(*shapes).to_crs(crs).to_file(tmp_path / f"{name}.gpkg")
    found = figures_of(read_labels(tmp_path / "labels.gpkg", tmp_path / "area.gpkg"))
    assert found["iou"] == 1
    assert found["f1@0.9"] == 1
    assert found["slump_km2"] == pytest.approx(2 * HECTARES_4)
    assert found["evaluated_km2"] == pytest.approx(1.44, rel=0.02)  # one row of pixels at its edges may be lost


def test_an_area_with_long_edges_keeps_to_its_parallels():
    """A box of a degree and its densified edges cover what the parallel bounds, not the chord, 30 m to its north."""
    west, east, north = -136.0, -134.0, 68.5
    area = gpd.GeoSeries([shapely.box(west, north - 0.5, east, north)], crs="EPSG:4326")
    labels = make_labels(table(*BOTH), area)
    middle = gpd.GeoSeries([shapely.Point((west + east) / 2, north)], crs="EPSG:4326").to_crs(CRS).iloc[0]
    assert labels.area.boundary.distance(middle) < 1


def test_holes_multipolygons_and_overlaps_count_as_they_are_drawn():
    ring = block(100, 100, 200, 200).difference(block(150, 150, 100, 100))
    two_parts = shapely.MultiPolygon([block(600, 600, 90, 200), block(710, 600, 90, 200)])
    beside = block(780, 600, 100, 200)  # overlaps the second part by 20 m
    found = figures_of(make_labels(table(ring, two_parts, beside), gpd.GeoSeries([AREA], crs=CRS)))
    truth = ~ALL
    truth[10:30, 10:30] = truth[60:80, 60:69] = truth[60:80, 71:88] = True
    truth[15:25, 15:25] = False
    mapped = a_map()
    assert found["slump_km2"] == pytest.approx(truth.sum() / 1e4 * GROUND, rel=1e-5)
    assert found["iou"] == (truth & mapped).sum() / (truth | mapped).sum()
    assert found["labels"] == 3
    assert found["recall@0.5"] == pytest.approx(2 / 3)
    assert found["recall@0.8"] == pytest.approx(1 / 3)  # 0.75 of the ring, 0.9 of the two parts


def test_invalid_rings_are_repaired_and_empty_geometries_left_out(tmp_path):
    corners = [(0, 0), (200, 200), (200, 0), (0, 200)]
    bowtie = shapely.Polygon([(LEFT + 100 + x, TOP - 300 + y) for x, y in corners])
    given = table(bowtie, BOTH[1], shapely.Polygon(), None, shapely.Point(LEFT, TOP))
    given.to_file(tmp_path / "labels.gpkg", geometry_type="Unknown")
    table(AREA).to_file(tmp_path / "area.gpkg")
    with pytest.warns(RepairedLabelsWarning, match=r"labels\.gpkg: 1 invalid .* repaired, 3 without an area"):
        labels = read_labels(tmp_path / "labels.gpkg", tmp_path / "area.gpkg")
    found = figures_of(labels)
    assert found["labels"] == 2
    assert found["slump_km2"] == pytest.approx(HECTARES_4 + HECTARES_4 / 2, rel=0.02)


def test_an_outline_that_is_there_twice_counts_once():
    given = table(*BOTH, BOTH[0].reverse(), expert=["a", "a", "a"])
    with pytest.warns(RepairedLabelsWarning, match="1 outlines are there more than once"):
        labels = make_labels(given, gpd.GeoSeries([AREA], crs=CRS))
    assert figures_of(labels)["labels"] == 2
    both = make_labels(table(BOTH[0], BOTH[0], expert=["a", "b"]))
    assert len(both.outlines) == 2


def test_what_lies_outside_the_area_does_not_count():
    """Neither a label there nor an object is missed or false; those across its border count by halves."""
    area = gpd.GeoSeries([block(0, 0, 500, 1200)], crs=CRS)
    mapped = a_map()
    mapped[100:110, 44:60] = True  # 60 of 160 m inside
    shapes = [BOTH[0], block(900, 900, 100, 100), block(440, 300, 100, 100), block(460, 500, 100, 100)]
    found = figures_of(make_labels(table(*shapes), area), mapped)
    assert (found["labels"], found["mapped"]) == (2, 1)
    assert (found["recall@0.5"], found["precision@0.5"]) == (0.5, 1)
    assert found["slump_km2"] == pytest.approx(HECTARES_4 + (0.006 + 0.004) * GROUND, rel=1e-5)
    assert found["evaluated_km2"] == pytest.approx(0.6 * GROUND, rel=1e-5)
    assert found["precision"] == pytest.approx(400 / 460)


def test_a_file_without_an_outline_says_that_there_is_no_slump(tmp_path):
    table(*BOTH)[:0].to_file(tmp_path / "labels.gpkg", geometry_type="Polygon")
    table(AREA).to_file(tmp_path / "area.gpkg")
    found = figures_of(read_labels(tmp_path / "labels.gpkg", tmp_path / "area.gpkg"))
    assert (found["precision"], found["iou"], found["labels"], found["mapped"]) == (0, 0, 0, 2)
    assert np.isnan(found["recall"])
    with pytest.raises(LabelsError, match="No label and no labelled ground"):
        figures_of(read_labels(tmp_path / "labels.gpkg"))


def geojson(coordinates: list) -> str:
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": coordinates}}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


def write_files(folder) -> None:
    (folder / "text.gpkg").write_text("no vectors")
    (folder / "table.csv").write_text("a,b\n1,2\n")
    (folder / "open.geojson").write_text(geojson([[[0, 0], [1, 0], [1, 1], [0, 1]]]))
    corners = [[500_000, 7_600_000], [500_100, 7_600_000], [500_100, 7_600_100], [500_000, 7_600_000]]
    (folder / "metres.geojson").write_text(geojson([corners]))
    table(BOTH[0], name=["a"]).to_file(folder / "labels.gpkg")
    table(*BOTH, expert=["a", None]).to_file(folder / "nameless.gpkg")
    table(shapely.Point(0, 0)).to_file(folder / "points.gpkg")
    table(shapely.LineString([(0, 0), (1, 1)])).to_file(folder / "lines.gpkg")
    table(shapely.Polygon([(0, 0), (np.inf, 0), (1, 1)])).to_file(folder / "infinite.gpkg")
    table(BOTH[0], crs=None).to_parquet(folder / "no_crs.parquet")
    table(BOTH[0], crs=None).to_file(folder / "no_crs.shp")
    pd.DataFrame({"a": [1]}).to_parquet(folder / "plain.parquet")


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_what_cannot_be_used_is_one_sentence(tmp_path):
    write_files(tmp_path)
    expected = {
        "absent.gpkg": "There is no .*; expected a vector file",
        "text.gpkg": "cannot be read as a vector file of polygons",
        "table.csv": "has no layer with geometries; expected polygons",
        "open.geojson": "cannot be read as a vector file of polygons: .*closed",
        "metres.geojson": r"is in WGS 84, which has degrees, but has a point at \(500100, 7.6001e\+06\); set the CRS",
        "nameless.gpkg": "1 of 2 outlines have no name in the column 'expert'; expected one for each",
        "points.gpkg": "holds no polygon; found Point, expected polygons",
        "lines.gpkg": "holds no polygon; found LineString, expected polygons",
        "infinite.gpkg": "has coordinates that are no numbers; expected finite ones",
        "no_crs.parquet": "names no CRS; expected one",
        "no_crs.shp": "names no CRS; expected one",
        "plain.parquet": "cannot be read as a vector file of polygons",
    }
    for name, message in expected.items():
        for arguments in ((tmp_path / name,), (tmp_path / "labels.gpkg", tmp_path / name)):
            if name == "nameless.gpkg" and len(arguments) == 2:
                continue
            with pytest.raises(LabelsError, match=message) as raised:
                read_labels(*arguments)
            text = str(raised.value)
            assert str(tmp_path / name) in text
            assert "\n" not in text
            assert text.endswith(".")
            assert not text.endswith("..")


def test_an_empty_area_a_missing_column_and_a_table_without_crs_are_one_sentence(tmp_path):
    write = table(BOTH[0], name=["a"])
    write.to_file(tmp_path / "labels.gpkg")
    write[:0].to_file(tmp_path / "empty.gpkg", geometry_type="Polygon")
    with pytest.raises(LabelsError, match=r"empty\.gpkg holds no polygon; expected the area"):
        read_labels(tmp_path / "labels.gpkg", tmp_path / "empty.gpkg")
    with pytest.raises(LabelsError, match=r"labels\.gpkg has no column 'who'; it has name"):
        read_labels(tmp_path / "labels.gpkg", expert_column="who")
    for outlines, area in ((write.set_crs(None, allow_override=True), None), (write, gpd.GeoSeries([AREA]))):
        with pytest.raises(LabelsError, match="no CRS"):
            make_labels(outlines, area)


def test_columns_that_say_who_drew_are_found_or_named(tmp_path):
    table(*BOTH, Annotator=["b", "a"], author=["x", "y"]).to_file(tmp_path / "labels.gpkg")
    assert read_labels(tmp_path / "labels.gpkg").experts == ["a", "b"]
    assert read_labels(tmp_path / "labels.gpkg", expert_column="author").experts == ["x", "y"]
    table(*BOTH, author=["x", "y"]).to_file(tmp_path / "other.gpkg")
    assert read_labels(tmp_path / "other.gpkg").experts == [""]  # who wrote a file did not look at all of it
    table(*BOTH, expert=[1, 2]).to_parquet(tmp_path / "labels.geoparquet")
    assert read_labels(tmp_path / "labels.geoparquet").experts == ["1", "2"]


SQUARE = block(0, 0, 100, 100)


@pytest.mark.parametrize(
    ("shape", "area_m2"),
    [
        (shapely.MultiPolygon([SQUARE, block(30, 30, 30, 30)]), 10_000),
        (shapely.MultiPolygon([SQUARE, block(30, 30, 60, 60), block(40, 40, 30, 30)]), 10_000),
        (shapely.Polygon(SQUARE.exterior, [block(80, 30, 60, 60).exterior]), 10_000 - 20 * 60),
        (shapely.Polygon(SQUARE.exterior, [block(0, 0, 50, 50).exterior]), 7_500),
        (shapely.Polygon(SQUARE.exterior, [block(20, 20, 40, 40).exterior, block(40, 40, 40, 40).exterior]), 7_200),
    ],
    ids=["part in part", "part in part in part", "hole that reaches out", "hole at the edge", "holes that overlap"],
)
def test_repaired_outlines_have_the_ground_that_was_drawn(shape, area_m2):
    """What lies in two parts is slump once, what lies in a hole is none; the number of lines around it is no rule."""
    with pytest.warns(RepairedLabelsWarning, match="1 invalid outlines were repaired"):
        labels = make_labels(table(shape), table(AREA))
    assert labels.outlines.area.sum() == pytest.approx(area_m2)
    with pytest.warns(RepairedLabelsWarning):
        assert make_labels(table(SQUARE), table(shape)).area.area == pytest.approx(area_m2)
