"""Datacubes against plain numpy mosaics with a state per chunk."""

import math

import numpy as np
import pyproj
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from darts_acquisition import (
    Chunk,
    CubeProduct,
    Datacube,
    MissingAuxiliaryDataError,
    OutsideExtentError,
    Window,
)
from darts_acquisition.cube.repository import BRANCH
from darts_utils import DartsError, GridError, ParameterError
from support.datacube import SHAPE, Mosaic, arrays_for
from support.lanes import cases

WINDOWS = st.builds(
    lambda top, left, height, width: Window.of(top, min(top + height, SHAPE[0]), left, min(left + width, SHAPE[1])),
    top=st.sampled_from([0, 5, 16, 32, 48, 60, 69]),
    left=st.sampled_from([0, 7, 16, 31, 48, 80, 89]),
    height=st.sampled_from([1, 6, 16, 32, 70]),
    width=st.sampled_from([1, 9, 16, 48, 90]),
)
WRITES = st.tuples(st.just("write"), WINDOWS, st.booleans())
EMPTIES = st.tuples(st.just("empty"), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=4))


@settings(max_examples=cases(5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(WRITES | EMPTIES, min_size=1, max_size=5), windows=st.lists(WINDOWS, min_size=1, max_size=4))
def test_any_writes_leave_what_a_plain_mosaic_holds(tmp_path_factory, product, actions, windows):
    cube, mosaic = Datacube.create(tmp_path_factory.mktemp("cubes") / "cube", product), Mosaic()
    for number, action in enumerate(actions):
        if action[0] == "write":
            _, window, complete = action
            arrays = arrays_for(window, number)
            area = window if number % 2 else cube.geobox[window]
            assert cube.write(area, arrays, complete=complete) == mosaic.write(window, arrays, complete)
        else:
            chunks = [Chunk(*place) for place in action[1] if mosaic.states[place] != 1]
            cube.mark_empty(chunks)
            for chunk in chunks:
                mosaic.states[chunk] = 2
    other = Datacube.open(cube.path)
    np.testing.assert_array_equal(other.states(cube.geobox), mosaic.states)
    for window in [*windows, Window.of(0, SHAPE[0], 0, SHAPE[1])]:
        missing = mosaic.missing(window)
        assert other.missing(window) == missing
        if missing:
            with pytest.raises(MissingAuxiliaryDataError, match=f"{len(missing)} of the "):
                other.read(window)
        else:
            ds = other.read(window)
            for name, values in mosaic.read(window).items():
                assert ds[name].dtype == values.dtype
                np.testing.assert_array_equal(ds[name], values)


def test_a_read_is_a_dataset_on_the_cubes_grid(cube):
    window = Window.of(10, 40, 20, 90)
    arrays = arrays_for(window)
    cube.write(window, xr.Dataset({name: (("y", "x"), values) for name, values in arrays.items()}), complete=True)
    ds = cube.read(cube.geobox[window])
    assert ds.odc.geobox == cube.geobox[10:40, 20:90]
    assert ds.height.dims == ("y", "x")
    assert ds.height.attrs == {"long_name": "height", "units": "m"}
    assert ds.kind.attrs == {"long_name": "kind of ground"}
    assert (ds.attrs["collection"], ds.attrs["version"]) == ("terrain-100m", "1")
    assert sorted(ds.attrs) == ["chunk_identities", "collection", "version"]
    np.testing.assert_allclose(ds.x, -2_000_000 + 100 * (np.arange(20, 90) + 0.5))
    np.testing.assert_allclose(ds.y, 1_000_000 - 100 * (np.arange(10, 40) + 0.5))
    assert list(cube.read(window, ["kind"])) == ["kind"]
    ds.height.values[:] = 0  # what was read is the caller's own
    np.testing.assert_array_equal(cube.read(window).height, arrays["height"])


def test_given_arrays_are_not_changed(cube):
    window = Window.of(0, 20, 0, 20)
    arrays = arrays_for(window)
    before = {name: values.copy() for name, values in arrays.items()}
    cube.write(window, arrays)
    for name, values in before.items():
        np.testing.assert_array_equal(arrays[name], values)


def test_partial_writes_complete_a_chunk_only_when_told(cube):
    left, right = Window.of(0, 16, 0, 8), Window.of(0, 16, 8, 16)
    whole = Window.of(0, 16, 0, 16)
    first, second = arrays_for(left, 1), arrays_for(right, 2)
    assert cube.write(left, first) == []
    assert cube.missing(whole) == [Chunk(0, 0)]
    assert cube.write(right, second, complete=True) == [Chunk(0, 0)]
    both = np.concatenate([first["height"], second["height"]], axis=1)
    np.testing.assert_array_equal(cube.read(whole).height, both)


def test_small_area_in_a_large_chunk_costs_little(tmp_path, product):
    huge = CubeProduct(
        "terrain", "1", "terrain-2m", GeoBox((10**6, 10**6), product.geobox.affine, "EPSG:3413"), product.variables
    )
    cube = Datacube.create(tmp_path / "huge", huge)
    window = cube.window(cube.geobox[500_000:500_010, 600_000:600_020])
    cube.write(window, arrays_for(window), complete=True)
    assert cube.missing(window) == []
    assert sum(file.stat().st_size for file in cube.path.rglob("*") if file.is_file()) < 50_000
    chunk = cube.chunk_geobox(Chunk(138, 166))
    assert np.isnan(cube.read(chunk[:100, :100]).height).all()


def test_reading_touches_only_the_chunks_of_the_window(cube):
    """The other chunks' files may be gone, and the rest still reads."""
    cube.write(Window.of(0, 16, 0, 16), arrays_for(Window.of(0, 16, 0, 16), 1))
    known = {file.name for file in (cube.path / "chunks").iterdir()}
    window = Window.of(16, 32, 16, 32)
    arrays = arrays_for(window, 2)
    cube.write(window, arrays)
    for name in known:
        (cube.path / "chunks" / name).unlink()
    np.testing.assert_array_equal(Datacube.open(cube.path).read(window).height, arrays["height"])


def test_compressed_pieces_are_smaller_than_chunks(cube):
    array = zarr.open_group(cube._repository.readonly_session(BRANCH).store, mode="r")["height"]
    assert (array.shards, array.chunks) == ((16, 16), (8, 8))
    assert array.metadata.dimension_names == ("y", "x")


def test_product_comes_back_as_it_was_stored(cube, product):
    found = Datacube.open(str(cube.path)).product
    assert found.geobox == product.geobox
    assert math.isnan(found.variables[0].nodata)
    assert found.to_attrs() == product.to_attrs()
    assert found.variables[1] == product.variables[1]


def test_window_is_cut_off_at_the_edges(cube):
    corner = cube.geobox[60:70, 80:90].translate_pix(5, 5)
    assert cube.window(corner) == Window.of(65, 70, 85, 90)
    assert cube.window(corner, 3) == Window.of(62, 70, 82, 90)
    with pytest.raises(OutsideExtentError, match="lies outside terrain-100m") as caught:
        cube.window(cube.geobox.translate_pix(90, 0))
    assert isinstance(caught.value, DartsError | ValueError)


def test_missing_area_is_described_in_both_systems(cube):
    cube.write(Window.of(0, 32, 0, 32), arrays_for(Window.of(0, 32, 0, 32)))
    with pytest.raises(MissingAuxiliaryDataError) as caught:
        cube.read(Window.of(10, 40, 20, 50), how_to_fill="Fill it by hand.")
    message = str(caught.value)
    assert isinstance(caught.value, LookupError)
    assert "7 of the 9 chunks" in message
    assert "x -1998000 to -1995000, y 996000 to 999000 in EPSG:3413" in message
    rows, cols = np.mgrid[10:40:301j, 20:50:301j]
    x, y = -2_000_000 + 100 * cols, 1_000_000 - 100 * rows
    lon, lat = pyproj.Transformer.from_crs(3413, 4326, always_xy=True).transform(x, y)
    assert f"longitude {lon.min():.3f} to {lon.max():.3f}, latitude {lat.min():.3f} to {lat.max():.3f}." in message
    assert message.endswith("Fill it by hand.")
    assert str(cube.path) in message


def test_chunks_that_are_filled_or_elsewhere_cannot_be_empty(cube):
    cube.write(Window.of(0, 16, 0, 16), arrays_for(Window.of(0, 16, 0, 16)))
    with pytest.raises(ParameterError, match=r"row=0, col=0.*filled"):
        cube.mark_empty([Chunk(0, 0), Chunk(0, 1)])
    for chunk in (Chunk(5, 0), Chunk(0, 6), Chunk(-1, 0)):
        with pytest.raises(ParameterError, match="outside the cube"):
            cube.mark_empty([chunk])
    assert cube.states(cube.geobox).sum() == 1


def test_an_empty_chunk_that_gets_a_part_is_missing(cube):
    window = Window.of(0, 4, 0, 4)
    cube.mark_empty([Chunk(0, 0), Chunk(0, 1)])
    assert np.isnan(cube.read(Window.of(0, 16, 0, 32)).height).all()
    cube.write(window, arrays_for(window))
    assert cube.missing(Window.of(0, 16, 0, 32)) == [Chunk(0, 0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("kind"), "Got variables height; .* needs all of height, kind"),
        (lambda arrays: arrays.update(slope=arrays["height"]), "Got variables height, kind, slope"),
        (lambda arrays: arrays.update(kind=arrays["kind"].astype("int64")), "kind is int64 of shape"),
        (lambda arrays: arrays.update(height=arrays["height"].astype("float64")), "height is float64"),
        (
            lambda arrays: arrays.update(height=arrays["height"][1:]),
            r"shape \(15, 16\); expected float32 of shape \(16",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(cube, change, message):
    window = Window.of(0, 16, 0, 16)
    arrays = arrays_for(window)
    change(arrays)
    with pytest.raises(ParameterError, match=message):
        cube.write(window, arrays)
    assert not cube.states(window).any()


def test_areas_that_are_not_of_the_grid_are_refused(cube):
    window = Window.of(60, 71, 0, 10)
    for call in (cube.read, cube.missing, cube.states, lambda area: cube.write(area, arrays_for(window))):
        with pytest.raises(GridError, match=r"\(70, 90\)|70 pixels|not within"):
            call(window)
        with pytest.raises(GridError, match="a part of a pixel"):
            call(cube.geobox[:10, :10].translate_pix(0.5, 0))
    with pytest.raises(ParameterError, match="no variable slope; it has height, kind"):
        cube.read(Window.of(0, 1, 0, 1), ["slope"])
