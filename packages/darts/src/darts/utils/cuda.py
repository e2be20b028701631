"""The original's ``decide_device`` and ``debug_info``."""

from darts.cli.environment import show_environment
from darts_segmentation.device import try_torch
from darts_utils import DeviceLike, resolve_device


def decide_device(device: DeviceLike = None) -> "str | int":
    """Choose the device of the networks, as the pipelines do.

    Args:
        device: "cuda", "cpu", "auto", an index of a GPU, or None.

    Returns:
        "cpu"; "cuda" for the first GPU where that was asked for or None given, else the index of the GPU.

    Raises:
        ParameterError: If `device` is none of the above.

    Warns:
        DeviceFallbackWarning: If a GPU was asked for that does not work. The CPU is taken.
    """
    found = resolve_device(device, trial=try_torch, work="networks run", fallback=True, stacklevel=3)
    if found.type == "cpu":
        return "cpu"
    return "cuda" if device in (None, "cuda") else found.index


def debug_info() -> None:
    """Print versions, processor, memory, and whether a GPU can be used, as ``darts env-info`` does."""
    show_environment()
