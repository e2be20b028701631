"""The interface between inference and the device that computes, and the choice of the device."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.bands import Channel
from darts_segmentation.precision import NumberFormat
from darts_utils import Device, DeviceError, DeviceLike, resolve_device

if TYPE_CHECKING:
    import torch

Fill = Callable[[int, NDArray[np.float32]], None]
"""Writes patch number n of a batch, as it is, into a float32 array (channels, y, x). Any thread may call it."""


class Stage(Protocol):
    """Brings patches from the tile to the network, reusing its buffers."""

    def load(self, count: int, fill: Fill) -> "torch.Tensor":
        """Return `count` patches on the device, scaled to 0…1: float32 (patches, channels, y, x), channels last.

        Args:
            count: Number of patches, at most what the stage was made for.
            fill: Called for each of the patches with the buffer that it has to fill.
        """


class Executor(Protocol):
    """A device that runs networks."""

    device: "torch.device"

    def fastest_format(self) -> NumberFormat:
        """Return the number format in which this device does most patches per second."""

    def batch_limit(self, batch_size: int, patch_size: int) -> int:
        """Return how many patches to compute at a time where the caller allows `batch_size`."""

    def stage(self, batch_size: int, patch_size: int, channels: Sequence[Channel]) -> Stage:
        """Make the buffers for batches of patches."""

    def free_memory(self) -> None:
        """Give back what can be given back, after an allocation has failed."""


def make_executor(device: "DeviceLike | torch.device") -> Executor:
    """Choose a device and return what runs networks on it.

    Args:
        device: As in :func:`darts_utils.resolve_device`, or a ``torch.device``.

    Returns:
        The executor.

    Raises:
        ParameterError: If `device` names no device.
        DeviceError: If a GPU was asked for and does not work, or torch was built without CUDA.
    """
    import torch

    wanted = str(device) if isinstance(device, torch.device) else device
    chosen = resolve_device(wanted)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        if wanted not in (None, "auto"):
            raise DeviceError(
                f"Device {chosen} was asked for, but this torch ({torch.__version__}) cannot use it; "
                "install a torch that is built for the CUDA version of the driver, or choose 'cpu'."
            )
        chosen = Device("cpu")
    if chosen.type == "cuda":
        from darts_segmentation.cuda import CudaExecutor

        return CudaExecutor(chosen.index)
    from darts_segmentation.cpu import CpuExecutor

    return CpuExecutor()


class Scaler:
    """Scales channels as :func:`darts_utils.normalize_band` does, on the device where they are.

    Args:
        channels: The channels.
        device: Where the patches will be.
    """

    def __init__(self, channels: Sequence[Channel], device: "torch.device") -> None:
        import torch

        def column(values: list[float]) -> Any:
            return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)

        self._low = column([channel.low for channel in channels])
        self._factor = column([1 / (channel.high - channel.low) for channel in channels])

    def scale(self, patches: "torch.Tensor") -> None:
        """Scale patches in place: low … high becomes 0…1, clipped, NaN becomes 0.

        Args:
            patches: float32 of shape (patches, channels, y, x).
        """
        patches.sub_(self._low).mul_(self._factor).clamp_(0, 1).nan_to_num_(0)
