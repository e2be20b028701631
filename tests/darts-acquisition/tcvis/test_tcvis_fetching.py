"""TCVIS fetched through a stand-in for Earth Engine, against plain mosaics of the images that it serves."""

import dataclasses
import json

import ee
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import support.earthengine_server
from darts_acquisition import (
    Chunk,
    ChunkState,
    Datacube,
    LoginError,
    RetryPolicy,
    ServiceError,
    Window,
    download_tcvis,
    estimate_tcvis,
    load_tcvis,
    tcvis_product,
    verify_cube,
)
from darts_acquisition.auxiliary.tcvis import TCVISSource
from darts_acquisition.cube.areas import product_windows
from darts_acquisition.cube.ingest import ingest
from support.earthengine_server import MOST_BYTES, serve_earth_engine
from support.lanes import cases, mostly_slow
from support.service_faults import TRANSIENT
from support.tcvis_fetching import (
    BANDS,
    WHOLE,
    assert_equals_mosaic,
    image,
    mosaic,
    settings_for,
    small_product,
    windows,
)


def all_chunks(cube: Datacube) -> list[Chunk]:
    return [Chunk(int(row), int(col)) for row, col in np.ndindex(cube.states(cube.geobox).shape)]


@settings(max_examples=cases(2))
@given(places=st.lists(windows, min_size=1, max_size=3))
def test_what_is_fetched_equals_the_mosaic(tmp_path_factory, places):
    product = small_product()
    images = [(window, image(product, window, seed, masked=0.5)) for seed, window in enumerate(places)]
    cube = Datacube.create(tmp_path_factory.mktemp("cubes") / "cube", product)
    with serve_earth_engine([each for _, each in images]) as server:
        report = ingest(cube, all_chunks(cube), TCVISSource(product, settings_for(server)))
    assert_equals_mosaic(cube, images)
    truth = mosaic(images, product.geobox.shape)
    states = cube.states(cube.geobox)
    for chunk in all_chunks(cube):
        part = cube.window(cube.chunk_geobox(chunk))
        has_data = any(values[part].any() for values in truth.values())
        assert states[chunk] == (ChunkState.FILLED if has_data else ChunkState.EMPTY), chunk
    assert (report.filled, report.empty) == ((states == 1).sum(), (states == 2).sum())


def test_where_no_image_is_no_pixel_is_asked_for(server, cube, images, product):
    ingest(cube, all_chunks(cube), TCVISSource(product, settings_for(server)))
    asked = [request.json["grid"]["affineTransform"] for request in server.requests if "computePixels" in request.path]
    corners = {(round(each["translateX"], 9), round(each["translateY"], 9)) for each in asked}
    reached = set()
    for chunk in all_chunks(cube):
        part = cube.window(cube.chunk_geobox(chunk))
        if any(part.intersection(window) for window, _ in images):
            box = cube.geobox[part].boundingbox
            reached.add((round(box.left, 9), round(box.top, 9)))
    assert corners == reached
    assert len(asked) == len(reached) < len(all_chunks(cube))


def test_nothing_is_fetched_twice_and_requests_are_bounded(server, cube, product):
    server.inject(path="*computePixels", times=1000, delay_s=0.03)
    told = []
    source = TCVISSource(product, settings_for(server))
    ingest(cube, all_chunks(cube), source, lambda *at: told.append(at))
    assert told == [(number, 20) for number in range(1, 21)]
    assert server.most_at_once == 3
    before = len(server.requests)
    ingest(cube, cube.missing(WHOLE), source)
    assert len(server.requests) == before


@pytest.mark.slow
def test_a_whole_chunk_of_the_real_grid_in_one_request(tmp_path, monkeypatch):
    """A chunk of 3600 × 3600 pixels stays below what Earth Engine computes at once."""
    product = tcvis_product()
    tile = GeoBox((251, 251), Affine(10, 0, 470_890, 0, -10, 7_550_020), "EPSG:32608")
    (window,) = product_windows(product, tile, 2)
    wider = Window.of(window.rows.start - 9, window.rows.stop + 9, window.cols.start - 9, window.cols.stop + 9)
    trends = image(product, wider, 3)
    with serve_earth_engine([trends]) as server:
        chosen = settings_for(server)
        estimate = estimate_tcvis(tile, tmp_path / "cube")
        assert (estimate.missing_chunks, estimate.megabytes) == (1, 39)
        assert server.requests == []
        assert not (tmp_path / "cube").exists()
        ds = load_tcvis(tile, tmp_path / "cube", settings=chosen)
        (request,) = [each for each in server.requests if "computePixels" in each.path]
        assert request.json["grid"]["dimensions"] == {"width": 3600, "height": 3600}
        before = len(server.requests)
        assert download_tcvis(tile, tmp_path / "cube", settings=chosen).filled == 0
        assert ds.identical(load_tcvis(tile, tmp_path / "cube", settings=chosen))
        assert len(server.requests) == before
    assert ds.identical(load_tcvis(tile, tmp_path / "cube", offline=True))
    for name, band in BANDS.items():
        expected = trends.bands[band].filled(0)[window.relative_to(wider)]
        np.testing.assert_array_equal(ds[name], expected)
    assert 3 * product.chunk_px**2 < MOST_BYTES


def test_a_request_beyond_the_limit_is_reported(server, cube, product, monkeypatch):
    monkeypatch.setattr(support.earthengine_server, "MOST_BYTES", 3 * 64 * 64 - 1)
    with pytest.raises(ServiceError, match=r"Total request size \(12288 bytes\) must be less") as caught:
        ingest(cube, [Chunk(1, 1), Chunk(0, 1)], TCVISSource(product, settings_for(server)))
    assert "2 of 2 chunks" in str(caught.value)
    assert cube.known() == {}


# Faults


FAULTS = {name: fault for name, fault in TRANSIENT.items() if name != "longer than announced"} | {
    "slow": {"delay_s": 0.6}
}


@pytest.mark.parametrize(
    ("where", "name"),
    mostly_slow(
        [
            *(("*computePixels", name) for name in FAULTS),
            *(("*value:compute", name) for name in ("too many requests", "unavailable", "reset in the middle", "slow")),
        ],
        lambda case: case[1] == "reset in the middle" or case[1].endswith("with a time"),
    ),
)
def test_what_passes_leaves_no_trace(server, cube, images, product, where, name):
    fault = dict(FAULTS[name])
    if where == "*value:compute" and {"reset_after", "truncate_to"} & fault.keys():
        fault = {key: min(value, 5) for key, value in fault.items()}  # the answer is a number
    for after in (0, 1):
        server.inject(path=where, times=2, after=after, **fault)
    patient = RetryPolicy(attempts=5, sleep=lambda seconds: None)  # all four faults may strike one request
    chosen = settings_for(server, timeout_s=0.25 if name == "slow" else 5, parallel=2, retry=patient)
    ingest(cube, [Chunk(0, 0), Chunk(1, 1), Chunk(1, 2)], TCVISSource(product, chosen))
    assert_equals_mosaic(cube, images, Window.of(64, 128, 64, 192))
    check = verify_cube(cube.path)
    assert (check.checked, check.damaged) == (3, {})


def test_the_time_that_the_service_asks_for_is_waited_for(server, cube, product):
    """One request is told to wait; the whole process waits that long, once, and nothing else waits."""
    now = [0.0]
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    server.inject(path="*computePixels", status=429, retry_after="30")
    chosen = settings_for(server, parallel=1, retry=RetryPolicy(sleep=sleep, clock=lambda: now[0]))
    ingest(cube, [Chunk(0, 0), Chunk(1, 1)], TCVISSource(product, chosen))
    assert len(waits) == 1
    assert 30 <= waits[0] <= 31


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ({"status": 401}, LoginError, r"Earth Engine refuses the login .*renew it with `earthengine authenticate`"),
        ({"status": 403}, LoginError, r"Earth Engine refuses the login .*the project \(ee_project\) may use"),
        ({"status": 503}, ServiceError, "HTTP status 503, Service Unavailable, after 4 attempts"),
        ({"body": b"<html>maintenance</html>"}, ServiceError, "pixels are incomplete|after 4 attempts"),
    ],
)
def test_what_lasts_is_reported_and_the_rest_is_kept(server, cube, images, product, fault, error, message):
    source = TCVISSource(product, settings_for(server, parallel=1))
    injected = server.inject(path="*computePixels", after=2, times=1000, **fault)
    chunks = [Chunk(0, 0), Chunk(1, 1), Chunk(1, 2), Chunk(2, 2)]
    with pytest.raises(error, match=message) as caught:
        ingest(cube, chunks, source)
    assert "\n" not in str(caught.value)
    assert cube.missing(WHOLE)[:1] == [Chunk(0, 1)]
    assert set(cube.known()) == set(chunks[:2])
    assert not verify_cube(cube.path).damaged
    injected.times = 0
    ingest(cube, chunks[2:], source)
    assert_equals_mosaic(cube, images, Window.of(64, 128, 64, 192))


def test_a_service_that_is_down_is_asked_as_often_as_the_policy_says(server, cube, images, product):
    """By the first chunk that needs it, and not once more by each of those that wait for the same."""
    ee.Reset()
    down = server.inject(status=503, times=1000)
    source = TCVISSource(product, settings_for(server, parallel=8, retry=RetryPolicy(attempts=5, first_wait_s=0.05)))
    with pytest.raises(ServiceError, match=r"HTTP status 503, .* after 5 attempts"):
        ingest(cube, all_chunks(cube)[:8], source)
    assert 5 <= len(server.requests) <= 7
    down.times = 0
    ingest(cube, [Chunk(1, 1)], source)
    assert_equals_mosaic(cube, images, Window.of(64, 128, 64, 128))


@pytest.mark.parametrize("empty", [True, False])
def test_a_collection_without_images_is_not_taken_for_no_data(cube, product, empty):
    collections = (product.collection,) if empty else ()
    message = "is empty" if empty else "not found"
    with serve_earth_engine([], collections) as server, pytest.raises(ServiceError, match=message):
        ingest(cube, [Chunk(0, 0)], TCVISSource(product, settings_for(server)))
    assert cube.known() == {}


def test_pixels_of_another_shape_are_no_data(server, cube, product, monkeypatch):
    respond = server.respond

    def smaller(request):
        if request.path.endswith("computePixels"):
            body = request.json
            body["grid"]["dimensions"]["width"] -= 1
            request = dataclasses.replace(request, body=json.dumps(body).encode())
        return respond(request)

    monkeypatch.setattr(server, "respond", smaller)
    with pytest.raises(ServiceError, match=r"of shape \(64, 63\); expected .* of shape \(64, 64\)"):
        ingest(cube, [Chunk(1, 1)], TCVISSource(product, settings_for(server)))
    assert cube.known() == {}
