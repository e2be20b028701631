"""Compilation that overlaps with other work."""

from collections.abc import Collection

from darts_preprocessing.backends import TRIAL
from darts_preprocessing.backends.compilation import begin_compilation
from darts_preprocessing.registry import default_features, find_features, needs_of
from darts_utils import DeviceError, DeviceLike, resolve_device


def compile_kernels(features: Collection[str] | None = None, *, device: DeviceLike = None) -> None:
    """Begin to compile what some features need, in the background, so that it is done when the first tile is read.

    Returns at once. A kernel that is needed before is waited for; whatever goes wrong shows where the kernel is needed.
    May be called at any time, by any thread, as often as one likes: each kernel is compiled once per process, or loaded
    from the cache. Does nothing where the work is done on a GPU. Do not fork the process while it compiles.

    Args:
        features: Names of the variables that will be computed. None means those that :func:`preprocess_v2`
            computes where none are named.
        device: As for :func:`preprocess_v2`.

    Raises:
        ParameterError: If a feature or the device is unknown.
    """
    wanted = default_features() if features is None else find_features(features)
    kernels = needs_of(wanted.values()).every_kernel
    if _uses_cpu(device):
        begin_compilation(kernels)


def _uses_cpu(device: DeviceLike) -> bool:
    try:
        return resolve_device(device, trial=TRIAL).type == "cpu"
    except DeviceError:  # preprocess_v2 then warns, and takes the CPU
        return True
