"""The same searches through `rustac serve`, a STAC API that others have written, and the stand-in of the tests."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from darts_acquisition import ArcticDEMSettings, Datacube, Window
from darts_acquisition.auxiliary.arcticdem import ArcticDEMSource
from darts_acquisition.cube.ingest import ingest
from darts_acquisition.io.stac import open_api, search_box
from support.arcticdem import Provider, Service, small_product

WHOLE = Window.of(0, 300, 0, 400)
RUSTAC = shutil.which("rustac") or shutil.which("rustac", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(RUSTAC is None, reason="needs the command rustac")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Provider, Service]]:
    provider = Provider(tmp_path_factory.mktemp("provider") / "files", small_product())
    places = [Window.of(top, top + 90, left, left + 110) for top in (-20, 80, 210) for left in (-50, 100, 290)]
    for number, window in enumerate(places):
        provider.add(f"tile{number}", window, seed=number)
    with provider.serving() as service:
        yield provider, service


@pytest.fixture(scope="module")
def rustac(served, tmp_path_factory) -> Iterator[str]:
    """Address of the other API, with the same items."""
    provider, _ = served
    file = tmp_path_factory.mktemp("rustac") / "items.json"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": provider.items}), "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [str(RUSTAC), "serve", str(file), "--addr", address, "--create-collections"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.get(f"http://{address}/", timeout=1).raise_for_status()
                break
            except requests.RequestException:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def test_both_find_the_same_items(served, rustac):
    provider, service = served
    limits = service.settings().limits
    collection = provider.product.collection
    theirs, ours = open_api(rustac, collection, limits), open_api(service.api.url, collection, limits)
    assert {item.id for item in theirs.search(collections=[collection]).items()} == {
        item["id"] for item in provider.items
    }
    boxes = np.array([item["bbox"] for item in provider.items])
    random = np.random.default_rng(0)
    counts = set()
    for _ in range(25):
        west, east = np.sort(random.uniform(boxes[:, 0].min(), boxes[:, 2].max(), 2))
        south, north = np.sort(random.uniform(boxes[:, 1].min(), boxes[:, 3].max(), 2))
        box = (float(west), float(south), float(east), float(north))
        found = sorted(search_box(theirs, collection, box))
        assert found == sorted(search_box(ours, collection, box))
        counts.add(len(found))
    assert len(counts) > 2


@pytest.mark.slow
def test_a_cube_that_it_fills_equals_the_mosaic(served, rustac, tmp_path):
    provider, service = served
    cube = Datacube.create(tmp_path / "cube", provider.product)
    source = ArcticDEMSource(provider.product, ArcticDEMSettings(stac_url=rustac, limits=service.settings().limits))
    ingest(cube, cube.missing(WHOLE), source)
    read = cube.read(WHOLE)
    for name, expected in provider.truth(WHOLE).items():
        np.testing.assert_array_equal(read[name].values, expected)
