"""Find out whether torch computes on a device, by letting it."""

import warnings
from typing import TYPE_CHECKING

from darts_utils import Device, DeviceLike, resolve_device

if TYPE_CHECKING:
    import torch


def choose_device(device: "DeviceLike | torch.device") -> "torch.device":
    """Return the device on which networks run, after a network has run there.

    Args:
        device: As in :func:`darts_utils.resolve_device`, or a ``torch.device``.

    Returns:
        The device; the CPU, with a DeviceFallbackWarning, where torch cannot use the GPU that is there and nobody asked
        for it.

    Raises:
        ParameterError: If `device` names no device.
        DeviceError: If a GPU was asked for and does not work.
    """
    import torch

    wanted = str(device) if isinstance(device, torch.device) else device
    chosen = resolve_device(wanted, trial=try_torch, work="networks run", warn=True, stacklevel=4)
    return torch.device("cpu") if chosen.type == "cpu" else torch.device("cuda", chosen.index)


def try_torch(device: Device) -> str:
    """Return why torch cannot compute on a GPU; an empty text where a convolution ran there and was right."""
    import torch

    reason = _why_not(torch.device("cuda", device.index))
    advice = "install a torch that is built for the driver"
    return reason and f"torch {torch.__version__} cannot use it ({reason}; {advice})"


def _why_not(gpu: "torch.device") -> str:
    """Return why a convolution does not run on a GPU; an empty text where it does."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what the error then says
            ones = torch.ones((1, 1, 3, 3), device=gpu)
            found = float(torch.nn.functional.conv2d(ones, ones).item())
    except Exception as error:  # noqa: BLE001  # a broken installation of CUDA raises anything
        return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return "" if found == 9 else f"it computes {found} where 9 is right"
