"""The areal scale between nodes, against scipy; and footprints at the poles, against the grid."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.interpolate import RegularGridInterpolator

from darts_export.footprint import geojson_footprint
from darts_export.places import interpolate


@pytest.mark.parametrize("seed", range(30))
def test_interpolation_is_scipys_bit_by_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.uniform(1, 9000, 2)
    count = int(random.integers(2, 40))
    nodes = np.linspace(0, height, count), np.linspace(0, width, count + 3)
    values = random.uniform(0.9, 1.1, (count, count + 3))
    y, x = random.uniform(0, height, 200), random.uniform(0, width, 200)
    y[:4], x[:4] = (0, height, nodes[0][1], height / 2), (width, 0, nodes[1][-2], 0)
    expected = RegularGridInterpolator(nodes, values)(np.stack([y, x], axis=-1))
    np.testing.assert_array_equal(interpolate(values, nodes, (y, x)), expected)


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:6931", "EPSG:6932"])
@pytest.mark.parametrize(
    ("left", "top"), [(0, 0), (0, 10_000), (-10_000, 10_000), (-5000, 10_000), (0, 5000), (-10_000, 3210), (3000, 3000)]
)
def test_a_footprint_with_a_pole_on_its_border_has_the_ground_of_the_grid(crs, left, top):
    """Grids of polar projections begin at the pole, where all longitudes meet; any of them was taken for its own."""
    geobox = GeoBox((1000, 1000), Affine(10, 0, left, 0, -10, top), crs)
    found, bbox = geojson_footprint(geobox, geobox.crs.to_wkt())
    footprint = shapely.geometry.shape(found)
    assert footprint.is_valid
    there = gpd.GeoSeries([shapely.segmentize(footprint, 0.5)], crs="EPSG:4326").to_crs(crs).make_valid().iloc[0]
    whole = shapely.box(left, top - 10_000, left + 10_000, top)
    assert there.symmetric_difference(whole).area < 0.002 * whole.area
    assert (bbox[1], bbox[3]) == pytest.approx(footprint.bounds[1::2])
