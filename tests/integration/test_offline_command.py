"""The command that an offline run is told to give: as it stands in the message, it fetches what was missing."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from darts.cli import run_command
from darts.demo import make_sample_area
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline
from darts.run.failures import describe
from darts_acquisition import (
    MissingAuxiliaryDataError,
    Window,
    arcticdem_product,
    create_arcticdem_cube,
    load_arcticdem,
    load_planet_scene,
    load_tcvis,
    tcvis_product,
)
from darts_acquisition.cube.areas import product_windows
from darts_utils import DefaultPaths
from support.arcticdem import Provider
from support.commands import logging_restored
from support.earth_images import EarthImage
from support.earthengine_server import serve_earth_engine
from support.local_server import Answer, LocalServer


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment that names no folder."""
    for name in ("DARTS_DATA_DIR", "DARTS_FAST_DATA_DIR", "DARTS_LARGE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service account for Earth Engine, which the environment names, and a server that gives it a token."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    token = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
    with LocalServer(lambda request: Answer.of_json(token)).running() as server:
        content = {
            "type": "service_account",
            "client_email": "maps@tests.iam.gserviceaccount.com",
            "token_uri": f"{server.url}/token",
            "private_key": pem.decode(),
            "private_key_id": "1",
            "project_id": "tests",
        }
        (tmp_path / "account.json").write_text(json.dumps(content), "utf-8")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        yield


def commands_in(error: BaseException, pipeline: type[PlanetPipeline | Sentinel2Pipeline]) -> list[str]:
    """Return the commands in what a run says of an error."""
    return re.findall(r"`(darts [^`]+)`", describe("Loading", error, pipeline()._how_to_prepare()))


def give(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    try:
        with logging_restored():
            run_command()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.slow
def test_the_command_in_the_message_fetches_what_is_missing(work, login, tmp_path, monkeypatch):
    area = make_sample_area(tmp_path / "sample", seed=3, size=128)
    paths = DefaultPaths()
    paths.planet_scenes.parent.mkdir(parents=True)
    area.scenes_dir.rename(paths.planet_scenes)
    geobox = load_planet_scene(next(paths.planet_scenes.iterdir())).odc.geobox

    with pytest.raises(MissingAuxiliaryDataError, match="There is no datacube") as of_dem:
        load_arcticdem(geobox, paths.arcticdem(2), 2, offline=True)
    with pytest.raises(MissingAuxiliaryDataError, match="There is no datacube") as of_tcvis:
        load_tcvis(geobox, paths.tcvis, offline=True)
    (command,) = commands_in(of_dem.value, PlanetPipeline)
    assert commands_in(of_tcvis.value, PlanetPipeline) == [command]

    product, trends = arcticdem_product(2), tcvis_product()
    (window,) = product_windows(product, geobox, 100)
    provider = Provider(tmp_path / "files", product)
    provider.add("tile", window, seed=1)
    (place,) = product_windows(trends, geobox, 10)
    random = np.random.default_rng(1)
    bands = {f"TC{name}_slope": random.integers(1, 256, place.shape, dtype="uint8") for name in "BGW"}
    grid = trends.geobox.affine * Affine.translation(place.cols.start, place.rows.start)
    image = EarthImage(f"{trends.collection}/trend", bands, grid)
    with provider.serving() as service, serve_earth_engine([image]) as server:
        monkeypatch.setenv("DARTS_ARCTICDEM_STAC_URL", service.api.url)
        monkeypatch.setenv("DARTS_EARTHENGINE_URL", server.url)
        assert give(command, monkeypatch) == 0
    dem = load_arcticdem(geobox, paths.arcticdem(2), 2, offline=True)
    tcvis = load_tcvis(geobox, paths.tcvis, offline=True)
    (inner,) = product_windows(product, geobox)
    with rasterio.open(provider.folder / "tile_dem.tif") as source:
        truth = np.where(source.read(1) == source.nodata, np.nan, source.read(1))
    np.testing.assert_array_equal(dem.dem, truth[inner.relative_to(window)])
    (inner,) = product_windows(trends, geobox, 2)
    np.testing.assert_array_equal(tcvis.tc_brightness, bands["TCB_slope"][inner.relative_to(place)])


def test_what_is_missing_beside_the_tiles_is_named_as_well(work):
    """A cube that has another area: the message says which part is missing, and names the command too."""
    cube = create_arcticdem_cube("dem", 10)
    tile = cube.geobox[300_000:300_100, 400_000:400_100]
    cube.mark_empty(cube.missing(Window.of(0, 10, 0, 10)))
    with pytest.raises(MissingAuxiliaryDataError, match=r"1 of the 1 chunks .* longitude .* latitude") as caught:
        load_arcticdem(tile, "dem", 10, offline=True)
    assert commands_in(caught.value, Sentinel2Pipeline) == ["darts inference prep-data sentinel2 --optical --aux"]


@pytest.mark.parametrize("pipeline", ["planet", "sentinel2"])
def test_the_commands_of_the_messages_exist(work, monkeypatch, capsys, pipeline):
    assert give(f"darts inference prep-data {pipeline} --aux --help", monkeypatch) == 0
    assert "--aux" in capsys.readouterr().out
