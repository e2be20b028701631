"""Refuse bands whose values cannot be what the model takes them for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from darts_segmentation.bands import Channel
from darts_segmentation.errors import ValueRangeError

_SAMPLES = 48
_SPANS = 2
_SCALES = (100, 255, 10_000)


def check_values(bands: Mapping[str, Any], members: Iterable[Sequence[Channel]]) -> None:
    """Raise an error if a band's typical value lies far outside the range that a model scales to 0…1.

    Looks at the median of up to 48 × 48 pixels that are neither missing nor exactly 0; it is far outside from twice the
    width of the range on. A few clouds, and mountains above the range of the elevation, are no reason.

    Args:
        bands: Arrays or tensors of shape (y, x) by name.
        members: The channels of each member of an ensemble.

    Raises:
        ValueRangeError: If a value cannot be in the unit that the model takes.
    """
    for channel in dict.fromkeys(channel for member in members for channel in member):
        values = bands[channel.band]
        steps = [max(1, size // _SAMPLES) for size in values.shape]
        sample = values[:: steps[0], :: steps[1]]
        sample = np.asarray(sample if isinstance(sample, np.ndarray) else sample.cpu()).astype(np.float64, copy=False)
        sample = sample[(sample != 0) & ~np.isnan(sample)]
        margin = _SPANS * (channel.high - channel.low)
        if not sample.size:
            continue
        median = float(np.median(sample))
        if not channel.low - margin <= median <= channel.high + margin:
            raise ValueRangeError(_sentence(channel, median, values.dtype))


def _sentence(channel: Channel, median: float, dtype: Any) -> str:
    scales = [scale for scale in _SCALES if channel.low <= median / scale <= channel.high]
    if median < channel.low:
        advice = "if this marks missing pixels, make them NaN (rioxarray does so with masked=True)"
    elif scales:
        advice = f"divide the band by {scales[0]} first, if it is stored so"
    else:
        advice = "bring the band into the unit of the band table, or give the model card the range it was trained on"
    return (
        f"Half of the values of band {channel.band!r} (type {dtype}) are beyond {median:g}, but the model takes values "
        f"from {channel.low:g} to {channel.high:g}; {advice}."
    )
