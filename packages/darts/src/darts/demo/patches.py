"""Training data for the demo model: landscapes, through the real preprocessing, cut into patches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts.demo.auxiliary import arcticdem_dataset
from darts.demo.landscape import make_landscape
from darts.demo.sample import optical_dataset
from darts_utils import OPTICAL_BANDS, normalize_band

BANDS = (*OPTICAL_BANDS, "ndvi", "relative_elevation", "slope")
"""What the demo model sees, in its order."""


@dataclass(frozen=True)
class Example:
    """A landscape ready for training.

    Attributes:
        bands: (bands, rows, columns) float16, each band scaled to 0…1 as for inference.
        truth: (rows, columns) bool, True in slumps.
        counts: (rows, columns) bool, True where an error counts: where there is data and no cloud hides a slump.
    """

    bands: NDArray[np.float16]
    truth: NDArray[np.bool_]
    counts: NDArray[np.bool_]


def make_example(seed: int, size: int, slumps_per_km2: float) -> Example:
    """Make a landscape and bring it through the real preprocessing.

    Args:
        seed: Seed of the landscape.
        size: Rows and columns, pixels of 3 m.
        slumps_per_km2: Slumps to aim at.

    Returns:
        The example.
    """
    from darts_preprocessing import preprocess_v2

    landscape = make_landscape(seed, size, slumps_per_km2)
    tile = preprocess_v2(optical_dataset(landscape), arcticdem_dataset(landscape), None, device="cpu")
    truth = landscape.label > 0
    hidden = (landscape.udm[4:6] > 0).any(axis=0)
    counts = (tile["quality_data_mask"].values > 0) & ~(hidden & truth)
    bands = np.stack([normalize_band(tile[name].values, name).astype(np.float16) for name in BANDS])
    return Example(bands, truth, counts)


def draw_patches(
    rng: np.random.Generator, examples: Sequence[Example], count: int, size: int, near_slumps: float
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """Draw patches for ever, many of them around slumps, turned, mirrored, and in changing light.

    Args:
        rng: Where the randomness comes from.
        examples: Where to cut.
        count: Patches in a batch.
        size: Rows and columns of a patch.
        near_slumps: Share of the patches that hold a slump for certain.

    Yields:
        Bands (count, bands, size, size), truth and weights (count, 1, size, size), all float32.
    """
    slumps = [np.argwhere(example.truth & example.counts) for example in examples]
    while True:
        batch = []
        for _ in range(count):
            number = int(rng.integers(len(examples)))
            example, places = examples[number], slumps[number]
            room = example.truth.shape[0] - size
            if rng.random() < near_slumps and len(places):
                corner = np.clip(places[rng.integers(len(places))] - rng.integers(size, size=2), 0, room)
            else:
                corner = rng.integers(room + 1, size=2)
            batch.append(_cut(rng, example, corner, size))
        bands, truth, counts = (np.stack(parts) for parts in zip(*batch, strict=True))
        yield bands, truth[:, None], counts[:, None]


def _cut(rng: np.random.Generator, example: Example, corner: NDArray, size: int) -> tuple[NDArray, ...]:
    window = (slice(corner[0], corner[0] + size), slice(corner[1], corner[1] + size))
    bands = example.bands[(slice(None), *window)].astype(np.float32)
    optical = bands[: len(OPTICAL_BANDS)]
    optical[:] = np.clip(optical * rng.uniform(0.9, 1.1) + rng.uniform(-0.02, 0.02), 0, 1)
    parts = (bands, example.truth[window].astype(np.float32), example.counts[window].astype(np.float32))
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    turned = (np.rot90(part, turns, axes=(-2, -1)) for part in parts)
    return tuple(np.ascontiguousarray(part[..., ::-1] if mirror else part) for part in turned)
