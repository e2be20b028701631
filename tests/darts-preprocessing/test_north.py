"""True north: surfaces whose aspect is known, and convergence against the way to a point farther north."""

import numpy as np
import pyproj
import pytest

import darts_preprocessing as dp
from darts_preprocessing.north import get_north
from support import preprocessing as oracle
from support.lanes import mostly_slow

pytestmark = pytest.mark.filterwarnings("ignore::darts_utils.ArealScaleWarning")
"""Near the pole and on Svalbard, EPSG:3413 is off by 4 to 6 %."""

UTM_8 = pyproj.CRS.from_epsg(32608)
DEGREE = 111_194.9  # metres to the degree of latitude on a sphere, near enough to make slopes


def geographic(geobox):
    """Longitude and latitude of each pixel."""
    rows, cols = geobox.shape
    x = geobox.affine.c + geobox.affine.a * (np.arange(cols) + 0.5)
    y = geobox.affine.f + geobox.affine.e * (np.arange(rows) + 0.5)
    to_geographic = pyproj.Transformer.from_crs(str(geobox.crs), 4326, always_xy=True)
    return to_geographic.transform(*np.meshgrid(x, y))


def dipping_north(geobox, rise=0.1):
    """A surface that falls straight to true north everywhere."""
    _, lat = geographic(geobox)
    return oracle.make_dem((lat.mean() - lat) * DEGREE * rise, geobox, azimuth=0.0, elevation=30.0)


def tile_at(crs, lon, lat, size=600, cell=10.0):
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    half = size * cell / 2
    return oracle.make_geobox((size, size), cell, (round(x - half), round(y + half)), crs)


PLACES = {
    "UTM, 2.9° west of its central meridian": ("EPSG:32608", -135 - 2.9, 72),
    "UTM, 2.9° east of its central meridian": ("EPSG:32608", -135 + 2.9, 72),
    "UTM, near its central meridian": ("EPSG:32608", -135, 72),
    "polar, Greenland": ("EPSG:3413", -45, 75),
    "polar, Siberia": ("EPSG:3413", 135, 71),
    "polar, at the antimeridian": ("EPSG:3413", 180, 71),
    "polar, Canada": ("EPSG:3413", -135.2, 68),
    "polar, Svalbard": ("EPSG:3413", 18, 78),
    "polar, 10 km from the pole": ("EPSG:3413", 60, 89.91),
    "UTM, south": ("EPSG:32719", -71.5, -50),
}


USUAL = ("polar, at the antimeridian", "polar, 10 km from the pole", "UTM, south")


@pytest.mark.parametrize("place", mostly_slow(PLACES, USUAL.__contains__))
def test_what_dips_to_true_north_has_aspect_0(place):
    crs, lon, lat = PLACES[place]
    ds = dipping_north(tile_at(crs, lon, lat))
    aspect = dp.calculate_aspect(ds).aspect.values
    difference = (aspect + 180) % 360 - 180
    assert np.abs(difference).max() < 0.1


@pytest.mark.parametrize(("crs", "lon", "lat"), PLACES.values(), ids=PLACES)
def test_the_sun_is_turned_with_the_grid(crs, lon, lat):
    """A slope to true north, lit from true north at 30°: the cosine of the angle between the two is known."""
    ds = dipping_north(tile_at(crs, lon, lat))
    ds = dp.calculate_slope(dp.calculate_hillshade(ds))
    slope = np.radians(ds.slope.values.astype(np.float64))
    expected = np.sin(np.radians(30)) * np.cos(slope) + np.cos(np.radians(30)) * np.sin(slope)
    np.testing.assert_allclose(ds.hillshade, expected, atol=1e-5)


def test_around_the_pole_itself():
    """A cone falling away from the pole faces south all around, and steps there are no worse than single pixels."""
    geobox = oracle.make_geobox((81, 81), 10.0, (-405.0, 405.0), "EPSG:3413")
    _, lat = geographic(geobox)
    ds = oracle.make_dem((lat - 90) * DEGREE * 0.1, geobox)
    aspect = dp.calculate_aspect(ds).aspect.values.copy()
    rows, cols = np.ogrid[:81, :81]
    away = np.hypot(rows - 40, cols - 40) > 6  # nearer, 3 × 3 cells do not see a plane
    assert np.abs(aspect[away] - 180).max() < 1.0


@pytest.mark.parametrize("crs", ["EPSG:32608", "EPSG:3413", "EPSG:3995", "EPSG:6931", "EPSG:3571"])
def test_convergence_against_the_way_to_a_point_farther_north(crs):
    geobox = tile_at(crs, -137.5, 70.3, size=700, cell=30.0)
    lon, lat = geographic(geobox)
    to_grid = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
    x0, y0 = to_grid.transform(lon, lat - 1e-5)
    x1, y1 = to_grid.transform(lon, lat + 1e-5)
    expected = -np.arctan2(x1 - x0, y1 - y0)
    north = get_north(geobox)
    nodes = north.values[:-1, :-1]
    at_nodes = expected[:: north.step, :: north.step][: nodes.shape[0], : nodes.shape[1]]
    turned = nodes[: at_nodes.shape[0], : at_nodes.shape[1]] * np.exp(-1j * at_nodes)
    assert np.abs(np.degrees(np.angle(turned))).max() < 0.001
    assert north.step >= 32  # a coarse grid, not a computation for each pixel


def test_grid_north_would_be_wrong_here():
    """The grid of that UTM tile is turned by more than a degree: without the correction, the tests above would fail."""
    convergence = np.degrees(np.angle(get_north(tile_at("EPSG:32608", -135 + 2.9, 72)).values))
    np.testing.assert_allclose(convergence, 2.9 * np.sin(np.radians(72)), atol=0.2)


def test_aspect_of_a_plane_in_all_directions():
    geobox = tile_at("EPSG:32608", -135 + 2.9, 72, size=40)
    lon, lat = geographic(geobox)
    east = (lon - lon.mean()) * DEGREE * np.cos(np.radians(lat.mean()))
    north = (lat - lat.mean()) * DEGREE
    for direction in range(0, 360, 30):
        downhill = np.radians(direction)
        dem = -0.2 * (east * np.sin(downhill) + north * np.cos(downhill))
        aspect = dp.calculate_aspect(oracle.make_dem(dem, geobox)).aspect.values
        difference = (aspect - direction + 180) % 360 - 180
        assert np.abs(difference).max() < 0.5  # the ellipsoid is no sphere, which these planes take it for
