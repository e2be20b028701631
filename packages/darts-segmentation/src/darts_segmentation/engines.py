"""The engines that run networks, by name and device."""

from typing import TYPE_CHECKING, get_args

from darts_segmentation.device import choose_device
from darts_segmentation.engine import Engine, EngineName
from darts_utils import DeviceLike, ParameterError

if TYPE_CHECKING:
    import torch


def make_engine(device: "DeviceLike | torch.device", name: EngineName = "torch") -> Engine:
    """Choose a device and return what runs networks on it.

    Args:
        device: As in :func:`darts_segmentation.device.choose_device`.
        name: "torch" or "openvino", which computes on the CPU.

    Returns:
        The engine.

    Raises:
        ParameterError: If `device` names no device, or `name` no engine.
        DeviceError: If a GPU was asked for and does not work.
        MissingLibraryError: If the library of the engine is not installed.
    """
    if name not in get_args(EngineName):
        known = " or ".join(map(repr, get_args(EngineName)))
        raise ParameterError(f"engine is {name!r}; expected {known}.")
    if name == "openvino":
        from darts_segmentation.vino import OpenVinoEngine

        return OpenVinoEngine(device)
    chosen = choose_device(device)
    if chosen.type == "cuda":
        from darts_segmentation.cuda import CudaEngine

        return CudaEngine(chosen)
    from darts_segmentation.cpu import CpuEngine

    return CpuEngine()
