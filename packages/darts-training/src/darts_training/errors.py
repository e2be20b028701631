"""The errors of this package."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from darts_utils import DartsError, DartsWarning


class SamplesError(DartsError, ValueError):
    """Samples cannot be made, are damaged, or cannot be trained on."""


class TrainingError(DartsError, RuntimeError):
    """A training cannot be begun or continued where it is asked for, or has failed."""


class WritingError(DartsError, OSError):
    """Samples, a checkpoint or a model cannot be written, since a disk is full for example."""


class SeenGroundWarning(DartsWarning):
    """Ground that is held out for the figures was trained on by the model that a training goes on from."""


class RepeatedTileWarning(DartsWarning):
    """Samples hold the same patches and labels under two names, which weigh double in a training."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make of what the system refuses in the block an error of ours that names the path.

    Raises:
        WritingError: If the block raises an OSError.
    """
    try:
        yield
    except OSError as error:
        raise WritingError(f"{path} cannot be written: {error.strerror or error}.") from error
