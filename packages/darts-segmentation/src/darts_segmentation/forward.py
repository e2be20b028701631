"""Send batches of patches through a network and get probabilities back."""

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from darts_segmentation.errors import BatchHalvedWarning, GpuMemoryError, OutputError
from darts_segmentation.executor import Executor
from darts_utils import ParameterError

if TYPE_CHECKING:
    import torch

Augmentation = Literal["d4"]
"""What test-time augmentation callers may ask for: the eight symmetries of the square."""

Network = Callable[["torch.Tensor"], "torch.Tensor"]
"""Takes patches (patches, channels, y, x), returns logits (patches, 1, y, x)."""


def check_augmentation(tta: str | None) -> Augmentation | None:
    """Return `tta` if it is "d4" or None.

    Raises:
        ParameterError: If it is not.
    """
    if tta not in (None, "d4"):
        raise ParameterError(f"tta is {tta!r}; expected None or 'd4'.")
    return tta  # type: ignore[return-value]  # just checked


class Forward:
    """Runs networks on batches, in halves where the memory of the GPU does not hold a whole one.

    Args:
        executor: Runs them.
        batch_size: Patches at a time.
        tta: "d4" averages over the eight flips and rotations of each patch.
    """

    def __init__(self, executor: Executor, batch_size: int, tta: Augmentation | None = None) -> None:
        self._executor = executor
        self._limit = batch_size
        self._tta = tta

    def __call__(self, network: Network, patches: "torch.Tensor", *, fill_up: bool = False) -> "torch.Tensor":
        """Return the probabilities of patches.

        Args:
            network: Returns logits.
            patches: Patches of shape (patches, channels, y, x), channels last, on the executor's device. Not changed.
            fill_up: Fill up batches that are not full with zeros, for a network that is compiled for one size.

        Returns:
            float32 of shape (patches, y, x), 0…1.

        Raises:
            GpuMemoryError: If the memory of the GPU does not hold a single patch.
            OutputError: If the network returns an array of another shape.
        """
        import torch

        parts: list[torch.Tensor] = []
        done = 0
        while done < len(patches):
            part = patches[done : done + self._limit]
            count = len(part)
            if fill_up and count < self._limit:
                part = _filled(part, self._limit)
            try:
                parts.append(self._probabilities(network, part)[:count])
            except torch.OutOfMemoryError as error:
                reason = str(error)
            else:
                done += count
                continue
            # Outside the handler, for the traceback of the error holds on to what was allocated.
            self._limit = halve_batch(self._executor, len(part), int(patches.shape[-1]), reason)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _probabilities(self, network: Network, patches: "torch.Tensor") -> "torch.Tensor":
        if self._tta is None:
            return _sigmoid(network, patches)
        total: Any = 0
        for there, back in symmetries():
            total = total + back(_sigmoid(network, _channels_last(there(patches))))
        return total / 8


def halve_batch(executor: Executor, count: int, patch_size: int, reason: str) -> int:
    """Return half of a number of patches that the memory of the GPU did not hold, with a warning.

    Args:
        executor: The GPU, which gives back what it can.
        count: Number of patches.
        patch_size: Edge length of a patch in pixels.
        reason: What the GPU said.

    Returns:
        Half of `count`, rounded down.

    Raises:
        GpuMemoryError: If it was only one.
    """
    executor.free_memory()
    where = executor.device
    if count == 1:
        raise GpuMemoryError(
            f"The memory of {where} does not hold one patch of {patch_size} px ({reason}). Choose a smaller "
            "patch_size, a precision of 16 bits, or another device."
        )
    half = count // 2
    warnings.warn(
        f"The memory of {where} does not hold {count} patches of {patch_size} px; going on with {half} at a time. "
        "Choose a smaller batch_size to avoid this.",
        BatchHalvedWarning,
        stacklevel=2,
    )
    return half


def symmetries() -> "Iterator[tuple[Callable[[Any], Any], Callable[[Any], Any]]]":
    """Yield the eight symmetries of the square, each as a function on the last two axes and its inverse."""
    for turns in range(4):
        for flip in (False, True):
            yield _symmetry(turns, flip=flip)


def _symmetry(turns: int, *, flip: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def there(images: Any) -> Any:
        turned = images.rot90(turns, (-2, -1))
        return turned.flip(-1) if flip else turned

    def back(images: Any) -> Any:
        unflipped = images.flip(-1) if flip else images
        return unflipped.rot90(-turns, (-2, -1))

    return there, back


def _channels_last(patches: "torch.Tensor") -> "torch.Tensor":
    import torch

    return patches.contiguous(memory_format=torch.channels_last)


def _filled(patches: "torch.Tensor", count: int) -> "torch.Tensor":
    import torch

    rest = patches.new_zeros((count - len(patches), *patches.shape[1:]))
    return _channels_last(torch.cat([patches, rest]))


def _sigmoid(network: Network, patches: "torch.Tensor") -> "torch.Tensor":
    logits = network(patches)
    expected = (len(patches), 1, *patches.shape[2:])
    if tuple(logits.shape) != expected:
        raise OutputError(f"The network returned an array of shape {tuple(logits.shape)}; expected {expected}.")
    return logits[:, 0].float().sigmoid()
