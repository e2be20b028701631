"""What samples must be: made by options that can be, of tiles with a name each, none of them twice."""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from darts_training.errors import RepeatedTileWarning, SamplesError
from darts_utils import ParameterError

if TYPE_CHECKING:
    from darts_training.samples import SampleFormat, Samples


_NUMBER_TYPES = ("float32", "float16")


def check_form(form: "SampleFormat") -> None:
    """Raise a ParameterError if samples cannot be made by these options."""
    if not form.channels:
        raise ParameterError("The samples have no channels; expected at least one.")
    highest = {"patch_size": 2**16, "overlap": form.patch_size - 1, "ignore_border": 2**16}
    for name, most in highest.items():
        value, least = getattr(form, name), int(name == "patch_size")
        if not isinstance(value, int) or not least <= value <= most:
            raise ParameterError(f"{name} is {value!r}; expected whole pixels, {least} to {most}.")
    if form.dtype not in _NUMBER_TYPES:
        raise ParameterError(f"dtype is {form.dtype!r}; expected {' or '.join(map(repr, _NUMBER_TYPES))}.")


def check_tile_id(tile_id: object) -> None:
    """Raise a SamplesError if a tile's name can be no file name in the folder of the samples."""
    if (
        not isinstance(tile_id, str)
        or not tile_id.strip()
        or tile_id[0] == "."
        or any(each in tile_id for each in "/\\")
    ):
        raise SamplesError(f"A tile is called {tile_id!r}; expected a text without slashes that begins with no dot.")


def discard_empty(record: Path, tiles: Path) -> None:
    """Remove what was begun where no tile followed, and the folder where nothing else lies there."""
    if not any(tiles.glob("*")):
        record.unlink(missing_ok=True)
        with suppress(OSError):
            tiles.rmdir()
            record.parent.rmdir()


def warn_of_repeats(samples: "Samples", stacklevel: int) -> None:
    """Warn of tiles with the same patches and labels, which would weigh double.

    Args:
        samples: The samples.
        stacklevel: Whose line the warning names, as :func:`warnings.warn` counts.
    """
    names: dict[str, list[str]] = {}
    for tile in samples.tiles:
        names.setdefault(tile.digest, []).append(tile.tile_id)
    twice = [" and ".join(each) for each in names.values() if len(each) > 1]
    if twice:
        warnings.warn(
            f"{samples.path} holds the same patches and labels under several names, which weigh as often in a "
            f"training: {'; '.join(twice)}. Remove all but one of each from {samples.path / 'tiles'}.",
            RepeatedTileWarning,
            stacklevel=stacklevel + 1,
        )
