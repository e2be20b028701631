"""Send a batch of patches through a network and get probabilities back."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from darts_segmentation.classes import Outputs
from darts_segmentation.engine import Network
from darts_segmentation.errors import OutputError
from darts_utils import ParameterError

if TYPE_CHECKING:
    import torch

Augmentation = Literal["d4"]
"""What test-time augmentation callers may ask for: the eight symmetries of the square."""


def check_augmentation(tta: str | None) -> Augmentation | None:
    """Return `tta` if it is "d4" or None.

    Raises:
        ParameterError: If it is not.
    """
    if tta not in (None, "d4"):
        raise ParameterError(f"tta is {tta!r}; expected None or 'd4'.")
    return tta  # type: ignore[return-value]  # just checked


def class_probabilities(
    network: Network,
    outputs: Outputs,
    patches: "torch.Tensor",
    tta: Augmentation | None = None,
    fill_to: int = 0,
    temperature: float | None = None,
) -> "torch.Tensor":
    """Return the probabilities of the classes in patches.

    Args:
        network: Returns logits.
        outputs: What they mean.
        patches: Patches of shape (patches, channels, y, x), channels last, on the engine's device. Not changed.
        tta: "d4" averages over the eight flips and rotations of each patch.
        fill_to: Patches up to which the batch is filled with zeros, for a network that is compiled for one size.
        temperature: What logits are divided by, see :class:`darts_segmentation.calibration.Calibration`.

    Returns:
        float32 of shape (patches, classes, y, x), 0…1.

    Raises:
        OutputError: If the network returns an array of another shape.
    """
    count = len(patches)
    if count < fill_to:
        patches = _filled(patches, fill_to)
    if tta is None:
        return _activated(network, outputs, patches, temperature)[:count]
    total: Any = 0
    for turn, turn_back in symmetries():
        total = total + turn_back(_activated(network, outputs, _channels_last(turn(patches)), temperature))
    return (total / 8)[:count]


def target_probability(probabilities: "torch.Tensor", outputs: Outputs) -> "torch.Tensor":
    """Return the probability of the target: that of its class, or the sum over its classes, 1 at most.

    Args:
        probabilities: float32 of shape (patches, classes, y, x).
        outputs: What they mean.

    Returns:
        float32 of shape (patches, y, x); for a single class a view.
    """
    channels = outputs.target_channels
    if len(channels) == 1:
        return probabilities[:, channels[0]]
    return probabilities[:, channels].sum(dim=1).clamp_(max=1)


def symmetries() -> "Iterator[tuple[Callable[[Any], Any], Callable[[Any], Any]]]":
    """Yield the eight symmetries of the square, each as a function on the last two axes and its inverse."""
    for turns in range(4):
        for flip in (False, True):
            yield _symmetry(turns, flip=flip)


def _symmetry(turns: int, *, flip: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def forward(images: Any) -> Any:
        turned = images.rot90(turns, (-2, -1))
        return turned.flip(-1) if flip else turned

    def inverse(images: Any) -> Any:
        unflipped = images.flip(-1) if flip else images
        return unflipped.rot90(-turns, (-2, -1))

    return forward, inverse


def _channels_last(patches: "torch.Tensor") -> "torch.Tensor":
    import torch

    return patches.contiguous(memory_format=torch.channels_last)


def _filled(patches: "torch.Tensor", count: int) -> "torch.Tensor":
    import torch

    rest = patches.new_zeros((count - len(patches), *patches.shape[1:]))
    return _channels_last(torch.cat([patches, rest]))


def _activated(
    network: Network, outputs: Outputs, patches: "torch.Tensor", temperature: float | None
) -> "torch.Tensor":
    logits = network(patches)
    expected = (len(patches), len(outputs.classes), *patches.shape[2:])
    if tuple(logits.shape) != expected:
        raise OutputError(f"The network returned an array of shape {tuple(logits.shape)}; expected {expected}.")
    logits = logits.float()
    if temperature is not None:
        logits = logits / temperature
    return logits.softmax(dim=1) if outputs.activation == "softmax" else logits.sigmoid()
