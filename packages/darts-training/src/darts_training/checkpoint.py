"""The state of a training, written whole, so that a run that was killed goes on as if nothing had happened."""

import errno
import os
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch

from darts_training.errors import TrainingError, writing
from darts_utils import atomic_path

NAME = "checkpoint.pt"
_FULL_BYTES = 2**24
"""Free space below which torch's error while it writes is taken for that of a full disk."""
Stateful = torch.nn.Module | torch.optim.Optimizer


@dataclass
class Progress:
    """How far a training is, beside its weights. Batches and noise are functions of seed and step.

    Attributes:
        step: Batches done.
        losses: Loss of each batch of the round that is under way.
        history: A row per round: `epoch`, `step`, `learning_rate`, `loss`, and with validation blocks `object_f1` and
            `iou`.
        best: Weights of the best round so far, None where no round is better than another.
        best_epoch: That round, 0 for none.
        best_score: F1 of objects and IoU of pixels then.
        threads: Threads of the CPU that the training began with, 0 where a release before did not keep them.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] | None = None
    best_epoch: int = 0
    best_score: tuple[float, float] = (-1.0, -1.0)
    threads: int = 0


def save_checkpoint(folder: Path, fingerprint: str, progress: Progress, **parts: Stateful) -> None:
    """Write a checkpoint in place of the one before.

    Args:
        folder: Folder of the model.
        fingerprint: What the training depends on.
        progress: How far it is.
        **parts: What has a ``state_dict``.

    Raises:
        WritingError: If it cannot be written. The one before is still there.
    """
    content = {"fingerprint": fingerprint, "progress": vars(progress)}
    content |= {name: part.state_dict() for name, part in parts.items()}
    path = folder / NAME
    # A network in another memory order would add up in another order: strides are kept with the tensors.
    with writing(path), atomic_path(path) as draft:
        try:
            torch.save(content, draft)
        except RuntimeError as error:  # which torch makes of a disk that is full
            if shutil.disk_usage(folder).free < _FULL_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise OSError(f"{error}".splitlines()[0]) from error


def load_checkpoint(folder: Path, fingerprint: str, device: torch.device, **parts: Stateful) -> Progress | None:
    """Bring a training to where a checkpoint has it.

    Args:
        folder: Folder of the model.
        fingerprint: What the training depends on.
        device: Where it runs.
        **parts: What has a ``load_state_dict``.

    Returns:
        How far it was; None where there is no checkpoint.

    Raises:
        TrainingError: If the checkpoint is that of another training, or damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        same = content["fingerprint"] == fingerprint
        if same:
            for name, part in parts.items():
                part.load_state_dict(content[name])
            progress = Progress(**content["progress"])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{path} is damaged ({reason}); remove it to begin anew.") from error
    if not same:
        raise TrainingError(
            f"{path} belongs to a training with other options, samples or folds; continue that one, remove it, or "
            "train into another folder."
        )
    return progress
