"""ArcticDEM fetched from a STAC API and GeoTIFFs on this machine, against mosaics that rasterio makes of the files."""

import dataclasses

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from darts_acquisition import Chunk, ChunkState, Datacube, ServiceError, Window
from darts_acquisition.cube.areas import parts_within
from darts_acquisition.cube.ingest import ingest
from support.arcticdem import Provider, small_product
from support.arcticdem_fetching import WHOLE, all_chunks, assert_chunk_equals_mosaic, assert_equals_mosaic, source_of
from support.lanes import cases, mostly_slow

# Equal to the mosaic


windows = st.builds(
    lambda top, left, height, width: Window.of(top, top + height, left, left + width),
    st.integers(-40, 140),
    st.integers(-40, 180),
    st.integers(1, 150),
    st.integers(1, 150),
)


@settings(max_examples=cases(2))
@given(tiles=st.lists(windows, min_size=1, max_size=4), order=st.randoms(use_true_random=False), data=st.data())
def test_what_is_fetched_equals_the_mosaic(tmp_path_factory, tiles, order, data):
    """Tiles overlap, touch and miss chunks; chunks are fetched in any order, some at a time."""
    folder = tmp_path_factory.mktemp("provider")
    provider = Provider(folder / "files", small_product(160, 200))
    whole = Window.of(0, 160, 0, 200)
    for number, window in enumerate(tiles):
        provider.add(f"tile{number}", window, seed=number, holes=bool(number % 2))
    cube = Datacube.create(folder / "cube", provider.product)
    chunks = all_chunks(cube)
    order.shuffle(chunks)
    with provider.serving() as service:
        source = source_of(provider, service)
        first = data.draw(st.integers(1, len(chunks)))
        ingest(cube, chunks[:first], source)
        for chunk in chunks[:first]:
            assert_chunk_equals_mosaic(cube, provider, chunk)
        ingest(cube, chunks[first:], source)
    assert_equals_mosaic(cube, provider, whole)
    truth = provider.truth(whole)
    has_data = ~np.isnan(truth["dem"]) | (truth["arcticdem_data_mask"] > 0)
    states = cube.states(cube.geobox)
    for chunk, part in zip(all_chunks(cube), parts_within(whole, all_chunks(cube), cube.product), strict=True):
        expected = ChunkState.FILLED if has_data[part].any() else ChunkState.EMPTY
        assert states[chunk] == expected, chunk


def test_a_part_of_a_chunk_is_completed_with_its_neighbour(provider, service, cube):
    """What somebody wrote into a part of a chunk is no chunk; fetching makes it whole."""
    part = Window.of(60, 100, 60, 100)
    ones = {"dem": np.ones(part.shape, "float32"), "arcticdem_data_mask": np.ones(part.shape, "uint8")}
    cube.write(part, ones)
    assert len(cube.missing(part)) == 4
    source = source_of(provider, service)
    ingest(cube, [Chunk(0, 0), Chunk(0, 1)], source)
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 128))
    assert cube.missing(part) == [Chunk(1, 0), Chunk(1, 1)]
    ingest(cube, cube.missing(part), source)
    assert_equals_mosaic(cube, provider, Window.of(0, 128, 0, 128))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    mostly_slow(
        [{"bigtiff": "YES"}, {"compress": "DEFLATE"}, {"compress": "ZSTD", "sparse_ok": True}, {"overviews": "NONE"}],
        lambda options: "sparse_ok" in options,
    ),
    ids=str,
)
def test_files_may_be_of_any_kind(tmp_path, options):
    provider = Provider(tmp_path / "files", small_product())
    provider.add("a", Window.of(-10, 140, -300, 350), seed=1, **options)
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        ingest(cube, all_chunks(cube)[:14], source_of(provider, service))
    assert_equals_mosaic(cube, provider, Window.of(0, 128, 0, 400))


@pytest.mark.parametrize("tag", [pytest.param(0, marks=pytest.mark.slow), None, 255])
def test_zeros_of_the_mask_are_no_data_whatever_its_files_say(tmp_path, tag, monkeypatch):
    """Where the first of two tiles has nothing, elevation and mask both come from the second."""
    tagged, provider = (Provider(tmp_path / name, small_product(128, 128)) for name in ("tagged", "files"))
    write = provider._write

    def write_with_tag(file, values, nodata, *others):
        write(file, values, tag if "datamask" in file else nodata, *others)

    monkeypatch.setattr(provider, "_write", write_with_tag)
    for each in (tagged, provider):
        each.add("a", Window.of(0, 100, 0, 90), seed=1)
        each.add("b", Window.of(-20, 110, -10, 120), seed=2)
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        ingest(cube, all_chunks(cube), source_of(provider, service))
    assert_equals_mosaic(cube, tagged, Window.of(0, 128, 0, 128))


def test_missing_elevations_that_a_file_does_not_declare_cost_its_chunk(tmp_path, monkeypatch):
    """They were read back as ground 100 m below the sea."""
    provider = Provider(tmp_path / "files", small_product(128, 128))
    write = provider._write
    monkeypatch.setattr(provider, "_write", lambda file, values, _nodata, *others: write(file, values, None, *others))
    provider.add("a", Window.of(0, 64, 0, 64), seed=1)
    provider.add("b", Window.of(64, 128, 64, 128), seed=2, holes=False)
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service, pytest.raises(ServiceError, match="hold cannot be used: dem is -9999 at"):
        ingest(cube, [Chunk(0, 0), Chunk(1, 1)], source_of(provider, service))
    assert list(cube.known()) == [Chunk(1, 1)]


def test_pixels_beside_the_grid_go_to_their_nearest_ones(tmp_path):
    provider = Provider(tmp_path / "files", small_product())
    provider.add("a", Window.of(0, 64, 0, 64), shift_px=0.3, holes=False)
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        ingest(cube, [Chunk(0, 0)], source_of(provider, service))
    with rasterio.open(provider.folder / "a_dem.tif") as source:
        np.testing.assert_array_equal(cube.read(Window.of(0, 64, 0, 64)).dem, source.read(1))


def test_two_grids_meet_at_the_antimeridian(tmp_path):
    """A chunk that the antimeridian crosses gets what lies on both sides."""
    product = small_product(128, 128)
    # In EPSG:3413 the antimeridian runs from the pole to the upper left, where x = y.
    geobox = GeoBox((128, 128), Affine(32, 0, -1_202_048, 0, -32, 1_202_048), "EPSG:3413")
    product = dataclasses.replace(product, geobox=geobox)
    provider = Provider(tmp_path / "files", product)
    provider.add("east", Window.of(0, 30, 70, 120), seed=1, holes=False)
    provider.add("west", Window.of(70, 120, 0, 30), seed=2, holes=False)
    longitudes = [np.array(item["geometry"]["coordinates"])[0, :, 0] for item in provider.items]
    assert {float(np.sign(lon).mean()) for lon in longitudes} == {-1.0, 1.0}
    cube = Datacube.create(tmp_path / "cube", product)
    with provider.serving() as service:
        ingest(cube, all_chunks(cube), source_of(provider, service))
    assert_equals_mosaic(cube, provider, Window.of(0, 128, 0, 128))


# Only what is missing


@pytest.mark.slow
def test_nothing_is_fetched_twice(provider, service, cube):
    report = ingest(cube, all_chunks(cube), source_of(provider, service))
    assert report.filled + report.empty == len(all_chunks(cube))
    assert report.empty > 0
    before = service.requests()
    assert cube.missing(WHOLE) == []
    assert ingest(cube, cube.missing(WHOLE), source_of(provider, service)).filled == 0
    assert service.requests() == before


def test_requests_are_bounded_and_progress_is_told(provider, service, cube):
    for file in ("*_dem.tif", "*_datamask.tif"):
        service.files.inject(path=file, times=1000, delay_s=0.01)
    told = []
    chunks = all_chunks(cube)[:12]
    ingest(cube, chunks, source_of(provider, service, parallel=3), lambda done, total: told.append((done, total)))
    assert service.files.most_at_once == 3
    assert service.api.most_at_once <= 3
    assert told == [(number, 12) for number in range(1, 13)]


def test_only_the_bytes_of_the_window_are_fetched(tmp_path):
    provider = Provider(tmp_path / "files", small_product(1024, 1024))
    provider.add("a", Window.of(0, 1024, 0, 1024), holes=False, compress="NONE")
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        ingest(cube, [Chunk(15, 15)], source_of(provider, service))
        sizes = []
        for request in service.files.requests:
            if request.method == "GET":
                first, last = request.headers["Range"].removeprefix("bytes=").split("-")
                sizes.append(int(last) - int(first) + 1)
    # One tile of 128 × 128 pixels of each file, between its first 128 KiB, which hold the directories and are read
    # twice, and four bytes that tell whether it is still the same.
    first, second, mask, dem, *heads = sorted(sizes)
    assert (first, second, *heads) == (4, 4, 131072, 131072, 131072, 131072)
    assert 0 <= mask - 128 * 128 < 4096  # rounded up to what GDAL asks for at least
    assert 0 <= dem - 128 * 128 * 4 < 4096
