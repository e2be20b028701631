"""A provider of raw Sentinel-2 scenes that makes them up, and a process that stores them; imports little."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from darts_acquisition.scenes.download import download_scene
from darts_acquisition.scenes.raw import SCL, RawBand, RawGrid, S2Band, SceneMetadata, bands_of_scene
from darts_acquisition.scenes.store import RawStore

LEFT, TOP = 400_020.0, 7_600_020.0

MADE_UP = SceneMetadata("made", "a-scene", {"time": "2021-08-21T21:00:21Z", "elevation": 33.25})


def made_up_values(band: S2Band, edge: int) -> np.ndarray:
    """Return the pixels that `MadeUp` provides."""
    rng = np.random.default_rng(sum(band.number.encode()))
    size = edge // band.factor
    return rng.integers(0, 12 if band is SCL else 60_000, (size, size)).astype(band.dtype)


class MadeUp:
    """A provider that makes bands up, the same each time, and remembers what it was asked for."""

    name, data_source = "made", "made up"

    def __init__(self, edge: int = 12, pause_s: float = 0.0) -> None:
        self.edge, self.pause_s = edge, pause_s
        self.asked: list[list[str]] = []

    def fetch(self, scene_id: str, bands: Sequence[S2Band], folder: Path) -> tuple[SceneMetadata, Iterator[RawBand]]:
        self.asked.append([band.number for band in bands])
        return MADE_UP, map(self.raw, bands)

    def raw(self, band: S2Band) -> RawBand:
        time.sleep(self.pause_s)
        values, r = made_up_values(band, self.edge), float(band.resolution)
        scaling = (1.0, 0.0) if band is SCL else (1e-4, -0.1)
        return RawBand(band, RawGrid("EPSG:32608", (r, 0, LEFT, 0, -r, TOP), values.shape, *scaling), values)


def write_made_up(folder: Path, edge: int, pause_s: float, ready: Path | None = None) -> None:
    """Store the scene of `MadeUp`, as the work of a process of its own; `ready` appears when it begins."""
    if ready is not None:
        ready.touch()
    download_scene(MadeUp(edge, pause_s), MADE_UP.scene_id, RawStore(folder), bands_of_scene("all"))
