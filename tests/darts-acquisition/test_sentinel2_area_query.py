"""The query of an area: it holds the area however its edges are read, keeps to the limit, and is fine and fast."""

import time

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from shapely.geometry import Point, Polygon, box, mapping, shape

from darts_acquisition import Area
from support.lanes import cases

MOST_VERTICES = 400
STEREO = Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True)


def in_stereo(polygon):
    """Project a polygon whose edges are dense."""
    return shapely.make_valid(shapely.transform(polygon, lambda points: np.column_stack(STEREO.transform(*points.T))))


def on_the_globe(polygon):
    """Return a polygon in EPSG:3413 whose edges in degrees are read as the shortest ways on the globe."""
    geod, shares = Geod(ellps="WGS84"), np.linspace(0, 1, 20, endpoint=False)

    def dense(ring):
        starts, ends = (np.repeat(part, shares.size, axis=0) for part in (ring.coords[:-1], ring.coords[1:]))
        bearings, _, distances = geod.inv(*starts.T, *ends.T)
        lon, lat, _ = geod.fwd(*starts.T, bearings, distances * np.tile(shares, len(ring.coords) - 1))
        return np.column_stack([lon, lat])

    return in_stereo(Polygon(dense(polygon.exterior), [dense(ring) for ring in polygon.interiors]))


def straight(polygon):
    """Return a polygon in EPSG:3413 whose edges are read as straight in degrees."""
    return in_stereo(shapely.segmentize(polygon, 0.1))


def check(shapes):
    """Compare the query with the outlines of an area that keeps away from the pole, in two readings of its edges."""
    query = shape(Area(shapes).query())
    assert query.is_valid
    assert query.geom_type in ("Polygon", "MultiPolygon")
    assert shapely.get_num_coordinates(query) <= MOST_VERTICES
    assert query.bounds[0] >= -180
    assert query.bounds[2] <= 180
    lonlat = shapely.get_coordinates(shapes.to_crs("EPSG:4326").values)
    lonlat[:, 0] = (lonlat[:, 0] + 180) % 360 - 180
    assert shapely.intersects(shapely.buffer(query, 1e-9), shapely.points(lonlat)).all()
    points = shapely.points(np.column_stack(STEREO.transform(*lonlat.T)))
    for read in (straight, on_the_globe):
        there = shapely.union_all([read(part).buffer(10) for part in shapely.get_parts(query)])
        shapely.prepare(there)
        assert shapely.intersects(there, points).all(), read.__name__
    return query


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 3, 30, 300]),
    st.floats(2e3, 2e6),
    st.floats(10, 3e5),
    st.booleans(),
)
@settings(max_examples=cases(3), deadline=None)
def test_it_holds_the_area(seed, count, spread, size, jagged):
    """Random stars, around a random place of the Arctic, maybe across the antimeridian or the pole."""
    random = np.random.default_rng(seed)
    bearing, distance = random.uniform(0, 2 * np.pi), random.uniform(7e5, 3e6)
    centre = distance * np.array([np.cos(bearing), np.sin(bearing)])
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radii = size * (random.uniform(0.05, 1, (count, 40)) if jagged else np.ones((count, 40)))
    outlines = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1)
    polygons = shapely.polygons(outlines + random.normal(centre, spread, (count, 1, 2)))
    around_the_pole = Point(0, 0).buffer(4e5)
    polygons = [each for each in shapely.difference(polygons, around_the_pole) if not each.is_empty]
    check(gpd.GeoSeries(polygons or [Point(centre).buffer(size)], crs="EPSG:3413").segmentize(5_000))


def clusters(count):
    """Return small discs in groups of a hundred, as an inventory of slumps has them."""
    random = np.random.default_rng(0)
    groups = count // 100
    lon, lat = random.uniform(-180, 180, groups), random.uniform(62, 76, groups)
    lon = np.repeat(lon, 100) + random.normal(0, 1, count)
    lat = np.clip(np.repeat(lat, 100) + random.normal(0, 0.4, count), 55, 82)
    return gpd.GeoSeries(shapely.buffer(shapely.points(lon, lat), 0.002), crs="EPSG:4326")


@pytest.mark.slow
def test_thousands_of_polygons_take_seconds():
    area = Area(clusters(8_000))
    start = time.process_time()
    area.query()
    assert time.process_time() - start < 20


@pytest.mark.parametrize(("count", "most_km2"), [(2_000, 1.0e6), pytest.param(4_000, 3.0e6, marks=pytest.mark.slow)])
def test_it_is_fine(count, most_km2):
    shapes = clusters(count)
    query = check(shapes)
    assert straight_area(query) < most_km2 * 1e6


def straight_area(query):
    return gpd.GeoSeries([shapely.segmentize(query, 0.1)], crs="EPSG:4326").to_crs("EPSG:6931").area.iloc[0]


@pytest.mark.parametrize(("south", "north", "more"), [(60, 90, 0.01), (68, 69, 0.05)])
def test_around_the_pole_it_keeps_to_the_limit_too(south, north, more):
    query = shape(Area(gpd.GeoSeries([box(-180, south, 180, north)], crs="EPSG:4326")).query())
    assert shapely.get_num_coordinates(query) <= MOST_VERTICES
    lon, lat = np.meshgrid(np.arange(-180, 180, 0.7), np.arange(max(south, 60), min(north, 87), 0.1))
    assert shapely.intersects_xy(query.buffer(1e-9), lon.ravel(), lat.ravel()).all()
    exact = box(-180, south, 180, min(north, 87.3))
    assert straight_area(query) < (1 + more) * straight_area(exact)


def world_in_metres():
    """The whole world but for its last metre; where it ends differs with the version of PROJ."""
    x, y = Transformer.from_crs(4326, 4087, always_xy=True).transform(180, 90)
    return box(1 - x, 1 - y, x - 1, y - 1)


def antarctica():
    return Point(0, 0).buffer(2e6)


@pytest.mark.parametrize(
    ("content", "crs", "inside", "outside"),
    [
        (box(-180, -90, 180, 90), "EPSG:4326", [(0, 0), (120, -85), (-60, 80), (180, 40)], []),
        (world_in_metres(), "EPSG:4087", [(0, 0), (120, -85), (-60, 80)], []),
        (box(-180, -90, 180, -60), "EPSG:4326", [(0, -61), (120, -88), (-60, -80)], [(0, -58), (0, 70)]),
        (box(10, -90, 20, -60), "EPSG:4326", [(11, -61), (19, -85)], [(9, -61), (25, -85), (0, 70)]),
        (antarctica(), "EPSG:3031", [(0, -73), (120, -85), (-120, -89)], [(0, -69), (0, 0), (0, 70)]),
    ],
)
def test_an_area_may_touch_the_south_pole(content, crs, inside, outside):
    area = Area(gpd.GeoSeries([content], crs=crs))
    query = shape(area.query())
    assert query.is_valid
    assert shapely.get_num_coordinates(query) <= MOST_VERTICES
    for place in inside:
        assert area.touches(mapping(Point(place)))
        assert query.buffer(1e-9).intersects(Point(place))
    for place in outside:
        assert not area.touches(mapping(Point(place)))
        assert not query.intersects(Point(place))
