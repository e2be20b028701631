"""Batches: which patches, cut where, turned how. Each is a function of seed and step, so that none has to be kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from darts_training.errors import SamplesError
from darts_training.folds import Folds, hide
from darts_training.labels import SLUMP, UNLABELLED
from darts_training.options import TrainingOptions
from darts_training.samples import Samples
from darts_utils import OPTICAL_BANDS, available_memory

_SHARE_OF_MEMORY = 0.5
_CANDIDATES = 4


@dataclass
class TrainingSet:
    """The patches to train on, with the ground hidden that is not for training.

    Attributes:
        samples: Where they lie.
        folds: Divides the ground; None to train on all of it.
        hidden: Folds that are not trained on.
        items: Tile and number of each patch.
        with_slump: Indices in `items` of those that show a slump.
    """

    samples: Samples
    folds: Folds | None
    hidden: Sequence[int]
    items: list[tuple[int, int]] = field(default_factory=list)
    with_slump: list[int] = field(default_factory=list)
    _kept: dict[int, tuple[NDArray, NDArray[np.uint8]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, tile in enumerate(self.samples.tiles):
            labels = tile.read_labels()
            for index in range(len(tile)):
                left = labels[index]
                if self.folds is not None:
                    left = np.where(self._near(number, index), UNLABELLED, left)
                if (left != UNLABELLED).any():
                    if (left == SLUMP).any():
                        self.with_slump.append(len(self.items))
                    self.items.append((number, index))
        if not self.items or not self.with_slump:
            what = "labelled pixel" if not self.items else "slump"
            raise SamplesError(
                f"No {what} of {self.samples.path} is left to train on beside what is held out; label more, or take "
                "smaller blocks and a smaller buffer."
            )
        form = self.samples.format
        patch_bytes = form.patch_size**2 * (len(form.channels) * np.dtype(form.dtype).itemsize + 1)
        self._keeps = patch_bytes * len(self.items) < _SHARE_OF_MEMORY * available_memory()

    def _near(self, number: int, index: int) -> NDArray[np.bool_]:
        if self.folds is None:
            size = self.samples.format.patch_size
            return np.zeros((size, size), bool)
        return self.folds.near(self.samples.tiles[number], index, self.samples.format.patch_size, self.hidden)

    def get(self, item: int) -> tuple[NDArray, NDArray[np.uint8]]:
        """Return a patch and its labels, (bands, y, x) and (y, x), without what is hidden."""
        if item in self._kept:
            return self._kept[item]
        number, index = self.items[item]
        found = hide(*self.samples.tiles[number].read(index), self._near(number, index))
        if self._keeps:
            self._kept[item] = found
        return found


def draw_batch(
    training: TrainingSet, options: TrainingOptions, step: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the batch of a step, the same each time.

    Args:
        training: The patches.
        options: Says how many, how large, and how they are changed.
        step: Number of the batch.

    Returns:
        Patches (count, bands, y, x) float32 and labels (count, y, x) uint8.
    """
    rng = np.random.default_rng([options.seed, step])
    optical = [channel.band in OPTICAL_BANDS for channel in training.samples.format.channels]
    size = options.crop or training.samples.format.patch_size
    cut = []
    for _ in range(options.batch_size):
        wants_slump = rng.random() < options.slump_share
        item = int(rng.choice(training.with_slump) if wants_slump else rng.integers(len(training.items)))
        values, labels = training.get(item)
        window = _window(rng, labels, size, SLUMP if wants_slump else None)
        part = values[(slice(None), *window)].astype(np.float32)
        cut.append(_turned(rng, _relit(rng, part, optical, options.brightness), labels[window]))
    x, y = zip(*cut, strict=True)
    return np.stack(x), np.stack(y)


def _window(rng: np.random.Generator, labels: NDArray, size: int, around: int | None) -> tuple[slice, slice]:
    """Choose a square of a patch that holds a slump, or a labelled pixel: of some the one that is labelled most."""
    room = labels.shape[0] - size
    if room <= 0:
        return slice(0, size), slice(0, size)
    labelled = labels != UNLABELLED
    candidates = np.flatnonzero(labels == around if around is not None else labelled)
    pixels = np.unravel_index(candidates[rng.integers(len(candidates), size=_CANDIDATES)], labels.shape)
    corners = np.clip(np.stack(pixels, axis=1) - rng.integers(size, size=(_CANDIDATES, 2)), 0, room).tolist()
    windows = [(slice(row, row + size), slice(column, column + size)) for row, column in corners]
    return max(windows, key=lambda window: int(labelled[window].sum()))


def _relit(rng: np.random.Generator, values: NDArray, optical: Sequence[bool], amount: float) -> NDArray[np.float32]:
    """Make the optical bands brighter or darker, all alike; what is missing, and so 0, stays so."""
    scale, shift = rng.uniform(1 - amount, 1 + amount), rng.uniform(-amount / 5, amount / 5)
    changed = np.where(values == 0, values, np.clip(values * scale + shift, 0, 1))
    return np.where(np.array(optical)[:, None, None], changed, values).astype(np.float32)


def _turned(rng: np.random.Generator, values: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
    """Apply one of the eight symmetries of the square to a patch and its labels."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    parts = (np.rot90(part, turns, axes=(-2, -1)) for part in (values, labels))
    one, other = (np.ascontiguousarray(part[..., ::-1] if mirror else part) for part in parts)
    return one, other
