"""Layers of remote GeoTIFFs against mosaics that numpy makes pixel by pixel."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from darts_acquisition import RequestLimits, RetryPolicy, S3Settings, ServiceError
from darts_acquisition.io.raster import Layer, RasterReader
from darts_acquisition.io.store import Store
from support.file_server import serve_files
from support.lanes import cases
from support.local_server import Answer, LocalServer

TARGET = GeoBox((40, 50), Affine(32, 0, -2_400_000, 0, -32, 200_000), "EPSG:3413")
LIMITS = RequestLimits(parallel=3, timeout_s=5, retry=RetryPolicy(attempts=3, sleep=lambda seconds: None))


def reader(limits=LIMITS):
    return RasterReader(Store(limits, S3Settings(anonymous=True)))


def write(file: Path, values, col: float, row: float, nodata=None, crs="EPSG:3413", size=32.0, **options):
    """Write a file whose first pixel lies some columns and rows from the target's."""
    affine = TARGET.affine * Affine.translation(col, row)
    affine = Affine(size, 0, affine.c, 0, -size, affine.f)
    profile = {"count": 1, "dtype": values.dtype, "height": values.shape[0], "width": values.shape[1]}
    with rasterio.open(
        file, "w", driver="COG", crs=crs, transform=affine, nodata=nodata, blocksize=128, **profile, **options
    ) as target:
        target.write(values, 1)


def mosaic(files, dtype, nodata):
    """Give each pixel of the target the first value that is one, of the source pixel that holds its centre."""
    result = np.full(TARGET.shape, nodata, dtype)
    for row, col in np.ndindex(*TARGET.shape):
        for values, left, top, tag in files:
            y, x = int(np.floor(row + 0.5 - top)), int(np.floor(col + 0.5 - left))
            if not (0 <= y < values.shape[0] and 0 <= x < values.shape[1]):
                continue
            value = values[y, x]
            if value != tag and value == value and value != nodata:
                result[row, col] = value
                break
    return result


shifts = st.sampled_from([0.0, 0.0, 0.3, -0.3, 0.45, -0.45])
places = st.tuples(st.integers(-20, 45), st.integers(-20, 35), shifts, shifts, st.integers(3, 40), st.integers(3, 40))


@settings(max_examples=cases(6), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    where=st.lists(places, min_size=1, max_size=4),
    tags=st.lists(st.sampled_from([-9999.0, float("nan"), None, 7.0]), min_size=4, max_size=4),
)
def test_layers_equal_the_mosaic_pixel_by_pixel(tmp_path_factory, seed, where, tags):
    """Files overlap, miss the target, are shifted by parts of a pixel, name their values of no data or do not."""
    rng, folder, kept = np.random.default_rng(seed), tmp_path_factory.mktemp("files"), {"dem": [], "mask": []}
    uris = {"dem": [], "mask": []}
    with serve_files(folder) as server:
        for number, (col, row, right, down, height, width) in enumerate(where):
            dem = rng.choice([7.0, -9999.0, np.nan, 1.5, 2.5, 3.5], (height, width)).astype("float32")
            mask = rng.integers(0, 3, (height, width), dtype="uint8")
            for name, values, tag in (("dem", dem, tags[number]), ("mask", mask, (255, 0, 2, None)[number])):
                file = folder / f"{number}_{name}.tif"
                write(file, values, col + right, row + down, tag)
                uris[name].append(f"{server.url}/{file.name}")
                kept[name].append((values, col + right, row + down, tag))
        layers = {"dem": Layer(uris["dem"], "float32", float("nan")), "mask": Layer(uris["mask"], "uint8", 0)}
        found = reader().read(layers, TARGET)
    expected = {"dem": mosaic(kept["dem"], "float32", float("nan")), "mask": mosaic(kept["mask"], "uint8", 0)}
    if found is None:
        found = {name: np.full_like(values, np.nan if name == "dem" else 0) for name, values in expected.items()}
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.fixture
def server(tmp_path):
    with serve_files(tmp_path) as server:
        yield server


def layers_of(server, *names, dtype="float32", query=""):
    return {"dem": Layer([f"{server.url}/{name}{query}" for name in names], dtype, float("nan"))}


def ones(shape=(20, 20), dtype="float32"):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"crs": "EPSG:3995"}, r"a\.tif has EPSG:3995 and pixels of 32\.0 × -32\.0; expected EPSG:3413"),
        ({"size": 16.0}, r"a\.tif has EPSG:3413 and pixels of 16\.0 × -16\.0; expected EPSG:3413 and 32\.0"),
        ({"dtype": "int16"}, r"a\.tif holds 1 × int16; expected one band of float32"),
        ({"crs": None}, r"a\.tif names no CRS"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, server, made, message):
    dtype = made.pop("dtype", "float32")
    write(tmp_path / "a.tif", ones(dtype=dtype), 0, 0, **made)
    with pytest.raises(ServiceError, match=message):
        reader().read(layers_of(server, "a.tif"), TARGET)
    assert len(server.requests) == 3  # what does not fit is not asked for again


def test_a_virtual_raster_reads_no_other_file(tmp_path, server):
    """It would read files of this machine, and the network."""
    write(tmp_path / "secret.tif", ones(), 0, 0)
    vrt = (
        '<VRTDataset rasterXSize="20" rasterYSize="20"><SRS>EPSG:3413</SRS>'
        f"<GeoTransform>{', '.join(map(str, TARGET.affine.to_gdal()))}</GeoTransform>"
        '<VRTRasterBand dataType="Float32" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path / 'secret.tif'}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "a.tif").write_text(vrt)
    with pytest.raises(ServiceError, match=r"a\.tif is no GeoTIFF; it begins with b'<VRT'"):
        reader().read(layers_of(server, "a.tif"), TARGET)
    assert {request.path for request in server.requests} == {"/a.tif"}


def test_a_web_page_instead_of_a_file_is_named(tmp_path):
    page = Answer(b"<html>login</html>", 200, {"Content-Type": "text/html; charset=utf-8"})
    with LocalServer(lambda request: page).running() as server:
        with pytest.raises(ServiceError, match=r"a\.tif sends a web page, no data"):
            reader().read(layers_of(server, "a.tif"), TARGET)
        assert len(server.requests) == 1


SIGNED = "?sig=TOPSECRET&se=2030"


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"status": 403}, {"reset_after": 100}, {"cut_to": 3000}, {"body": b"II*\0" * 9000}, None],
    ids=str,
)
def test_a_signature_reaches_neither_log_nor_message(tmp_path, server, caplog, monkeypatch, fault):
    monkeypatch.setenv("CPL_DEBUG", "ON")
    write(tmp_path / "a.tif", np.random.default_rng(0).normal(size=(400, 400)).astype("float32"), 0, 0)
    for after in (0, 2) if fault else ():
        server.inject(times=99, after=after, **fault)
    with caplog.at_level(logging.DEBUG):
        if fault is None:
            assert reader().read(layers_of(server, "a.tif", query=SIGNED), TARGET) is not None
        else:
            with pytest.raises(ServiceError, match=r"a\.tif") as caught:
                reader().read(layers_of(server, "a.tif", query=SIGNED), TARGET)
            error = caught.value
            while error is not None:
                assert "TOPSECRET" not in f"{error!r} {error} {vars(error)}"
                error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert {request.query["sig"] for request in server.requests} == {"TOPSECRET"}
    assert caplog.records
    assert "TOPSECRET" not in caplog.text


def test_what_is_known_of_a_file_is_asked_for_once(tmp_path, server):
    """By many threads at once; afterwards each only asks whether the file is still the same, and for its pixels."""
    write(tmp_path / "a.tif", ones((40, 50)), 0, 0)
    shared, errors = reader(), []

    def work():
        try:
            shared.read(layers_of(server, "a.tif"), TARGET)
        except ServiceError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    heads = [request for request in server.requests if request.headers.get("Range") == "bytes=0-131071"]
    assert len(heads) == 1
    assert [request.method for request in server.requests].count("HEAD") == 1  # GDAL's, for the size
    asked = [request for request in server.requests if request.headers.get("Range") == "bytes=0-3"]
    assert 1 <= len(asked) <= 6


def test_no_retry_of_gdal_hides_behind_ours(tmp_path, server):
    write(tmp_path / "a.tif", np.random.default_rng(0).normal(size=(400, 400)).astype("float32"), 0, 0)
    one = RequestLimits(retry=RetryPolicy(attempts=1, sleep=lambda seconds: None))
    server.inject(after=2, times=99, status=503)
    with pytest.raises(ServiceError, match="HTTP status 503, Service Unavailable, after one attempt"):
        reader(one).read(layers_of(server, "a.tif"), TARGET)
    # Two that pass, what GDAL asks for within one read, and the one that finds out why.
    assert len(server.requests) <= 8
