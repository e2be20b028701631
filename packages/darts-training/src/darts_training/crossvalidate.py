"""Cross validation: every fold is measured by a model that has not seen it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from darts_evaluation import Evaluation, to_json
from darts_segmentation import read_model
from darts_segmentation.device import choose_device
from darts_segmentation.network import load_network, place_network
from darts_training.errors import writing
from darts_training.folds import Folds
from darts_training.heldout import HeldOut, evaluate_held_out, joined, predict_held_out
from darts_training.networks import predictor
from darts_training.options import TrainingOptions
from darts_training.samples import Samples
from darts_training.trainer import Trained, train
from darts_utils import write_atomically

RECORD = "cross-validation.json"


def cross_validate(
    samples: Samples,
    out: Path | str,
    options: TrainingOptions | None = None,
    *,
    folds: Folds,
    on_fold: Callable[[int], object] | None = None,
    **training: Any,
) -> tuple[list[Trained], Evaluation]:
    """Train a model for each fold, without that fold, and measure all ground by models that have not seen it.

    Args:
        samples: What to train on.
        out: Folder; the models go to ``fold-1`` and so on below it, the figures into ``cross-validation.json``.
        options: As for :func:`train`.
        folds: Divides the ground.
        on_fold: Is told which fold begins, from 0 on.
        **training: Further arguments of :func:`train`.

    Returns:
        The models, and the figures of all ground together.

    Raises:
        SamplesError: As :func:`train`.
        TrainingError: As :func:`train`.
        WritingError: As :func:`train`.
    """
    out, options = Path(out), options or TrainingOptions()
    device = choose_device(training.get("device"))
    trained: list[Trained] = []
    found: dict[str, HeldOut] = {}
    for fold in range(folds.count):
        if on_fold is not None:
            on_fold(fold)
        each = train(samples, out / f"fold-{fold + 1}", options, folds=folds, test=(fold,), **training)
        trained.append(each)
        model = read_model(each.path)
        network = load_network(model.card, model.state_dict)
        place_network(network, device)
        for part in predict_held_out(samples, folds, [fold], predictor(network, model.card, device)):
            before = found.get(part.tile.tile_id)
            found[part.tile.tile_id] = part if before is None else joined(before, part)
    evaluation = evaluate_held_out(list(found.values()), options.min_object_px)
    text = json.dumps(to_json(evaluation), indent=2) + "\n"
    with writing(out):
        write_atomically(out / RECORD, text.encode())
    return trained, evaluation
