"""A dataset of one scene has the figures of the scene; of several, those of the union of the year."""

import dataclasses
import shutil

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from darts_dataset import build
from darts_evaluation import LabelsError, PredictionsError, TileMap, datasets, evaluate, make_labels
from support.lanes import mostly_slow
from support.maps import CRS, blobs, ground_m2, labels_of, tile_of
from support.results import export_mask
from support.slump_worlds import day

pytestmark = pytest.mark.filterwarnings("ignore::darts_evaluation.FewBlocksWarning")
PIXEL_M, SIZE = 3.0, 160
GRID = Affine(PIXEL_M, 0, 500_000, 0, -PIXEL_M, 7_600_000)
"""Not on a multiple of its pixel, as grids of scenes are."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict:
    """Two scenes of 2020 that lie over one another, one of which has not seen a corner, and one of 2021."""
    root, rng = tmp_path_factory.mktemp("datasets"), np.random.default_rng(3)
    truth = blobs(rng, SIZE)
    one, two = truth ^ blobs(rng, SIZE, 0.04), truth ^ blobs(rng, SIZE, 0.04)
    seen = np.ones(truth.shape, bool)
    seen[:40, :50] = False
    for name, mask, time in (("one", one, day(2020)), ("two", two, day(2020, 210)), ("three", one, day(2021))):
        export_mask(root / "results" / name, mask, GRID, CRS, time, extent=seen)
    build(root / "results", root / "dataset")
    build(root / "results" / "three", root / "single")
    return {"root": root, "truth": truth, "one": one & seen, "union": (one | two) & seen, "seen": seen}


def plain_tile(world: dict, name: str = "dataset", year: int = 2020, mask: str = "union") -> TileMap:
    """Return the map of a year as a tile, with the objects of the dataset: those that only meet are two."""
    objects = gpd.read_parquet(world["root"] / name / f"level2/year={year}/objects.parquet").to_crs(CRS)
    table = objects[["mean_probability", "geometry"]].rename(columns={"mean_probability": "mean"})
    return dataclasses.replace(tile_of("a", world[mask], world["seen"], None, GRID), objects=table)


def values(found, group: str) -> dict[str, float]:
    return {name: each.value for name, each in found.figures[group].items()}


@pytest.mark.parametrize(
    ("name", "year", "mask", "window_px"),
    mostly_slow(
        [
            (*case, window_px)
            for case in (("dataset", 2020, "union"), ("single", 2021, "one"))
            for window_px in (100, 2048)
        ],
        ("dataset", 2020, "union", 100).__eq__,
    ),
)
def test_figures_of_a_dataset_are_those_of_its_map(world, name, year, mask, window_px, monkeypatch):
    monkeypatch.setattr(datasets, "_WINDOW_PX", window_px)
    labels = labels_of(world["truth"], GRID)
    found = evaluate(world["root"] / name, labels, year=None if name == "single" else year, block_m=60)
    expected = evaluate([plain_tile(world, name, year, mask)], labels, block_m=60)
    assert values(found, "pixels") == pytest.approx(values(expected, "pixels"))
    assert values(found, "objects") == pytest.approx(values(expected, "objects"), nan_ok=True)
    assert values(found, "size") == pytest.approx(values(expected, "size"))
    assert found.tiles == []
    kinds = (each.outlines["kind"].value_counts().to_dict() for each in (found, expected))
    assert next(kinds) == next(kinds)


def test_figures_do_not_depend_on_how_many_files_a_dataset_has(world, monkeypatch):
    """A part of many rows is split along a curve; what is not read would count as missed."""
    labels = labels_of(world["truth"], GRID)
    monkeypatch.setattr("darts_dataset.tables.MOST_ROWS", 5)
    build(world["root"] / "results", world["root"] / "split")
    assert len(list((world["root"] / "split/level2/year=2020").glob("objects-*.parquet"))) > 1
    for given in (labels, make_labels(labels.outlines)):
        expected = evaluate(world["root"] / "dataset", given, year=2020, block_m=60)
        found = evaluate(world["root"] / "split", given, year=2020, block_m=60)
        for group in ("pixels", "objects", "size"):
            assert values(found, group) == pytest.approx(values(expected, group), nan_ok=True)


def test_a_dataset_without_its_objects_is_no_map_without_slumps(world, tmp_path):
    shutil.copytree(world["root"] / "dataset", tmp_path / "dataset")
    for path in (tmp_path / "dataset/level2/year=2020").iterdir():
        path.unlink()
    with pytest.raises(PredictionsError, match=r"level2.year=2020 holds no table, .* build the dataset again"):
        evaluate(tmp_path / "dataset", labels_of(world["truth"], GRID), year=2020)


def test_scattered_areas_are_looked_at_one_by_one(world):
    """Neither ground between areas counts, nor one that nobody has seen as right; some lie in other zones."""
    left, top = GRID.c, GRID.f
    near = [
        shapely.box(left + 150, top - 300, left + 300, top - 150),
        shapely.box(left, top - 480, left + 60, top - 400),
    ]
    far = gpd.GeoSeries([shapely.box(20, 70, 20.01, 70.005), shapely.box(-70, -52, -69.99, -51.99)], crs="EPSG:4326")
    area = gpd.pd.concat([gpd.GeoSeries(near, crs=CRS).to_crs("EPSG:4326"), far])
    truth = labels_of(world["truth"], GRID)
    found = evaluate(world["root"] / "dataset", make_labels(truth.outlines, area), year=2020)
    plain = evaluate([plain_tile(world)], make_labels(truth.outlines, gpd.GeoSeries(near, crs=CRS)))
    for name in ("iou", "precision", "recall", "f1", "evaluated_km2"):
        assert found.figures["pixels"][name].value == pytest.approx(plain.figures["pixels"][name].value)
    unseen = far.to_crs("EPSG:6933").area.sum() / 1e6
    assert found.figures["pixels"]["not_seen_km2"].value == pytest.approx(unseen, rel=0.01)


def test_without_an_area_the_labels_are_looked_at(world):
    labels = labels_of(world["truth"], GRID)
    given = make_labels(labels.outlines)
    found = evaluate(world["root"] / "dataset", given, year=2020)
    plain = evaluate([plain_tile(world)], given)
    assert "precision" not in found.figures["pixels"]
    for group, name in (
        ("pixels", "recall"),
        ("objects", "recall@0.3"),
        ("objects", "recall@0.7"),
        ("size", "area_bias_m2"),
    ):
        assert found.figures[group][name].value == pytest.approx(plain.figures[group][name].value)


def test_a_dataset_that_cannot_be_used_is_one_sentence(world, tmp_path):
    labels, folder = labels_of(world["truth"], GRID), world["root"] / "dataset"
    for arguments, message in (
        ({}, r"is a dataset with the years 2020, 2021, and no year was named; expected one of them"),
        ({"year": 1999}, r"years 2020, 2021, and 1999 was named"),
        ({"year": 2020, "model": "a"}, "expected nothing beside it, and no name of a model"),
    ):
        with pytest.raises(PredictionsError, match=message):
            evaluate(folder, labels, **arguments)
    with pytest.raises(PredictionsError, match="nothing beside it"):
        evaluate([folder, world["root"] / "single"], labels, year=2020)
    with pytest.raises(PredictionsError, match="year 2020 was named; expected one with a dataset only"):
        evaluate(world["root"] / "results", labels, year=2020)
    nothing = make_labels(labels.outlines[:0])
    with pytest.raises(LabelsError, match="neither an outline nor an area"):
        evaluate(folder, nothing, year=2020)
    (tmp_path / "coverage" / "year=2020").mkdir(parents=True)
    (tmp_path / "dataset.json").write_text("{}")
    (tmp_path / "coverage" / "year=2020" / "seen.parquet").write_text("damaged")
    with pytest.raises(PredictionsError, match=r"seen\.parquet cannot be read"):
        evaluate(tmp_path, labels)


@pytest.mark.filterwarnings("ignore::darts_evaluation.RepairedLabelsWarning")
def test_a_dataset_across_180_degrees_is_looked_at_on_both_sides(tmp_path):
    """Whatever the CRS of the labels: of longitudes beyond 180° half was left out, of metres all of the globe read."""
    left, top = 386_370.0, 7_802_710.0  # 180° runs through the middle of a scene of 1.6 km that begins here
    mask = np.zeros((120, 160), bool)
    mask[20:40, 60:100] = mask[60:80, 10:30] = mask[60:80, 130:150] = True
    crs, grid = "EPSG:32601", Affine(10, 0, left, 0, -10, top)
    export_mask(tmp_path / "results" / "scene", mask, grid, crs, day(2021))
    build(tmp_path / "results", tmp_path / "dataset")
    slumps = [shapely.box(left + 600, top - 400, left + 1000, top - 200)]
    slumps += [shapely.box(left + 100, top - 800, left + 300, top - 600)]
    outlines = gpd.GeoDataFrame(geometry=shapely.segmentize(slumps, 20), crs=crs)
    whole = gpd.GeoSeries([shapely.segmentize(shapely.box(left, top - 1200, left + 1600, top), 20)], crs=crs)
    for labels_crs in (crs, "EPSG:4326", "EPSG:3413"):
        there = outlines.to_crs(labels_crs), whole.to_crs(labels_crs)
        found = evaluate(tmp_path / "dataset", make_labels(*there))
        pixels = values(found, "pixels")
        # Pixels of two zones lie along 180°, so that a few of each are not those of the scene.
        assert pixels["evaluated_km2"] == pytest.approx(ground_m2(whole.iloc[0], crs) / 1e6, rel=0.003)
        area_m2 = sum(ground_m2(shape, crs) for shape in slumps)
        assert pixels["slump_km2"] == pytest.approx(area_m2 / 1e6, rel=0.01)
        assert pixels["not_seen_km2"] < 0.005
        assert pixels["precision"] == pytest.approx(0.75, abs=0.005)
        assert pixels["recall"] == 1
        assert (values(found, "objects")["labels"], values(found, "objects")["mapped"]) == (2, 3)
        of_labels = values(evaluate(tmp_path / "dataset", make_labels(there[0])), "pixels")
        assert of_labels["slump_km2"] == pytest.approx(area_m2 / 1e6, rel=0.01)
        assert of_labels["recall"] == 1
