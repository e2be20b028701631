"""Refuse bands whose values cannot be what the model takes them for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from darts_segmentation.bands import Channel
from darts_utils import check_range

_REMEDY = "bring the band into the unit of the band table, or give the model card the range it was trained on"


def check_values(bands: Mapping[str, Any], members: Iterable[Sequence[Channel]]) -> None:
    """Raise an error if a band's typical value lies far outside the range that a model scales to 0…1.

    Args:
        bands: Arrays or tensors of shape (y, x) by name.
        members: The channels of each member of an ensemble.

    Raises:
        ValueRangeError: If a value cannot be in the unit that the model takes.
    """
    for channel in dict.fromkeys(channel for member in members for channel in member):
        check_range(channel.band, bands[channel.band], channel.low, channel.high, taker="the model", remedy=_REMEDY)
