"""What `inspect_cube` and `verify_cube` say about a cube, against outlines made by pyproj and shapely."""

import dataclasses
import itertools

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import example, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from shapely.geometry import shape

from darts_acquisition import (
    Chunk,
    CubeNotFoundError,
    Datacube,
    arcticdem_product,
    create_arcticdem_cube,
    inspect_cube,
    tcvis_product,
    verify_cube,
)
from darts_acquisition.cube.inspect import _feature, _longitudes


def values_for(product, window):
    return {each.name: np.ones(window.shape, each.dtype) for each in product.variables}


def filled(path, product, chunks):
    cube = Datacube.create(path, product)
    cube.complete({chunk: values_for(product, cube.window(cube.chunk_geobox(chunk))) for chunk in chunks})
    return cube


def test_counts_sizes_and_bounds(tmp_path, product):
    cube = filled(tmp_path / "cube", product, [Chunk(0, 0), Chunk(0, 1), Chunk(4, 5)])
    cube.mark_empty([Chunk(2, 2)])
    info = inspect_cube(cube.path)
    assert (info.path, info.filled, info.empty) == (str(cube.path), 3, 1)
    assert info.product.to_attrs() == product.to_attrs()
    assert info.stored_bytes == sum(file.stat().st_size for file in cube.path.rglob("*") if file.is_file())
    to_degrees = Transformer.from_crs(3413, 4326, always_xy=True)
    boxes = [cube.chunk_geobox(chunk).boundingbox for chunk in (Chunk(0, 0), Chunk(0, 1), Chunk(4, 5))]
    points = np.concatenate(
        [
            np.stack(np.meshgrid(np.linspace(box.left, box.right, 101), np.linspace(box.bottom, box.top, 101)), -1)
            for box in boxes
        ]
    ).reshape(-1, 2)
    lon, lat = to_degrees.transform(*points.T)
    assert info.bounds == pytest.approx((lon.min(), lat.min(), lon.max(), lat.max()), abs=1e-6)


def test_an_empty_cube_and_none(tmp_path, product):
    Datacube.create(tmp_path / "cube", product)
    info = inspect_cube(tmp_path / "cube")
    assert (info.filled, info.empty, info.bounds, info.area["geometry"]) == (0, 0, None, None)
    assert verify_cube(tmp_path / "cube").checked == 0
    for look in (inspect_cube, verify_cube):
        with pytest.raises(CubeNotFoundError):
            look(tmp_path / "absent")


def assert_valid_geojson(geometry):
    """RFC 7946: no part crosses the antimeridian, longitudes and latitudes are in range."""
    found = shape(geometry)
    assert found.is_valid
    west, south, east, north = found.bounds
    assert -180 <= west <= east <= 180
    assert -90 <= south <= north <= 90
    return found


@example(left=-747_296, top=465_525, chunks=[(1, 1)])  # an edge 66 km from the pole, which a chunk beside it holds
@example(left=-400_000, top=1_000_000, chunks=[(0, 0), (2, 2)])  # an edge through the pole
@example(left=-400_000, top=400_000, chunks=[(0, 0), (1, 1)])  # the pole is a corner
@given(
    left=st.integers(-3_000_000, 3_000_000),
    top=st.integers(-3_000_000, 4_000_000),
    chunks=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=5, unique=True),
)
def test_the_area_holds_the_points_of_its_chunks_and_no_others(left, top, chunks):
    """Anywhere around the pole."""
    product = arcticdem_product(32)
    geobox = GeoBox((120, 120), Affine(10_000, 0, left, 0, -10_000, top), "EPSG:3413")
    product = dataclasses.replace(product, geobox=geobox, chunk_px=40, inner_px=40)
    places = [Chunk(*each) for each in chunks]
    cube = Datacube.__new__(Datacube)
    cube.product = product
    found = assert_valid_geojson(_feature(cube, places)["geometry"])
    to_degrees = Transformer.from_crs(3413, 4326, always_xy=True)
    random = np.random.default_rng(abs(left))
    for chunk in itertools.starmap(Chunk, itertools.product(range(3), range(3))):
        box = cube.chunk_geobox(chunk).boundingbox
        x = random.uniform(box.left + 5_000, box.right - 5_000, 80)
        y = random.uniform(box.bottom + 5_000, box.top - 5_000, 80)
        inside = shapely.contains_xy(found, *to_degrees.transform(x, y))
        assert inside.all() if chunk in places else not inside.any()


def test_the_area_across_the_antimeridian_is_cut_there(tmp_path):
    """RFC 7946, section 3.1.9."""
    cube = create_arcticdem_cube(tmp_path / "cube", 32)
    x, y = Transformer.from_crs(4326, 3413, always_xy=True).transform(180.0, 71.2)
    chunk = Chunk(int((4_100_000 - y) // (32 * 3600)), int((x + 4_000_000) // (32 * 3600)))
    window = cube.window(cube.chunk_geobox(chunk))
    cube.complete(
        {chunk: {"dem": np.full(window.shape, 1, "float32"), "arcticdem_data_mask": np.ones(window.shape, "uint8")}}
    )
    info = inspect_cube(cube.path)
    found = assert_valid_geojson(info.area["geometry"])
    assert len(found.geoms) == 2
    assert (found.bounds[0], found.bounds[2]) == (-180, 180)
    west, _, east, _ = info.bounds
    assert west > 170
    assert east < -170
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(found)
    # Scale of EPSG:3413 at 71° N is close to that at 70° N, which is 1.
    assert abs(area) == pytest.approx((32 * 3600) ** 2, rel=0.03)


def test_the_area_of_a_geographic_cube_is_its_rectangles(tmp_path):
    product = dataclasses.replace(tcvis_product(), geobox=tcvis_product().geobox[:200, :400], chunk_px=100, inner_px=50)
    cube = filled(tmp_path / "cube", product, [Chunk(0, 1), Chunk(1, 1)])
    found = assert_valid_geojson(inspect_cube(cube.path).area["geometry"])
    expected = shapely.box(*cube.geobox[0:200, 100:200].boundingbox.bbox)
    assert found.symmetric_difference(expected).area < 1e-5 * expected.area  # corners are rounded to 1e-7°


@given(st.lists(st.tuples(st.integers(-180, 180), st.integers(0, 200)), min_size=1, max_size=5))
def test_the_smallest_arc_holds_all_arcs(arcs):
    west = np.array([float(start) for start, _ in arcs])
    east = (west + [width for _, width in arcs] + 180) % 360 - 180
    left, right = _longitudes(west, east)
    width = 360 if (left, right) == (-180, 180) else (right - left) % 360
    grid = np.arange(0, 360, 0.5)
    covered = np.zeros(grid.size, bool)
    for start, end in zip(west, east, strict=True):
        offset = (grid - start) % 360
        covered |= offset <= (end - start) % 360
    offset = (grid - left) % 360
    assert (offset[covered] <= width + 1e-6).all() or width == 360
    # No smaller arc would do: what is outside is the widest gap between them.
    free = np.concatenate([~covered, ~covered])
    longest = max((len(list(run)) for value, run in itertools.groupby(free) if value), default=0)
    assert 360 - width >= min(longest, grid.size) * 0.5 - 0.5


def test_progress_is_told(tmp_path, product):
    cube = filled(tmp_path / "cube", product, [Chunk(0, 0), Chunk(1, 1), Chunk(2, 2)])
    told = []
    assert verify_cube(cube.path, progress=lambda *at: told.append(at)).checked == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
