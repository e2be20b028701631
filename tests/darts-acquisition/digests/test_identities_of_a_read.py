"""What a read, and a tile with it, says of the chunks that it comes from."""

import hashlib
import json

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_acquisition import (
    Chunk,
    CubeProduct,
    Datacube,
    Window,
    create_arcticdem_cube,
    load_arcticdem,
)
from darts_acquisition.cube.ingest import read_product
from darts_acquisition.cube.transaction import Snapshot
from support.datacube import arrays_for
from support.digests import FIRST, SECOND, filled, oracle, window_of

# What a reader is told


def test_a_read_says_what_it_was_read_from(cube):
    filled(cube, [FIRST, SECOND])
    cube.mark_empty([Chunk(1, 0), Chunk(1, 1)])
    ds = cube.read(Window.of(3, 20, 9, 30), ["kind"])
    identities = cube.identities()
    assert json.loads(ds.attrs["chunk_identities"]) == {
        "0,0": identities[FIRST],
        "0,1": identities[SECOND],
        "1,0": "empty",
        "1,1": "empty",
    }
    assert json.loads(cube.read(Window.of(3, 4, 3, 4)).attrs["chunk_identities"]) == {"0,0": identities[FIRST]}


@pytest.mark.parametrize("before", ["identities", "read"])
def test_pixels_and_identities_are_of_one_state(cube, monkeypatch, before):
    """Somebody writes between the moments at which the two are read."""
    window = window_of(FIRST)
    old, new = arrays_for(window, 1), arrays_for(window, 2)
    cube.write(window, old)
    original = getattr(Snapshot, before)

    def late(*arguments):
        monkeypatch.setattr(Snapshot, before, original)
        Datacube.open(cube.path).write(window, new)
        return original(*arguments)

    monkeypatch.setattr(Snapshot, before, late)
    ds = cube.read(window)
    np.testing.assert_array_equal(ds.height, old["height"])
    assert json.loads(ds.attrs["chunk_identities"]) == {"0,0": oracle(old)}
    assert cube.identities() == {FIRST: oracle(new)}


def test_a_tile_comes_with_the_chunks_it_touches(tmp_path):
    cube = create_arcticdem_cube(tmp_path / "cube", 32)
    place = 35 * 3600 + 10  # some pixels from a corner that four chunks share
    tile = cube.geobox[place : place + 20, place : place + 30]
    touched = [Chunk(34, 34), Chunk(34, 35), Chunk(35, 34), Chunk(35, 35)]
    assert cube.chunks_of(tile, buffer=20) == touched
    assert cube.chunks_of(tile) == [Chunk(35, 35)]
    cube.mark_empty(touched[:3])
    window = cube.window(tile)
    dem = np.random.default_rng(1).uniform(0, 900, window.shape).astype("float32")
    cube.write(window, {"dem": dem, "arcticdem_data_mask": np.ones(window.shape, "uint8")}, complete=True)
    ds = load_arcticdem(tile, cube.path, 32, buffer=20, offline=True)
    whole = np.full((3600, 3600), np.nan, "<f4")
    whole[10:30, 10:40] = dem
    mask = np.zeros((3600, 3600), "uint8")
    mask[10:30, 10:40] = 1
    content = b'["dem", "<f4", [3600, 3600]]\n' + whole.tobytes()
    content += b'["arcticdem_data_mask", "|u1", [3600, 3600]]\n' + mask.tobytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    assert json.loads(ds.attrs["chunk_identities"]) == {
        "34,34": "empty",
        "34,35": "empty",
        "35,34": "empty",
        "35,35": digest,
    }


def test_a_tile_across_the_antimeridian_names_both_sides(tmp_path, product):
    world = CubeProduct(
        "w", "1", "w", GeoBox((16, 72), Affine(5, 0, -180, 0, -5, 80), "EPSG:4326"), product.variables, 8, 8
    )
    cube = Datacube.create(tmp_path / "cube", world)
    cube.write(cube.geobox, arrays_for(Window.of(0, 16, 0, 72)))
    tile = GeoBox((4, 6), Affine(5, 0, 165, 0, -5, 80), "EPSG:4326")
    ds = read_product(tile, cube.path, world, buffer=0, data_source="")
    identities = cube.identities([Chunk(0, 0), Chunk(0, 8)])
    assert cube.chunks_of(tile) == list(identities)
    assert json.loads(ds.attrs["chunk_identities"]) == {f"0,{col}": identities[0, col] for col in (0, 8)}
