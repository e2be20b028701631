"""The loss: focal plus an overlap loss, where pixels are labelled."""

import torch
from torch.nn import functional

from darts_training.labels import UNLABELLED

_TVERSKY = {"dice": (0.5, 0.5), "tversky": (0.3, 0.7)}
"""Weights of false alarms and of misses; with one half each, Tversky's index is Dice's."""
_SMOOTH = 1.0


def loss_of(logits: torch.Tensor, labels: torch.Tensor, *, gamma: float, overlap: str) -> torch.Tensor:
    """Return the loss of a batch.

    The focal loss is ``-(1 - q)^gamma log q`` with q the probability of what is right (Lin et al. 2017, equation 4),
    averaged over labelled pixels; the overlap loss is one minus Tversky's index over all of them (Salehi et al. 2017).

    Args:
        logits: Real numbers (patches, 1, y, x).
        labels: uint8 (patches, y, x): 1 slump, 0 none, 255 not labelled.
        gamma: Exponent of the focal loss.
        overlap: "dice" or "tversky".

    Returns:
        A number; 0 where nothing is labelled, with a gradient of 0.
    """
    counts = (labels != UNLABELLED).unsqueeze(1).to(logits.dtype)
    truth = (labels == 1).unsqueeze(1).to(logits.dtype)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if gamma:
        entropy = entropy * (1 - (-entropy).exp()).clamp(min=0) ** gamma
    focal = (entropy * counts).sum() / counts.sum().clamp(min=1)
    probability = logits.sigmoid() * counts
    hits = (probability * truth).sum()
    alarms, misses = (probability * (1 - truth)).sum(), (truth * counts).sum() - hits
    alarm_weight, miss_weight = _TVERSKY[overlap]
    index = (hits + _SMOOTH / 2) / (hits + alarm_weight * alarms + miss_weight * misses + _SMOOTH / 2)
    return focal + 1 - index
