"""Tiles that samples hold twice."""

import warnings
from typing import TYPE_CHECKING

from darts_training.errors import RepeatedTileWarning

if TYPE_CHECKING:
    from darts_training.samples import Samples


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
