"""What numpy and torch name differently: the few operations on patches that every engine needs."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Array = Union[NDArray, "torch.Tensor"]
"""What a tile's bands, patches and layers are: arrays of numpy, or tensors."""


def namespace(array: object) -> ModuleType:
    """Return the module whose functions take an array: numpy, or torch, which is loaded where there is a tensor."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def upload(array: NDArray, device: "torch.device") -> "torch.Tensor":
    """Return an array as a tensor on a device; to a GPU from page-locked memory, so that nobody waits for the copy."""
    import torch

    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def in_order(patches: Array) -> Any:
    """Return patches in the memory order that networks take, without a copy where they are.

    Args:
        patches: (patches, channels, y, x); of torch they become channels last, of numpy as their shape says.
    """
    if isinstance(patches, np.ndarray):
        return np.ascontiguousarray(patches)
    return patches.contiguous(memory_format=namespace(patches).channels_last)


def duplicate(array: Array) -> Array:
    """Return a copy of an array."""
    return array.copy() if isinstance(array, np.ndarray) else array.clone()


def scaled(logits: Array, temperature: float) -> Array:
    """Return logits divided by a temperature, as a new array float32."""
    wide = logits.astype(np.float32) if isinstance(logits, np.ndarray) else logits.float()
    return wide / temperature


def logit(probabilities: Array) -> Any:
    """Return log(p / (1 − p)), infinite for 0 and 1, as a new array.

    Examples:
        >>> logit(np.array([0.0, 0.5, 1.0])).tolist()
        [-inf, 0.0, inf]
    """
    if not isinstance(probabilities, np.ndarray):
        return probabilities.logit()
    with np.errstate(divide="ignore"):
        return np.log(probabilities / (1 - probabilities))


def sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + exp(−logits)) as a new array float32.

    Examples:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0], "float32")).tolist()
        [0.0, 0.5, 1.0]
    """
    if not isinstance(logits, np.ndarray):
        return logits.float().sigmoid()
    small = np.exp(-np.abs(logits, dtype=np.float32))
    return np.where(logits < 0, small, np.float32(1)) / (1 + small)


def softmax(logits: Array) -> Array:
    """Return exp(logits) / Σ exp(logits) over the second axis as a new array float32.

    Examples:
        >>> softmax(np.array([[0.0, 1000.0]], "float32")).tolist()
        [[0.0, 1.0]]
    """
    if not isinstance(logits, np.ndarray):
        return logits.float().softmax(dim=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
    return powers / powers.sum(axis=1, keepdims=True)
