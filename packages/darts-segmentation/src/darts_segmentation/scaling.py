"""Scale patches as the data model says, with torch or numpy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.arrays import upload
from darts_segmentation.bands import Channel

if TYPE_CHECKING:
    import torch


class Scaler:
    """Scales channels as :func:`darts_utils.normalize_band` does, on the device where they are.

    What is infinite is missing in a tile, as NaN is, and becomes 0 where that function clips it.

    Args:
        channels: The channels.
        device: Where the patches will be.
    """

    def __init__(self, channels: Sequence[Channel], device: "torch.device") -> None:
        def column(values: list[float]) -> Any:
            return upload(np.array(values, np.float32).reshape(-1, 1, 1), device)

        self._low = column([channel.low for channel in channels])
        self._factor = column([1 / (channel.high - channel.low) for channel in channels])

    def scale(self, patches: "torch.Tensor") -> None:
        """Scale patches in place: low … high becomes 0…1, clipped; NaN and what is infinite become 0.

        Args:
            patches: float32 of shape (patches, channels, y, x).
        """
        patches.sub_(self._low).mul_(self._factor).nan_to_num_(0, posinf=0, neginf=0).clamp_(0, 1)


class NumpyScaler:
    """The same as :class:`Scaler`, to the last bit, without torch.

    Args:
        channels: The channels.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        def column(values: list[float]) -> NDArray[np.float32]:
            return np.array(values, np.float32).reshape(-1, 1, 1)

        self._low = column([channel.low for channel in channels])
        self._factor = column([1 / (channel.high - channel.low) for channel in channels])

    def scale(self, patches: NDArray[np.float32]) -> None:
        """Scale patches in place, see :meth:`Scaler.scale`."""
        patches -= self._low
        patches *= self._factor
        np.copyto(patches, 0, where=np.isinf(patches))
        np.fmax(patches, 0, out=patches)  # fmax and fmin prefer numbers to NaN
        np.fmin(patches, 1, out=patches)
