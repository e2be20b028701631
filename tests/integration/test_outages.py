"""What a command ends with where a service does not answer, which may be retried later, and where it refuses."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import ee
import icechunk
import pytest
from google.auth.credentials import AnonymousCredentials

from darts_acquisition import RetryPolicy
from support import standin
from support.commands import run_darts
from support.earthengine_server import serve_earth_engine, without_catalogue
from support.lanes import mostly_slow
from support.local_server import Answer, LocalServer

SENTINEL2 = ("inference", "sentinel2-sequential")
PREPARE = ("inference", "prep-data", "sentinel2")
SEARCH = ("--tile-ids", "08WMA", "--start-date", "2021-07-01", "--end-date", "2021-08-31")
GEE_SCENE = "20210721T210021_20210721T210020_T08WMA"
SCENE = "S2A_MSIL2A_20210721T210021_N0500_R014_T08WMA_20230202T062319"
COMMANDS = {
    "search": (*SENTINEL2, *SEARCH),
    "dry run": (*SENTINEL2, *SEARCH, "--dry-run"),
    "mosaics": (*SENTINEL2, "--raw-data-source", "cdse-mosaic", "--tile-ids", "08WMA", "--years", "2023"),
    "Earth Engine": (*SENTINEL2, *SEARCH, "--raw-data-source", "gee"),
    "prepare by a search": (*PREPARE, "--optical", *SEARCH),
    "prepare scenes": (*PREPARE, "--optical", "--scene-ids", SCENE),
    "prepare scenes of Earth Engine": (*PREPARE, "--optical", "--raw-data-source", "gee", "--scene-ids", GEE_SCENE),
    "prepare scenes and what is around them": (*PREPARE, "--optical", "--arcticdem", "--scene-ids", SCENE),
    "the grid of tiles": (*PREPARE, "--optical", *SEARCH, "--sentinel2-grid-dir", "grid"),
    "prepare elevation": ("inference", "prep-data", "planet", "--arcticdem", "--scenes-dir", "scenes"),
    "prepare trends": ("inference", "prep-data", "planet", "--tcvis", "--scenes-dir", "scenes"),
}
_URLS = ("ARCTICDEM_STAC", "EARTHENGINE", "SENTINEL2_GRID", "CDSE_STAC", "CDSE_S3")


@contextmanager
def _refusing() -> Iterator[str]:
    with socket.socket() as bound:  # Bound, so that nobody else takes it, and nobody listens.
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def _answering(status: int) -> Iterator[str]:
    with LocalServer(lambda _: Answer(b'{"error": {"message": "no"}}', status)).running() as server:
        yield server.url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a PlanetScope scene."""
    from darts.demo import make_sample_area

    made = tmp_path_factory.mktemp("outage")
    standin.write_model(made / "model.safetensors")
    scene = make_sample_area(made / "sample", seed=3, size=256).scene_dir
    (made / "scenes").mkdir()
    (made / "scenes" / scene.name).symlink_to(scene)
    return made


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[int, str]]]:
    """Calls the command with all services at one address."""
    monkeypatch.setattr(RetryPolicy, "_wait_s", lambda *_, **__: 0.0)
    monkeypatch.setattr("ee.data.get_persistent_credentials", AnonymousCredentials)
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)

    def call(url: str, *words: str) -> tuple[int, str]:
        for name in _URLS:
            monkeypatch.setenv(f"DARTS_{name}_URL", url)
        common = (
            "--model-files",
            "model.safetensors",
            "--darts-dir",
            ".",
            "--output-data-dir",
            "out",
            "--device",
            "cpu",
        )
        return run_darts(folder, *words, *common, "--ee-project", "tests")

    with without_catalogue():
        ee.Reset()
        yield call
        ee.Reset()


OUTAGES = {"refuses": _refusing, "503": lambda: _answering(503)}


@pytest.mark.parametrize(
    ("name", "outage"),
    mostly_slow(list(product(COMMANDS, OUTAGES)), lambda case: case[1] == "refuses" or case[0] == "search"),
)
def test_an_outage_of_a_service_is_code_75(call, name: str, outage: str) -> None:
    with OUTAGES[outage]() as url:
        code, said = call(url, *COMMANDS[name])
    assert code == 75, said
    assert "retry later" in said


SEARCHES = ("search", "mosaics", "Earth Engine", "prepare by a search", "the grid of tiles")


@pytest.mark.parametrize(
    ("name", "status"), mostly_slow(list(product(SEARCHES, [400, 401, 403])), lambda case: case[1] == 401)
)
def test_a_search_or_a_login_that_is_refused_is_code_2(call, name: str, status: int) -> None:
    with _answering(status) as url:
        code, said = call(url, *COMMANDS[name])
    assert code == 2, said


def test_a_login_whose_service_does_not_answer_is_none_that_is_refused(call, monkeypatch) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from google.oauth2.service_account import Credentials

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with _refusing() as url, serve_earth_engine([]) as server:
        about = {"client_email": "a@b.c", "token_uri": f"{url}/token", "private_key": key.decode()}
        login = Credentials.from_service_account_info(about, scopes=ee.oauth.SCOPES)
        monkeypatch.setattr("ee.data.get_persistent_credentials", lambda: login)
        code, said = call(server.url, *COMMANDS["Earth Engine"])
    assert code == 75, said


def test_a_storage_of_ones_own_that_does_not_answer_is_code_75(tmp_path, monkeypatch) -> None:
    def refuse(storage):
        raise icechunk.IcechunkError("  x error dispatch failure\n  `-> Connection refused (os error 111)\n")

    monkeypatch.setattr(icechunk.Repository, "exists", refuse)
    code, said = run_darts(tmp_path, "cube", "info", "s3://bucket/cube")
    assert code == 75, said
    assert "s3://bucket/cube is no datacube that can be opened: its storage does not answer or is too busy" in said
