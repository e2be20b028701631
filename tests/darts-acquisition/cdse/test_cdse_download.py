"""Downloads from the Copernicus Data Space: continued, verified, stopped and killed."""

import copy
import dataclasses
import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from darts_acquisition import (
    ChecksumError,
    download_cdse_s2_sr_scene,
    load_cdse_s2_sr_scene,
)
from darts_acquisition.errors import (
    LoginError,
    SceneError,
    SceneGridError,
    SceneNotFoundError,
    ServiceError,
)
from darts_acquisition.io.retry import FetchCancellation, RetryPolicy, StoppedError, cancellable, stoppable_sleep
from darts_acquisition.io.settings import RequestLimits
from darts_acquisition.scenes.raw import REFLECTANCE_BANDS, SCL
from darts_acquisition.scenes.store import RawStore
from support.cdse import catalogue, check_tile
from support.lanes import mostly_slow
from support.local_server import Answer, LocalServer
from support.s3_server import KEYS, environment_of, storage_between
from support.sentinel2 import BUCKET, CDSE_NAME, cdse_settings
from support.stac_server import serve_stac


@pytest.fixture
def between(s3, published, monkeypatch):
    with storage_between(s3) as storage, serve_stac([copy.deepcopy(published)]) as stac, environment_of(s3):
        yield storage, cdse_settings(stac.url, storage.url), stac.respond.__self__.items[0]


@pytest.mark.parametrize(
    "fault",
    mostly_slow(
        [
            {"reset_after": 500},
            {"truncate_to": 700},
            {"status": 503},
            {"status": 429, "retry_after": "1"},
            {"cut_to": 300},
            {"body": b"not an image"},
        ],
        lambda fault: "truncate_to" in fault or "body" in fault,
    ),
)
def test_a_fault_on_the_way_changes_nothing(between, scene, tmp_path, fault):
    storage, settings, _ = between
    storage.inject(path="*B03_10m*", **fault)
    check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings), scene)
    asked = [path for path in storage.paths() if "B03" in path]
    assert len(asked) == 2


def test_a_part_is_continued_where_it_ended(between, scene, tmp_path, published, monkeypatch):
    storage, settings, _ = between
    monkeypatch.setattr("darts_acquisition.io.http._PART", 512)
    storage.inject(path="*B03_10m*", reset_after=1500, times=99)
    with pytest.raises(ServiceError, match="B03_10m"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    part = next((tmp_path / ".downloads").rglob("*B03*.part"))
    assert 0 < part.stat().st_size < published["assets"]["B03_10m"]["file:size"]
    storage.faults.clear()
    storage.requests.clear()
    whole = {path.name for path in (tmp_path / ".downloads").rglob("*.jp2")}
    check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings), scene)
    spans = [request.headers["Range"] for request in storage.requests if "B03" in request.path]
    assert len(spans) == 1
    assert spans[0].startswith("bytes=")
    # No other file that was there, whole and verified, is asked for again; one may have been on its way.
    asked = [Path(path).name for path in storage.paths()]
    assert whole
    assert not whole.intersection(asked)
    assert all(name.endswith(".jp2") for name in asked)


def test_a_download_that_is_stopped_ends_soon(between, tmp_path):
    """Also where the storage asks for minutes; what is on its way ends with its next piece."""
    storage, settings, _ = between
    waiting = threading.Event()
    policy = RetryPolicy(sleep=lambda seconds: (waiting.set(), stoppable_sleep(seconds)))
    settings = dataclasses.replace(settings, limits=RequestLimits(parallel=2, retry=policy))
    storage.inject(path="*B03_10m*", status=503, retry_after="300", times=99)
    ended, token = [], FetchCancellation()

    def download():
        try:
            with cancellable(token):
                download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
        except StoppedError as error:
            ended.append(error)

    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    assert waiting.wait(30)
    token.requested = True
    thread.join(10)
    assert not thread.is_alive()
    assert len(ended) == 1
    made = len(storage.requests)
    # Another limiter, since that one keeps the pause that the storage has asked for.
    settings = dataclasses.replace(settings, limits=RequestLimits())
    download_cdse_s2_sr_scene(CDSE_NAME, tmp_path / "other", ["blue"], settings=settings)
    assert len(storage.requests) > made


def test_a_storage_that_gives_whole_files_only_is_not_appended_to(between, scene, s3, tmp_path):
    """And a catalogue without sizes and checksums, which would tell."""
    _, settings, item = between
    for asset in item["assets"].values():
        asset.pop("file:size")
        asset.pop("file:checksum")

    def whole(request):
        bucket, _, key = request.path.lstrip("/").partition("/")
        return Answer(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())

    with LocalServer(whole).running() as storage:
        storage.inject(path="*B03_10m*", truncate_to=700)
        settings = dataclasses.replace(settings, s3=dataclasses.replace(settings.s3, endpoint_url=storage.url))
        check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings), scene)
        spans = [request.headers.get("Range") for request in storage.requests if "B03" in request.path]
        assert spans == [None, None]  # what is there may be of another version, which nothing would tell


def test_a_file_that_does_not_verify_is_never_decoded(between, tmp_path, monkeypatch):
    storage, settings, item = between
    item["assets"]["B03_10m"]["file:checksum"] = "1620" + hashlib.sha3_256(b"another").hexdigest()
    decoded = []
    monkeypatch.setattr("darts_acquisition.sentinel2.cdse.decode", lambda file, asset: decoded.append(file))
    with pytest.raises(ChecksumError, match=r"B03_10m\.jp2 has another size or checksum"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    assert decoded == []
    assert RawStore(tmp_path).bands("cdse", CDSE_NAME) == set()
    assert sum("B03" in path for path in storage.paths()) == 3


@pytest.mark.parametrize("checksum", mostly_slow(["zz", "16", "1620ab", "77201234", ""], ("zz", "1620ab").__contains__))
def test_a_checksum_that_cannot_be_understood(between, tmp_path, checksum):
    _, settings, item = between
    item["assets"]["B03_10m"]["file:checksum"] = checksum
    with pytest.raises(SceneError, match="file:checksum is"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)


@pytest.mark.parametrize(
    ("name", "code"),
    mostly_slow([("md5", "d50110"), ("sha256", "1220"), ("sha512", "1340")], ("sha256", "1220").__eq__),
)
def test_other_checksums(between, scene, s3, tmp_path, name, code):
    _, settings, item = between
    asset = item["assets"]["B03_10m"]
    content = s3.client().get_object(Bucket=BUCKET, Key=asset["href"].removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    asset["file:checksum"] = code + hashlib.new(name, content).hexdigest()
    check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings), scene)


@pytest.mark.slow
def test_an_item_at_odds_with_its_file(between, tmp_path):
    _, settings, item = between
    asset = item["assets"]["B03_10m"]
    for change, message in (
        ({"proj:transform": [10, 0, 400_030, 0, -10, 7_600_020]}, "the catalogue says"),
        ({"proj:shape": [30, 60]}, "pixels; the catalogue says"),
        ({"proj:code": "EPSG:32609"}, "the catalogue says EPSG:32609"),
    ):
        item["assets"]["B03_10m"] = asset | change
        with pytest.raises(SceneGridError, match=message):
            load_cdse_s2_sr_scene(CDSE_NAME, settings=settings)
    del item["assets"]["B03_10m"]
    with pytest.raises(SceneError, match="no asset B03_10m"):
        load_cdse_s2_sr_scene(CDSE_NAME, settings=settings)


def test_a_file_that_the_storage_lacks(between, tmp_path):
    storage, settings, item = between
    item["assets"]["B03_10m"]["href"] = f"s3://{BUCKET}/nowhere/B03_10m.jp2"
    with pytest.raises(SceneNotFoundError, match="does not exist although"):
        load_cdse_s2_sr_scene(CDSE_NAME, settings=settings)
    assert sum("B03" in path for path in storage.paths()) == 1


def test_a_login_that_is_refused_is_tried_once(between, tmp_path):
    storage, settings, _ = between
    body = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
    storage.inject(status=403, times=99, body=body)
    with pytest.raises(LoginError, match="login was refused"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    assert len(storage.requests) <= 5  # one per file


def test_without_keys_nothing_is_asked(service, tmp_path, monkeypatch):
    _, settings = service
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(LoginError, match=r"no keys for http.*AWS_PROFILE"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(LoginError, match="profile"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)


def test_the_secret_shows_nowhere(between, tmp_path, caplog):
    storage, settings, _ = between
    before = dict(os.environ)
    storage.inject(path="*B03_10m*", status=403, body=b"<Error><Code>AccessDenied</Code></Error>")
    storage.inject(path="*B02_10m*", reset_after=100)
    with caplog.at_level(logging.DEBUG, logger="darts_acquisition"):
        with pytest.raises(LoginError) as caught:
            download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    secret = KEYS["aws_secret_access_key"]
    texts = [caplog.text, repr(settings)]
    error = caught.value
    while error is not None:
        texts += [repr(error), str(error), repr(vars(error))]
        error = error.__cause__
    texts += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    assert not [text for text in texts if secret in text]
    assert dict(os.environ) == before


DOWNLOAD = """
import sys
from darts_acquisition import download_cdse_s2_sr_scene
print("ready", flush=True)
download_cdse_s2_sr_scene(sys.argv[1], sys.argv[2], "all")
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_a_killed_download_never_counts_as_present(s3, scene, published, tmp_path, count):
    """What is left over is completed by two processes at once, of which one fetches and the other waits for it."""
    rng = np.random.default_rng(count)
    with storage_between(s3) as storage, catalogue(s3, [published]) as (stac, settings):
        environment = os.environ | {"DARTS_CDSE_STAC_URL": stac.url, "DARTS_CDSE_S3_URL": storage.url}
        command = [sys.executable, "-c", DOWNLOAD, CDSE_NAME, str(tmp_path)]

        def start():
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
            process.stdout.readline()
            return process

        killed = 0
        for moment in sorted(rng.uniform(0, 1.2, count)):
            storage.inject(path="*jp2", delay_s=0.05, times=13)
            with start() as process:
                time.sleep(moment)
                process.kill()
            killed += process.returncode == -signal.SIGKILL
            check_stored(RawStore(tmp_path), scene)
        assert killed
        storage.faults.clear()
        present = RawStore(tmp_path).bands("cdse", CDSE_NAME)
        storage.requests.clear()
        with start() as one, start() as other:
            assert (one.wait(), other.wait()) == (0, 0)
        assert len(storage.paths()) <= len(scene.raw) - len(present)
        assert check_stored(RawStore(tmp_path), scene) == set(scene.raw)
        assert not list((tmp_path / ".downloads").glob("*/*"))
        assert not list(tmp_path.glob(".*.partial"))
        check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, "all", offline=True, settings=settings), scene, scene.raw)


def check_stored(store, scene):
    """Check that every band that counts as present holds what was published."""
    present = store.bands("cdse", CDSE_NAME)
    for band in (*REFLECTANCE_BANDS, SCL):
        if band.number in present:
            np.testing.assert_array_equal(store.open("cdse", CDSE_NAME, band).read(), scene.raw[band.number])
    return present
