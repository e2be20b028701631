"""Pairs, components and boxes against brute force, and objects of outlines that follow several grids."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine

from darts_dataset import build, parallel
from darts_dataset.geometry import LONLAT, NORTH, SOUTH, boxes_around, hull_around, to_lonlat, to_plane
from darts_dataset.overlaps import LEAST_SHARED_M2, components, overlapping_pairs
from support.results import export_mask
from support.slump_worlds import CRS, LEFT, PIXEL, SIZE, TOP, day, files_of, objects_of

SEEDS = range(4)


def polygons(seed: int, count: int = 60) -> np.ndarray:
    """Return stars of 5 to 200 m within 600 m, squares that only touch, one within another, and one as large as all."""
    rng = np.random.default_rng(seed)
    found = []
    for size, middle in zip(rng.uniform(5, 200, count), rng.uniform(-300, 300, (count, 2)), strict=True):
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        radius = size * rng.uniform(0.2, 1, 12)
        found.append(shapely.Polygon(middle + radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])))
    found += [shapely.box(1000 + 10 * n, 0, 1010 + 10 * n, 10) for n in range(4)]
    found += [shapely.box(2000, 0, 2100, 100), shapely.box(2040, 40, 2042, 42)]
    found += [shapely.box(-400, -400, 400, 400).boundary.buffer(0.5)]
    return np.array(found, object)


@pytest.mark.parametrize("seed", SEEDS)
def test_pairs_are_those_of_brute_force_for_any_cells_and_groups(seed):
    shapes = polygons(seed)
    count = len(shapes)
    ground = shapely.area(shapely.intersection(shapes[:, None], shapes[None]))
    expected = {(a, b) for a in range(count) for b in range(a + 1, count) if ground[a, b] >= LEAST_SHARED_M2}
    assert len(expected) > count
    group = np.random.default_rng(seed).integers(-1, 3, count)
    for cell_m in (7.0, 60.0, 1000.0, 1e6):
        found = overlapping_pairs(shapely.bounds(shapes), shapes.take, cell_m)
        assert {tuple(pair) for pair in found.tolist()} == expected
        np.testing.assert_array_equal(found, np.unique(found, axis=0))
        between = overlapping_pairs(shapely.bounds(shapes), shapes.take, cell_m, group)
        assert {tuple(pair) for pair in between.tolist()} == {
            (a, b) for a, b in expected if group[a] != group[b] or group[a] < 0
        }


@pytest.mark.parametrize("seed", SEEDS)
def test_components_are_those_of_a_walk(seed):
    rng = np.random.default_rng(seed)
    count = 40
    pairs = rng.integers(0, count, (25, 2))
    number = components(pairs, count)
    reached = np.eye(count, dtype=bool)
    for a, b in pairs:
        reached[a, b] = reached[b, a] = True
    for _ in range(6):
        reached = reached @ reached
    np.testing.assert_array_equal(number[:, None] == number[None], reached)
    firsts = [int(np.flatnonzero(number == each)[0]) for each in range(number.max() + 1)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize(
    ("crs", "middle"), [(CRS, (500_000, 7_600_000)), ("EPSG:32601", (290_000, 7_560_000)), (LONLAT, (20, 71))]
)
def test_a_box_on_the_plane_holds_what_a_box_holds(crs, middle):
    rng = np.random.default_rng(0)
    unit = 1e-5 if crs == LONLAT else 1.0
    size = unit * np.array([10.0, 1000.0, 20_000.0])[:, None] * rng.uniform(0.2, 1, (3, 2))
    bounds = np.concatenate([middle - size, middle + size], axis=1)
    found = boxes_around(bounds, crs, NORTH)
    for box, (west, south, east, north) in zip(found, bounds, strict=True):
        edge = np.linspace(0, 1, 200)[:, None] * shapely.box(west, south, east, north).length
        points = shapely.line_interpolate_point(shapely.box(west, south, east, north).exterior, edge)
        laid = gpd.GeoSeries(points.ravel(), crs=crs).to_crs(NORTH)
        assert (laid.x.min() >= box[0]) & (laid.y.min() >= box[1]) & (laid.x.max() <= box[2]) & (laid.y.max() <= box[3])
        assert box[2] - box[0] <= 1.2 * (laid.x.max() - laid.x.min()) + 2.1
        hull = hull_around(shapely.MultiPolygon(), np.array([[west, south, east, north]]), crs, NORTH)
        assert shapely.contains_xy(hull, laid.x, laid.y).all()
        apart = shapely.Point(laid.x.mean(), laid.y.mean()).buffer(3)
        assert hull_around(shapely.MultiPolygon(), np.empty((0, 4)), crs, NORTH).is_empty
        both = hull_around(shapely.MultiPolygon([apart]), np.array([[west, south, east, north]]), crs, NORTH)
        assert both.covers(apart)
        assert shapely.contains_xy(both, laid.x, laid.y).all()


def test_geometries_come_back_from_longitude_and_latitude():
    shapes = np.array([shapely.MultiPolygon([shapely.box(x, 0, x + 30, 30)]) for x in (-40, -10, 20)], object)
    x, y = gpd.GeoSeries([shapely.Point(180, 70)], crs=LONLAT).to_crs(NORTH).iloc[0].coords[0]
    there = shapely.transform(shapes, lambda points: points + np.array([x, y]))
    stored = to_lonlat(there, NORTH)
    assert (np.abs(shapely.bounds(stored)) <= 180).all()
    assert [len(shape.geoms) for shape in stored] == [1, 2, 1]
    for valid in (False, True):
        back = to_plane(stored, NORTH, valid)
        assert shapely.area(back) == pytest.approx(900, rel=1e-9)
        assert shapely.area(shapely.symmetric_difference(back, there)).max() < 0.02  # A tenth of a millimetre.
    south = to_lonlat(shapes, SOUTH)
    assert (shapely.bounds(south)[:, 3] < 0).all()


def test_a_geometry_is_laid_out_the_same_whatever_lies_beside_it():
    """Also beside one that is cut at 180°."""
    x, y = gpd.GeoSeries([shapely.Point(180, 70)], crs=LONLAT).to_crs(NORTH).iloc[0].coords[0]
    shapes = np.array([shapely.box(x + step, y, x + step + 30, y + 30) for step in range(-400, 400, 7)], object)
    together, alone = to_lonlat(shapes, NORTH), [to_lonlat(shapes[[row]], NORTH)[0] for row in range(len(shapes))]
    assert {len(shape.geoms) for shape in together} == {1, 2}
    assert shapely.to_wkb(together).tolist() == [shapely.to_wkb(shape) for shape in alone]


def scattered(rng: np.random.Generator, count: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    for top, left in rng.integers(0, SIZE - 14, (count, 2)):
        height, width = rng.integers(3, 14, 2)
        mask[top : top + height, left : left + width] = True
    return mask


def test_objects_of_several_grids_are_those_of_brute_force(tmp_path):
    """Two scenes on one grid, two on one that lies a third of a pixel beside it, and two with other pixels."""
    rng = np.random.default_rng(3)
    grids = [
        Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP),
        Affine(PIXEL, 0, LEFT + 1, 0, -PIXEL, TOP - 1),
        Affine(5, 0, LEFT, 0, -5, TOP),
    ]
    for number in range(6):
        export_mask(
            tmp_path / "r" / f"scene-{number}", scattered(rng, 10), grids[number % 3], CRS, day(2020, 200 + number)
        )
    build(tmp_path / "r", tmp_path / "dataset", cell_km=0.1)
    found = objects_of(tmp_path / "dataset", 2020)
    native = [
        gpd.read_parquet(tmp_path / "r" / f"scene-{number}" / "prediction_segments.parquet") for number in range(6)
    ]
    outlines = pd.concat(native, ignore_index=True)
    shapes = outlines.geometry.to_numpy()
    ground = shapely.area(shapely.intersection(shapes[:, None], shapes[None]))
    first, second = np.nonzero(ground > LEAST_SHARED_M2)
    expected = (
        outlines["object_uid"].groupby(components(np.column_stack([first, second]), len(shapes))).apply(frozenset)
    )
    assert {frozenset(each) for each in found["detections"]} == set(expected)
    assert len(expected) > 5
    union = shapely.area(shapely.union_all(shapes))
    assert found["area_m2"].sum() == pytest.approx(union, rel=2e-3)  # The scale of the grid's projection.
    whole = outlines.set_index("object_uid")
    for row in found.itertuples():
        members = shapely.union_all(whole.geometry[list(row.detections)].to_numpy())
        assert row.area_m2 == pytest.approx(members.area, rel=2e-3)
        assert row.n_hits == whole["tile_id"][list(row.detections)].nunique()


@pytest.mark.slow
def test_the_same_bytes_by_any_number_of_threads_and_batches(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    for number in range(3):
        export_mask(
            tmp_path / "r" / f"scene-{number}",
            scattered(rng, 30),
            Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP),
            CRS,
            day(2020, 200 + number),
        )
    for threads in (1, 4):
        monkeypatch.setattr(parallel, "usable_cpus", lambda threads=threads: threads)
        build(tmp_path / "r", tmp_path / f"by-{threads}")
        # Rows are written, and objects merged, few at a time.
        monkeypatch.setattr("darts_dataset.objects._AT_A_TIME", 5)
    assert files_of(tmp_path / "by-1") == files_of(tmp_path / "by-4")


def test_results_come_in_order_and_so_do_errors(monkeypatch):
    monkeypatch.setattr(parallel, "usable_cpus", lambda: 3)
    assert list(parallel.in_order(lambda number: number**2, range(20))) == [number**2 for number in range(20)]
    found = parallel.in_order(lambda number: 1 // (2 - number), range(5))
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
