"""Which chunks an area needs, against every pixel of the area put into the grid one by one."""

import dataclasses
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pyproj import Transformer

from darts_acquisition import Chunk, OutsideExtentError, WideEdgeWarning, arcticdem_product, tcvis_product
from darts_acquisition.cube.areas import chunks_by_part, chunks_of
from darts_utils import GridError, ParameterError

DEM, TRENDS = arcticdem_product(10), tcvis_product()
PRODUCTS = st.sampled_from([dataclasses.replace(each, chunk_px=450) for each in (DEM, TRENDS)])
RING = shapely.Polygon(
    [(0, 0), (60_000, 5_000), (50_000, 50_000), (8_000, 40_000)],
    [[(15_000, 12_000), (42_000, 14_000), (40_000, 38_000), (16_000, 34_000)]],
)


def chunks_of_points(product, x, y, crs):
    """The chunks that points fall into, each alone."""
    x, y = Transformer.from_crs(crs, str(product.geobox.crs), always_xy=True).transform(x, y)
    affine = product.geobox.affine
    cols, rows = np.floor((np.asarray(x) - affine.c) / affine.a), np.floor((np.asarray(y) - affine.f) / affine.e)
    if product.geobox.crs.geographic:
        cols %= product.geobox.shape[1]
    return {
        Chunk(int(row), int(col)) for row, col in zip(rows // product.chunk_px, cols // product.chunk_px, strict=True)
    }


def points_in(geometry, number=4000, seed=0):
    random = np.random.default_rng(seed)
    left, bottom, right, top = geometry.bounds
    x, y = random.uniform(left, right, number), random.uniform(bottom, top, number)
    inside = shapely.contains_xy(geometry, x, y)
    return x[inside], y[inside]


@given(
    product=PRODUCTS,
    zone=st.integers(1, 60),
    east=st.integers(350_000, 600_000),
    north=st.integers(7_000_000, 8_900_000),
)
def test_a_polygon_with_a_hole_gets_the_chunks_of_its_points(product, zone, east, north):
    geometry = shapely.affinity.translate(RING, east, north)
    crs = f"EPSG:{32600 + zone}"
    found = set(chunks_of(product, Geometry(geometry, crs)))
    needed = chunks_of_points(product, *points_in(geometry), crs)
    assert needed <= found
    # Nothing far from the polygon: each chunk has a point of a slightly larger one.
    wider = chunks_of_points(product, *points_in(geometry.buffer(300), 40_000), crs)
    assert len(found - wider) <= 3  # corners that no point has met
    # A grid has no hole, and so at least as many.
    box = GeoBox.from_bbox(geometry.bounds, crs, resolution=100)
    assert found <= set(chunks_of(product, box))


@given(product=PRODUCTS, zone=st.integers(1, 60), north=st.integers(7_000_000, 8_900_000), buffer=st.integers(0, 500))
def test_a_grid_with_a_buffer_gets_the_chunks_of_its_pixels(product, zone, north, buffer):
    crs = f"EPSG:{32600 + zone}"
    grid = GeoBox((300, 200), Affine(30, 0, 480_000, 0, -30, north), crs)
    found = set(chunks_of(product, grid, buffer))
    x, y = np.meshgrid(grid.coordinates["x"].values, grid.coordinates["y"].values)
    assert chunks_of_points(product, x.ravel(), y.ravel(), crs) <= found
    assert found <= set(chunks_of(product, grid, buffer + 1))
    assert set(chunks_of(product, grid.extent, buffer)) == found  # the footprint of a tile has what loading it reads


@pytest.mark.parametrize("product", [DEM, TRENDS], ids=["dem", "trends"])
def test_an_area_across_the_antimeridian_has_both_sides(product):
    product = dataclasses.replace(product, chunk_px=450)
    x, y = Transformer.from_crs(4326, 32601, always_xy=True).transform(180.0, 71.0)
    geometry = shapely.Point(x, y).buffer(20_000)
    found = set(chunks_of(product, Geometry(geometry, "EPSG:32601")))
    needed = chunks_of_points(product, *points_in(geometry), "EPSG:32601")
    assert needed <= found
    assert len(found) <= 1.1 * len(needed)  # those of which the area has a corner, without one of the points
    if product.name == "tcvis":
        cols = {chunk.col for chunk in found}
        assert {0, -(-product.geobox.shape[1] // 450) - 1} <= cols
        assert len(cols) < 20


def degrees(west, east, south=65.0, north=65.2):
    return Geometry(shapely.box(west, south, east, north), "EPSG:4326")


@given(product=PRODUCTS, west=st.floats(-180, 180), width=st.floats(0.001, 3), turns=st.sampled_from([-1, 1]))
def test_longitudes_may_be_counted_in_any_way(product, west, width, turns):
    found = chunks_of(product, degrees(west, west + width))
    assert found == chunks_of(product, degrees(west + 360 * turns, west + width + 360 * turns))
    x, y = points_in(degrees(west, west + width).geom, 300)
    assert chunks_of_points(product, (x + 180) % 360 - 180, y, "EPSG:4326") <= set(found)


@pytest.mark.parametrize(("west", "east"), [(179.9, 180.1), (-180.1, -179.9)])
def test_a_polygon_beyond_the_last_degree_has_both_sides(west, east):
    sides = [degrees(179.9, 180), degrees(-180, -179.9)]
    found = chunks_of(TRENDS, degrees(west, east))
    assert found == chunks_of(TRENDS, sides)
    assert found == chunks_of(TRENDS, GeoBox.from_bbox((west, 65, east, 65.2), "EPSG:4326", resolution=0.001))
    assert {chunk.col for chunk in found} == {0, 370, 371}


def test_a_polygon_that_ends_at_the_antimeridian_has_one_side():
    assert {chunk.col for chunk in chunks_of(TRENDS, degrees(179.9, 180))} == {370, 371}
    assert {chunk.col for chunk in chunks_of(TRENDS, degrees(-180, -179.9))} == {0}
    assert {chunk.col for chunk in chunks_of(TRENDS, degrees(180, 180.1))} == {0}
    assert chunks_of(TRENDS, Geometry(shapely.Point(180, 65), "EPSG:4326"))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32660"])
@pytest.mark.parametrize(("west", "east", "far"), [(179.95, 179.99, 0), (-179.99, -179.95, 371)])
def test_a_buffer_reaches_across_the_antimeridian(crs, west, east, far):
    area = Geometry(gpd.GeoSeries([degrees(west, east).geom], crs="EPSG:4326").to_crs(crs)[0], crs)
    assert far not in {chunk.col for chunk in chunks_of(TRENDS, area)}
    assert far in {chunk.col for chunk in chunks_of(TRENDS, area, 100)}


def test_an_area_around_the_pole():
    product = dataclasses.replace(arcticdem_product(32), chunk_px=900)
    cap = shapely.Point(0, 0).buffer(300_000)
    found = set(chunks_of(product, Geometry(cap, "EPSG:3413")))
    assert chunks_of_points(product, *points_in(cap), "EPSG:3413") <= found
    with pytest.raises(OutsideExtentError):  # TCVIS ends at 84° N
        chunks_of(TRENDS, Geometry(shapely.Point(0, 0).buffer(100_000), "EPSG:3413"))


def test_tables_lists_and_mixtures():
    one = Geometry(shapely.box(500_000, 7_500_000, 510_000, 7_510_000), "EPSG:32608")
    grid = GeoBox((100, 100), Affine(30, 0, 600_000, 0, -30, 7_900_000), "EPSG:32608")
    table = gpd.GeoDataFrame(
        {"name": ["one", "none", "empty"]}, geometry=[one.geom, None, shapely.Polygon()], crs="EPSG:32608"
    )
    expected = set(chunks_of(DEM, one)) | set(chunks_of(DEM, grid))
    for area in ([one, grid], [table, grid], [table.geometry, [grid]], iter([table, grid])):
        found = chunks_of(DEM, area)
        assert set(found) == expected
        assert found == sorted(expected)


def test_a_table_in_degrees_bends_like_the_grid():
    """An edge along a parallel is an arc in EPSG:3413; the chunks below the chord between its ends are needed."""
    product = dataclasses.replace(arcticdem_product(32), chunk_px=450)
    area = shapely.box(-60, 70, 0, 70.2)
    found = set(chunks_of(product, gpd.GeoSeries([area], crs="EPSG:4326")))
    assert chunks_of_points(product, *points_in(area, 8000), "EPSG:4326") <= found


def test_what_lies_outside_is_left_out_and_alone_an_error():
    near = Geometry(shapely.box(500_000, 7_500_000, 501_000, 7_501_000), "EPSG:32608")
    far = Geometry(shapely.box(500_000, 1_000_000, 501_000, 1_001_000), "EPSG:32608")
    for product in (DEM, TRENDS):
        assert chunks_of(product, [near, far]) == chunks_of(product, near)
        with pytest.raises(OutsideExtentError, match="lies outside"):
            chunks_of(product, [far, far])


def test_an_area_needs_a_crs():
    with pytest.raises(GridError, match="has no CRS"):
        chunks_of(DEM, Geometry(shapely.box(0, 0, 1, 1), None))
    with pytest.raises(GridError, match="has no CRS"):
        chunks_of(DEM, GeoBox((2, 2), Affine(1, 0, 0, 0, -1, 0), None))


@pytest.mark.parametrize(
    "area", ["aoi.geojson", Path("aoi.geojson"), ["aoi.geojson"], b"aoi", {"aoi": 1}, 3, None, [shapely.Point(0, 70)]]
)
def test_what_is_no_area_is_refused(area):
    with pytest.raises(ParameterError, match=r"is no area; expected a GeoDataFrame.*geopandas\.read_file first"):
        chunks_of(DEM, area)


@pytest.mark.parametrize(
    "area",
    [
        [],
        gpd.GeoDataFrame(geometry=[], crs="EPSG:4326"),
        gpd.GeoSeries([None, shapely.Polygon()], crs="EPSG:4326"),
        Geometry(shapely.Polygon(), "EPSG:4326"),
    ],
    ids=["list", "table", "table of nothing", "geometry"],
)
def test_an_area_without_a_geometry_is_an_error(area):
    with pytest.raises(ParameterError, match="holds no geometry"):
        chunks_of(DEM, area)


@given(shift=st.integers(0, 449))
def test_an_area_that_only_touches_a_chunk(shift):
    """A box of the grid's own pixels needs the chunks that it covers, and may name the ones along its edge."""
    product = dataclasses.replace(DEM, chunk_px=450)
    assume(shift != 0)
    window = (slice(90_000 + shift, 90_450), slice(45_000, 45_450 - shift))
    area = product.geobox[window]
    assert chunks_of(product, area) == [Chunk(200, 100)]


@settings(max_examples=20)
@given(
    product=PRODUCTS,
    zone=st.integers(1, 60),
    places=st.lists(
        st.tuples(st.integers(350_000, 600_000), st.integers(4_000_000, 8_900_000)), min_size=1, max_size=6
    ),
    buffer=st.integers(0, 100),
)
def test_parts_of_an_area_get_the_chunks_that_each_gets_alone(product, zone, places, buffer):
    crs = f"EPSG:{32600 + zone}"
    grids = [GeoBox((300, 200), Affine(30, 0, east, 0, -30, north), crs) for east, north in places]
    alone = []
    for grid in grids:
        try:
            alone.append(set(chunks_of(product, grid, buffer)))
        except OutsideExtentError:
            alone.append(set())
    assume(any(alone))
    found = chunks_by_part(product, grids, buffer)
    assert [set(part) for part in found] == alone
    assert [len(part) for part in found] == [len(part) for part in alone]
    assert chunks_of(product, grids, buffer) == sorted(set().union(*alone))


@pytest.mark.parametrize(("west", "east", "warned"), [(-179, 179, True), (-180, 180, False), (179, 181, False)])
def test_edges_around_the_globe_are_warned_of(west, east, warned):
    """One may be meant to cross the antimeridian; scenes are searched as if it did."""
    area = gpd.GeoSeries([shapely.box(west, 70, east, 71)], crs="EPSG:4326")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        chunks = chunks_of(TRENDS, area)
    assert [each.category for each in said] == [WideEdgeWarning] * warned
    columns = {chunk.col for chunk in chunks}
    assert (186 in columns) == (east == -west)  # The prime meridian lies there.
