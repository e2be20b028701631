"""Faults of the services of ArcticDEM: what passes leaves no trace, what lasts is reported."""

import dataclasses
import itertools

import pytest

from darts_acquisition import (
    Chunk,
    Datacube,
    RetryPolicy,
    ServiceError,
    Window,
    verify_cube,
)
from darts_acquisition.auxiliary.arcticdem import ArcticDEMSource
from darts_acquisition.cube.ingest import ingest
from support.arcticdem import Provider, small_product
from support.arcticdem_fetching import WHOLE, all_chunks, assert_chunk_equals_mosaic, assert_equals_mosaic, source_of
from support.lanes import mostly_slow
from support.service_faults import TRANSIENT

QUICK = RetryPolicy(attempts=5, first_wait_s=0.05)
"""Waits that can be stopped, unlike those of a stand-in for the clock."""


# Faults


USUAL = ("too many requests, with a time", "ends early")
EVERYWHERE = ("*_dem.tif", "*_datamask.tif", "/search", "/", "/collections/*")
STRUCK = dict.fromkeys(TRANSIENT, EVERYWHERE[:2]) | {
    "too many requests, with a time": EVERYWHERE,
    "unavailable": EVERYWHERE,
    "reset in the middle": EVERYWHERE,
    "ends early": EVERYWHERE,
    "slow": ("*_dem.tif", "/search"),
}


@pytest.mark.parametrize("name", mostly_slow(TRANSIENT, USUAL.__contains__))
def test_what_passes_leaves_no_trace(provider, service, cube, name):
    for where in STRUCK[name]:
        server = service.files if where.endswith(".tif") else service.api
        for after in (0, 2):
            server.inject(path=where, times=2, after=after, **TRANSIENT[name])
    patient = RetryPolicy(attempts=5, sleep=lambda seconds: None)  # all four faults may strike one request
    ingest(cube, all_chunks(cube)[:4], source_of(provider, service, timeout_s=0.2, parallel=2, retry=patient))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 256))
    check = verify_cube(cube.path)
    assert check.checked > 0
    assert not check.damaged


class Clock:
    """Stands in for time: sleeping moves it on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("where", mostly_slow(["*_dem.tif", "/search"], "/search".__eq__))
def test_the_time_that_a_service_asks_for_is_waited_for(provider, service, cube, where):
    """Each request that is told to wait does so once, and those after it do not wait again."""
    clock = Clock()
    server = service.files if where.endswith(".tif") else service.api
    server.inject(path=where, status=429, retry_after="40", after=1)
    server.inject(path=where, status=503, retry_after="7")
    patient = RetryPolicy(sleep=clock.sleep, clock=lambda: clock.now)
    ingest(cube, all_chunks(cube)[:9], source_of(provider, service, parallel=1, retry=patient))
    short, long = sorted(clock.waits)
    assert 7 <= short <= 8
    assert 40 <= long <= 41
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))


def test_a_service_that_never_answers_is_given_up(provider, service, cube):
    service.files.inject(path="*_dem.tif", delay_s=0.5, times=100)
    few = RetryPolicy(attempts=2, sleep=lambda seconds: None)
    with pytest.raises(ServiceError, match=r"connection refused, lost or too slow .* after 2 attempts") as caught:
        ingest(cube, [Chunk(1, 1)], source_of(provider, service, timeout_s=0.1, retry=few))
    assert caught.value.failure.transient
    assert cube.known() == {}


@pytest.mark.slow
def test_an_api_that_is_down_is_asked_as_often_as_the_policy_says(provider, service, cube):
    """By the first chunk that needs it, and not once more by each of those that wait for the same."""
    service.api.inject(status=503, times=1000)
    with pytest.raises(ServiceError, match=r"HTTP status 503, .* after 5 attempts"):
        ingest(cube, all_chunks(cube)[:8], source_of(provider, service, parallel=8, retry=QUICK))
    assert 5 <= service.requests() <= 7
    service.api.faults.clear()
    ingest(cube, all_chunks(cube)[:7], source_of(provider, service, parallel=8, retry=QUICK))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))


def test_a_source_whose_api_was_down_tries_anew(provider, service, cube):
    source = source_of(provider, service, parallel=8, retry=QUICK)
    down = service.api.inject(status=503, times=1000)
    with pytest.raises(ServiceError, match="HTTP status 503"):
        ingest(cube, all_chunks(cube)[:8], source)
    down.times = 0
    ingest(cube, all_chunks(cube)[:7], source)
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


@pytest.mark.parametrize("name", mostly_slow(LASTING, ("truncated", "down").__contains__))
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
        ingest(cube, chunks, source_of(provider, service, parallel=1))
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
    ingest(cube, [chunk for chunk in chunks if chunk in missing], source_of(provider, service))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 128))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 320, 384))


def test_a_file_that_has_changed_is_read_as_it_is_now(provider, service, cube):
    """Also its directory, which was known from an earlier chunk, and of which GDAL keeps parts."""
    source = source_of(provider, service)
    ingest(cube, [Chunk(0, 0)], source)
    provider.items.clear()
    provider.add("a", Window.of(20, 150, 30, 200), seed=99, compress="ZSTD")
    ingest(cube, [Chunk(1, 1)], source)
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
        ingest(cube, [Chunk(0, 0)], source_of(provider, service))
    assert cube.known() == {}


def test_a_wrong_collection_is_not_taken_for_no_data(provider, service, cube):
    settings = dataclasses.replace(service.settings(), collections={32: "arcticdem-mosaics-v9.9-32m"})
    with pytest.raises(ServiceError, match=r"has no collection arcticdem-mosaics-v9\.9-32m"):
        ingest(cube, [Chunk(0, 0)], ArcticDEMSource(provider.product, settings))
    assert cube.known() == {}


def test_an_address_without_an_api_is_not_taken_for_no_data(provider, service, cube):
    settings = dataclasses.replace(service.settings(), stac_url=service.files.url)
    with pytest.raises(ServiceError, match="HTTP status 404"):
        ingest(cube, [Chunk(0, 0)], ArcticDEMSource(provider.product, settings))
    assert cube.known() == {}


def test_items_that_do_not_fit_are_reported(tmp_path):
    provider = Provider(tmp_path / "files", small_product())
    provider.add("a", Window.of(0, 64, 0, 64), crs="EPSG:3995")
    cube = Datacube.create(tmp_path / "cube", provider.product)
    with provider.serving() as service:
        with pytest.raises(ServiceError, match=r"a_d\w+\.tif has EPSG:3995 .* expected EPSG:3413"):
            ingest(cube, [Chunk(0, 0)], source_of(provider, service))
        del provider.items[0]["assets"]["datamask"]
        with pytest.raises(ServiceError, match=r"EPSG:3995|no asset 'datamask', only dem"):
            ingest(cube, [Chunk(0, 0)], source_of(provider, service))
    assert cube.known() == {}


def test_credentials_do_not_belong_into_addresses(service):
    with pytest.raises(ValueError, match="netrc") as caught:
        dataclasses.replace(service.settings(), stac_url="https://me:secret@example.org/")
    assert "secret" not in str(caught.value)
