"""ArcticDEM fetched from a STAC API and GeoTIFFs on this machine, against mosaics that rasterio makes of the files."""

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from darts_acquisition import (
    Chunk,
    ChunkState,
    Datacube,
    LoginError,
    RetryPolicy,
    S3Settings,
    ServiceError,
    Window,
    arcticdem_product,
    download_arcticdem,
    estimate_arcticdem,
    load_arcticdem,
    verify_cube,
)
from darts_acquisition.auxiliary.arcticdem import ArcticDEMSource
from darts_acquisition.cube.areas import parts_within
from darts_acquisition.cube.grid import chunk_window
from darts_acquisition.cube.ingest import fill
from support.arcticdem import NODATA, Provider, small_product
from support.lanes import mostly_slow
from support.s3_server import S3Server, environment_of, serve_s3

WHOLE = Window.of(0, 300, 0, 400)
QUICK = RetryPolicy(attempts=5, first_wait_s=0.05)
"""Waits that can be stopped, unlike those of a stand-in for the clock."""


def all_chunks(cube: Datacube) -> list[Chunk]:
    return [Chunk(int(row), int(col)) for row, col in np.ndindex(cube.states(cube.geobox).shape)]


def assert_equals_mosaic(cube: Datacube, provider: Provider, window: Window = WHOLE) -> None:
    read = cube.read(window)
    for name, expected in provider.truth(window).items():
        np.testing.assert_array_equal(read[name].values, expected, err_msg=name)


@pytest.fixture
def provider(tmp_path):
    provider = Provider(tmp_path / "files", small_product())
    provider.add("a", Window.of(20, 150, 30, 200), seed=1)
    provider.add("b", Window.of(20, 170, 190, 330), seed=2)
    provider.add("c", Window.of(140, 260, 30, 195), seed=3)
    return provider


@pytest.fixture
def service(provider):
    with provider.serving() as service:
        yield service


@pytest.fixture
def cube(tmp_path, provider):
    return Datacube.create(tmp_path / "cube", provider.product)


def source_of(provider: Provider, service, **limits) -> ArcticDEMSource:
    return ArcticDEMSource(provider.product, service.settings(**limits))


# Equal to the mosaic


windows = st.builds(
    lambda top, left, height, width: Window.of(top, top + height, left, left + width),
    st.integers(-40, 140),
    st.integers(-40, 180),
    st.integers(1, 150),
    st.integers(1, 150),
)


@settings(max_examples=4)
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
        fill(cube, chunks[:first], source)
        for chunk in chunks[:first]:
            assert_chunk_equals_mosaic(cube, provider, chunk)
        fill(cube, chunks[first:], source)
    assert_equals_mosaic(cube, provider, whole)
    truth = provider.truth(whole)
    has_data = ~np.isnan(truth["dem"]) | (truth["arcticdem_data_mask"] > 0)
    states = cube.states(cube.geobox)
    for chunk, part in zip(all_chunks(cube), parts_within(whole, all_chunks(cube), cube.product), strict=True):
        expected = ChunkState.FILLED if has_data[part].any() else ChunkState.EMPTY
        assert states[chunk] == expected, chunk


def assert_chunk_equals_mosaic(cube: Datacube, provider: Provider, chunk: Chunk) -> None:
    assert_equals_mosaic(cube, provider, chunk_window(chunk, cube.product.chunk_px, cube.geobox))


def test_a_part_of_a_chunk_is_completed_with_its_neighbour(provider, service, cube):
    """What somebody wrote into a part of a chunk is no chunk; fetching makes it whole."""
    part = Window.of(60, 100, 60, 100)
    ones = {"dem": np.ones(part.shape, "float32"), "arcticdem_data_mask": np.ones(part.shape, "uint8")}
    cube.write(part, ones)
    assert len(cube.missing(part)) == 4
    source = source_of(provider, service)
    fill(cube, [Chunk(0, 0), Chunk(0, 1)], source)
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 128))
    assert cube.missing(part) == [Chunk(1, 0), Chunk(1, 1)]
    fill(cube, cube.missing(part), source)
    assert_equals_mosaic(cube, provider, Window.of(0, 128, 0, 128))


@pytest.mark.parametrize(
    "options",
    mostly_slow(
        [{"bigtiff": "YES"}, {"compress": "DEFLATE"}, {"compress": "ZSTD", "sparse_ok": True}, {"overviews": "NONE"}],
        lambda options: "bigtiff" in options or "sparse_ok" in options,
    ),
    ids=str,
)
def test_files_may_be_of_any_kind(tmp_path, options):
    provider = Provider(tmp_path / "files", small_product())
    provider.add("a", Window.of(-10, 140, -300, 350), seed=1, **options)
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        fill(cube, all_chunks(cube)[:14], source_of(provider, service))
    assert_equals_mosaic(cube, provider, Window.of(0, 128, 0, 400))


@pytest.mark.parametrize("tag", [0, None, 255])
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
        fill(cube, all_chunks(cube), source_of(provider, service))
    assert_equals_mosaic(cube, tagged, Window.of(0, 128, 0, 128))


def test_pixels_beside_the_grid_go_to_their_nearest_ones(tmp_path):
    provider = Provider(tmp_path / "files", small_product())
    provider.add("a", Window.of(0, 64, 0, 64), shift_px=0.3, holes=False)
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        fill(cube, [Chunk(0, 0)], source_of(provider, service))
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
        fill(cube, all_chunks(cube), source_of(provider, service))
    assert_equals_mosaic(cube, provider, Window.of(0, 128, 0, 128))


# Only what is missing


def test_nothing_is_fetched_twice(provider, service, cube):
    report = fill(cube, all_chunks(cube), source_of(provider, service))
    assert report.filled + report.empty == len(all_chunks(cube))
    assert report.empty > 0
    before = service.requests()
    assert cube.missing(WHOLE) == []
    assert fill(cube, cube.missing(WHOLE), source_of(provider, service)).filled == 0
    assert service.requests() == before


def test_requests_are_bounded_and_progress_is_told(provider, service, cube):
    for file in ("*_dem.tif", "*_datamask.tif"):
        service.files.inject(path=file, times=1000, delay_s=0.01)
    told = []
    chunks = all_chunks(cube)[:12]
    fill(cube, chunks, source_of(provider, service, parallel=3), lambda done, total: told.append((done, total)))
    assert service.files.most_at_once == 3
    assert service.api.most_at_once <= 3
    assert told == [(number, 12) for number in range(1, 13)]


def test_only_the_bytes_of_the_window_are_fetched(tmp_path):
    provider = Provider(tmp_path / "files", small_product(1024, 1024))
    provider.add("a", Window.of(0, 1024, 0, 1024), holes=False, compress="NONE")
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        fill(cube, [Chunk(15, 15)], source_of(provider, service))
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


# Faults


FAULTS = {
    "too many requests": {"status": 429},
    "too many requests, with a time": {"status": 429, "retry_after": "7"},
    "unavailable": {"status": 503},
    "server error": {"status": 500},
    "reset in the middle": {"reset_after": 700},
    "reset at once": {"reset_after": 0},
    "ends early": {"truncate_to": 700},
    "longer than announced": {"announce": 600},
    "shorter than announced": {"announce": 10**7},
    "slow": {"delay_s": 0.5},
}


USUAL = ("too many requests, with a time", "unavailable", "reset in the middle", "ends early")
EVERYWHERE = ("*_dem.tif", "*_datamask.tif", "/search", "/", "/collections/*")
STRUCK = dict.fromkeys(FAULTS, EVERYWHERE[:2]) | {
    "too many requests, with a time": EVERYWHERE,
    "unavailable": EVERYWHERE,
    "reset in the middle": EVERYWHERE,
    "ends early": EVERYWHERE,
    "slow": ("*_dem.tif", "/search"),
}


@pytest.mark.parametrize("name", mostly_slow(FAULTS, USUAL.__contains__))
def test_what_passes_leaves_no_trace(provider, service, cube, name):
    for where in STRUCK[name]:
        server = service.files if where.endswith(".tif") else service.api
        for after in (0, 2):
            server.inject(path=where, times=2, after=after, **FAULTS[name])
    patient = RetryPolicy(attempts=5, sleep=lambda seconds: None)  # all four faults may strike one request
    fill(cube, all_chunks(cube)[:4], source_of(provider, service, timeout_s=0.2, parallel=2, retry=patient))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 256))
    check = verify_cube(cube.path)
    assert check.checked > 0
    assert not check.damaged


class Clock:
    """Stands in for time: sleeping moves it on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("where", ["*_dem.tif", "/search"])
def test_the_time_that_a_service_asks_for_is_waited_for(provider, service, cube, where):
    """Each request that is told to wait does so once, and those after it do not wait again."""
    clock = Clock()
    server = service.files if where.endswith(".tif") else service.api
    server.inject(path=where, status=429, retry_after="40", after=1)
    server.inject(path=where, status=503, retry_after="7")
    patient = RetryPolicy(sleep=clock.sleep, clock=lambda: clock.now)
    fill(cube, all_chunks(cube)[:9], source_of(provider, service, parallel=1, retry=patient))
    short, long = sorted(clock.naps)
    assert 7 <= short <= 8
    assert 40 <= long <= 41
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))


def test_a_service_that_never_answers_is_given_up(provider, service, cube):
    service.files.inject(path="*_dem.tif", delay_s=0.5, times=100)
    few = RetryPolicy(attempts=2, sleep=lambda seconds: None)
    with pytest.raises(ServiceError, match=r"connection refused, lost or too slow .* after 2 attempts") as caught:
        fill(cube, [Chunk(1, 1)], source_of(provider, service, timeout_s=0.1, retry=few))
    assert caught.value.failure.transient
    assert cube.known() == {}


def test_an_api_that_is_down_is_asked_as_often_as_the_policy_says(provider, service, cube):
    """By the first chunk that needs it, and not once more by each of those that wait for the same."""
    service.api.inject(status=503, times=1000)
    with pytest.raises(ServiceError, match=r"HTTP status 503, .* after 5 attempts"):
        fill(cube, all_chunks(cube)[:8], source_of(provider, service, parallel=8, retry=QUICK))
    assert 5 <= service.requests() <= 7
    service.api.faults.clear()
    fill(cube, all_chunks(cube)[:7], source_of(provider, service, parallel=8, retry=QUICK))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))


def test_a_source_whose_api_was_down_tries_anew(provider, service, cube):
    source = source_of(provider, service, parallel=8, retry=QUICK)
    down = service.api.inject(status=503, times=1000)
    with pytest.raises(ServiceError, match="HTTP status 503"):
        fill(cube, all_chunks(cube)[:8], source)
    down.times = 0
    fill(cube, all_chunks(cube)[:7], source)
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))


LASTING = {
    "truncated": ({"cut": 0.6}, "damaged or cut off"),
    "no GeoTIFF": ({"body": b"<html>maintenance</html>" * 20000}, "no GeoTIFF"),
    "damaged": ({"flip": True}, "damaged or cut off"),
    "absent": ({"status": 404}, "HTTP status 404"),
    "forbidden": ({"status": 403}, "HTTP status 403"),
    "down": ({"status": 503}, "HTTP status 503, Service Unavailable, after 4 attempts"),
    "served whole": ({"whole": True}, "served whole only"),
}


@pytest.mark.parametrize("name", mostly_slow(LASTING, ("truncated", "absent", "down", "served whole").__contains__))
def test_what_lasts_is_reported_and_the_rest_is_kept(provider, service, cube, name):
    fault, message = LASTING[name]
    """Tile b is out of order. What does not need it is complete; what needs it is missing, and comes later."""
    file = provider.folder / "b_dem.tif"
    intact = file.read_bytes()
    if "cut" in fault:
        file.write_bytes(intact[: int(len(intact) * fault["cut"])])
    elif "flip" in fault:
        damaged = bytearray(intact)
        damaged[len(intact) // 2 :] = b"\xff" * (len(intact) - len(intact) // 2)
        file.write_bytes(damaged)
    elif "body" in fault:
        file.write_bytes(fault["body"])
    elif "whole" in fault:
        injected = service.files.inject(path="/b_dem.tif", status=200, body=intact, times=1000)
    else:
        injected = service.files.inject(path="/b_dem.tif", times=1000, **fault)
    chunks = [Chunk(0, 0), Chunk(0, 1), Chunk(0, 5), Chunk(3, 0), Chunk(3, 1)]
    with pytest.raises(ServiceError, match=message) as caught:
        fill(cube, chunks, source_of(provider, service, parallel=1))
    assert "b_dem.tif" in str(caught.value)
    missing = cube.missing(WHOLE)
    assert Chunk(0, 5) in missing
    if fault.get("status") != 503:  # a service that is down ends it at once
        # Of a file whose directory cannot be read nobody knows which chunks it reaches, so none around it is complete.
        lost = 1 if {"cut", "flip"} & fault.keys() else 5
        assert f"{lost} of 5 chunks" in str(caught.value)
        assert len(set(chunks) & set(missing)) == lost
    assert not verify_cube(cube.path).damaged
    file.write_bytes(intact)
    if {"status", "whole"} & fault.keys():
        injected.times = 0
    fill(cube, [chunk for chunk in chunks if chunk in missing], source_of(provider, service))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 128))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 320, 384))


def test_a_file_that_has_changed_is_read_as_it_is_now(provider, service, cube):
    """Also its directory, which was known from an earlier chunk, and of which GDAL keeps parts."""
    source = source_of(provider, service)
    fill(cube, [Chunk(0, 0)], source)
    provider.items.clear()
    provider.add("a", Window.of(20, 150, 30, 200), seed=99, compress="ZSTD")
    fill(cube, [Chunk(1, 1)], source)
    assert_chunk_equals_mosaic(cube, provider, Chunk(1, 1))


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_a_file_that_changes_all_the_time_is_no_data(provider, service, cube, header):
    """Each answer names another version, with the same length."""
    respond, numbers = service.files.respond, itertools.count()

    def other_version(request):
        answer = respond(request)
        return dataclasses.replace(answer, headers=answer.headers | {header: f'"{next(numbers)}"'})

    service.files.respond = other_version
    with pytest.raises(ServiceError, match=r"a_d\w+\.tif has changed while it was read, after 4 attempts"):
        fill(cube, [Chunk(0, 0)], source_of(provider, service))
    assert cube.known() == {}


def test_a_wrong_collection_is_not_taken_for_no_data(provider, service, cube):
    settings = dataclasses.replace(service.settings(), collections={32: "arcticdem-mosaics-v9.9-32m"})
    with pytest.raises(ServiceError, match=r"has no collection arcticdem-mosaics-v9\.9-32m"):
        fill(cube, [Chunk(0, 0)], ArcticDEMSource(provider.product, settings))
    assert cube.known() == {}


def test_an_address_without_an_api_is_not_taken_for_no_data(provider, service, cube):
    settings = dataclasses.replace(service.settings(), stac_url=service.files.url)
    with pytest.raises(ServiceError, match="HTTP status 404"):
        fill(cube, [Chunk(0, 0)], ArcticDEMSource(provider.product, settings))
    assert cube.known() == {}


def test_items_that_do_not_fit_are_reported(tmp_path):
    provider = Provider(tmp_path / "files", small_product())
    provider.add("a", Window.of(0, 64, 0, 64), crs="EPSG:3995")
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        with pytest.raises(ServiceError, match=r"a_d\w+\.tif has EPSG:3995 .* expected EPSG:3413"):
            fill(cube, [Chunk(0, 0)], source_of(provider, service))
        del provider.items[0]["assets"]["datamask"]
        with pytest.raises(ServiceError, match=r"EPSG:3995|no asset 'datamask', only dem"):
            fill(cube, [Chunk(0, 0)], source_of(provider, service))
    assert cube.known() == {}


def test_credentials_do_not_belong_into_addresses(service):
    with pytest.raises(ValueError, match="netrc") as caught:
        dataclasses.replace(service.settings(), stac_url="https://me:secret@example.org/")
    assert "secret" not in str(caught.value)


# Object storage


def move_to(storage: S3Server, provider: Provider, **options: str) -> None:
    """Put the files into a bucket, and let the items name them there."""
    bucket = storage.bucket("tiles")
    for item in provider.items:
        for asset, content in item["assets"].items():
            name = f"{item['id']}_{asset}.tif"
            storage.client().upload_file(str(provider.folder / name), bucket, name, ExtraArgs=options)
            content["href"] = f"s3://{bucket}/{name}"


@pytest.mark.slow
def test_files_in_object_storage_with_keys(provider, service, cube):
    with serve_s3() as storage, environment_of(storage):
        move_to(storage, provider)
        settings = dataclasses.replace(service.settings(), s3=S3Settings())
        fill(cube, all_chunks(cube)[:7], ArcticDEMSource(provider.product, settings))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))
    assert service.files.requests == []


def test_public_files_in_object_storage_need_no_keys(provider, service, cube):
    """ArcticDEM's bucket is public, so by default no keys are looked for and none are sent."""
    with serve_s3() as storage, environment_of(storage, keys=False):
        move_to(storage, provider, ACL="public-read")
        fill(cube, all_chunks(cube)[:9], source_of(provider, service))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))


def test_files_in_object_storage_that_are_not_public_are_refused(provider, service, cube):
    with serve_s3() as storage, environment_of(storage):
        move_to(storage, provider)
        with pytest.raises(ServiceError, match=r"s3://tiles/\w+\.tif: HTTP status 403, Forbidden"):
            fill(cube, [Chunk(0, 0)], source_of(provider, service))
    assert cube.known() == {}


def test_object_storage_without_keys(provider, service, cube):
    with serve_s3() as storage, environment_of(storage, keys=False):
        for item in provider.items:
            item["assets"]["dem"]["href"] = "s3://bucket/key"
        settings = dataclasses.replace(service.settings(), s3=S3Settings(region="us-east-1"))
        with pytest.raises(LoginError, match=r"no keys for http.*AWS_PROFILE"):
            fill(cube, [Chunk(0, 0)], ArcticDEMSource(provider.product, settings))


# The public functions, with the real grid


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterable[tuple[Provider, object]]:
    """One tile of the 32 m mosaic, which lies in one of its chunks."""
    product = arcticdem_product(32)
    provider = Provider(tmp_path_factory.mktemp("real") / "files", product)
    provider.add("31_32_32m_v4.1", Window.of(108_200, 108_600, 54_300, 54_900), seed=5)
    with provider.serving() as service:
        yield provider, service


def test_load_creates_and_fills_the_cube(real, tmp_path):
    provider, service = real
    window = Window.of(108_250, 108_300, 54_350, 54_420)
    tile = provider.product.geobox[
        window.rows.start + 5 : window.rows.stop - 5, window.cols.start + 5 : window.cols.stop - 5
    ]
    told = []
    ds = load_arcticdem(
        tile, tmp_path / "new" / "cube", 32, buffer=5, settings=service.settings(), progress=lambda *at: told.append(at)
    )
    assert told == [(1, 1)]
    truth = provider.truth(window)
    np.testing.assert_array_equal(ds.dem, truth["dem"])
    np.testing.assert_array_equal(ds.arcticdem_data_mask, truth["arcticdem_data_mask"])
    before = service.requests()
    again = load_arcticdem(tile, tmp_path / "new" / "cube", 32, buffer=5, settings=service.settings())
    offline = load_arcticdem(tile, tmp_path / "new" / "cube", 32, buffer=5, offline=True)
    assert service.requests() == before
    assert ds.identical(again)
    assert ds.identical(offline)


def test_download_says_before_what_it_takes(real, tmp_path):
    provider, service = real
    area = provider.product.geobox[108_250:108_300, 54_350:54_420].extent
    estimate = estimate_arcticdem(area, tmp_path / "cube", 32)
    assert (estimate.area_chunks, estimate.missing_chunks, estimate.megabytes) == (1, 1, 33)
    assert str(estimate) == "1 of 1 chunks are missing, at most about 33 MB to download"
    assert not (tmp_path / "cube").exists()
    report = download_arcticdem(area, tmp_path / "cube", 32, settings=service.settings())
    assert (report.filled, report.empty) == (1, 0)
    assert estimate_arcticdem(area, tmp_path / "cube", 32).megabytes == 0
    assert download_arcticdem(area, tmp_path / "cube", 32, settings=service.settings()).filled == 0


def test_the_environment_may_name_another_service(real, tmp_path, monkeypatch):
    provider, service = real
    monkeypatch.setenv("DARTS_ARCTICDEM_STAC_URL", service.api.url)
    ds = load_arcticdem(provider.product.geobox[108_250:108_260, 54_350:54_360], tmp_path / "cube", 32)
    assert ds.dem.shape == (10, 10)


def test_nodata_of_the_provider_is_nan(real, tmp_path):
    provider, service = real
    ds = load_arcticdem(
        provider.product.geobox[108_190:108_210, 54_290:54_310], tmp_path / "c", 32, settings=service.settings()
    )
    assert np.isnan(ds.dem.values).any()
    assert not (ds.dem.values == NODATA).any()
