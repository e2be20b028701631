"""Send a batch of patches through a network and get probabilities back."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from darts_segmentation.arrays import Array, in_order, namespace, scaled, sigmoid, softmax
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
    patches: Any,
    tta: Augmentation | None = None,
    fill_to: int = 0,
    temperature: float | None = None,
) -> Any:
    """Return the probabilities of the classes in patches.

    Args:
        network: Returns logits.
        outputs: What they mean.
        patches: Patches of shape (patches, channels, y, x), as :meth:`PatchLoader.load` returns them. Not changed.
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
        total = total + turn_back(_activated(network, outputs, in_order(turn(patches)), temperature))
    return (total / 8)[:count]


def target_probability(probabilities: Array, outputs: Outputs) -> Any:
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
    return probabilities[:, channels].sum(1).clip(max=1)


def symmetries() -> Iterator[tuple[Callable[[Array], Array], Callable[[Array], Array]]]:
    """Yield the eight symmetries of the square, each as a function on the last two axes and its inverse."""
    for turns in range(4):
        for flip in (False, True):
            yield _symmetry(turns, flip=flip)


def _symmetry(turns: int, *, flip: bool) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    def flipped(images: Array) -> Array:
        return namespace(images).flip(images, (-1,)) if flip else images

    def forward(images: Array) -> Array:
        return flipped(namespace(images).rot90(images, turns, (-2, -1)))

    def inverse(images: Array) -> Array:
        return namespace(images).rot90(flipped(images), -turns, (-2, -1))

    return forward, inverse


def _filled(patches: "torch.Tensor", count: int) -> "torch.Tensor":
    import torch

    rest = patches.new_zeros((count - len(patches), *patches.shape[1:]))
    return in_order(torch.cat([patches, rest]))


def _activated(network: Network, outputs: Outputs, patches: Array, temperature: float | None) -> Array:
    logits = network(patches)
    expected = (len(patches), len(outputs.classes), *patches.shape[2:])
    if tuple(logits.shape) != expected:
        raise OutputError(f"The network returned an array of shape {tuple(logits.shape)}; expected {expected}.")
    if temperature is not None:
        logits = scaled(logits, temperature)
    return softmax(logits) if outputs.activation == "softmax" else sigmoid(logits)
