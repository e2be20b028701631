"""Export in a loop, be killed, look what is left: run as a program of its own, so that forking disturbs nobody.

Usage: killing.py <empty folder> <number of kills> <seed>. Prints a line of JSON: how often which state was found.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from darts_export import export_tile, missing_outputs, read_manifest

BANDS = ["probabilities", "polygonized", "extent", "thumbnail"]
VERSIONS = {"f1": 0.25, "f2": 0.75}


def make_tile(value: float) -> xr.Dataset:
    geobox = GeoBox((60, 70), Affine(3, 0, 500_001, 0, -3, 7_500_003), "EPSG:32608")
    values = np.full(geobox.shape, value, np.float32)
    tile = xr.Dataset(attrs={"tile_id": "tile", "time": "2021-08-21T21:00:19Z"})
    for name in ("probabilities", "red", "green", "blue"):
        tile[name] = wrap_xr(values, geobox)
    tile["binarized_segmentation"] = wrap_xr(np.indices(geobox.shape).sum(axis=0) % 7 == 0, geobox)
    tile["extent"] = wrap_xr(np.ones(geobox.shape, np.uint8), geobox)
    return tile


def export_for_ever(folder: Path, tiles: dict[str, xr.Dataset], first: int) -> NoReturn:
    count = first
    while True:
        fingerprint = list(tiles)[count % 2]
        export_tile(tiles[fingerprint], folder, BANDS, fingerprint=fingerprint)
        count += 1


def state_of(folder: Path) -> str:
    """Return which complete export is there, or "absent"; raise if it is anything else."""
    if not folder.exists():
        return "absent"
    fingerprint = read_manifest(folder)["fingerprint"]
    if missing_outputs(folder, BANDS, fingerprint=fingerprint) != "none":
        raise RuntimeError(f"incomplete: {sorted(folder.iterdir())}")
    files = read_manifest(folder)["files"]
    there = {path.name: path for path in folder.iterdir() if path.name != "manifest.json"}
    if set(files) != set(there):
        raise RuntimeError(f"the manifest names {sorted(files)}, there are {sorted(there)}")
    for name, path in there.items():
        if hashlib.sha256(path.read_bytes()).hexdigest() != files[name]["sha256"]:
            raise RuntimeError(f"{name} is not what the manifest says")
    with rasterio.open(folder / "probabilities.tif") as raster:
        if not (raster.read() == round(100 * VERSIONS[fingerprint])).all():
            raise RuntimeError(f"probabilities.tif is not that of {fingerprint}")
    return fingerprint


def main(parent: Path, kills: int, seed: int) -> None:
    tiles = {name: make_tile(value) for name, value in VERSIONS.items()}
    folder = parent / "a tile"
    start = time.perf_counter()
    export_tile(tiles["f1"], parent / "warm", BANDS)
    export_tile(tiles["f1"], parent / "warm", BANDS)
    seconds = (time.perf_counter() - start) / 2
    chance = random.Random(seed)
    states: Counter[str] = Counter()
    for kill in range(kills):
        child = os.fork()
        if child == 0:
            export_for_ever(folder, tiles, kill)
        time.sleep(chance.uniform(0, 2.5 * seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise RuntimeError("the exporting child ended by itself")
        states[state_of(folder)] += 1
        if kill % 5 == 4:
            # The next export succeeds and leaves nothing of the killed ones behind.
            export_tile(tiles["f2"], folder, BANDS, fingerprint="f2")
            names = sorted(path.name for path in parent.iterdir())
            if state_of(folder) != "f2" or names != ["a tile", "warm"]:
                raise RuntimeError(f"after an export there are {names}")
        if kill % 10 == 9:
            shutil.rmtree(folder)
    sys.stdout.write(json.dumps(states) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
