"""Train on the experts' consensus of Peel Plateau: three strips, each mapped by a model that has not seen it."""

import sys
import time
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darts_acquisition import load_planet_masks, load_planet_scene
from darts_evaluation import Evaluation, read_labels
from darts_preprocessing import preprocess_v2
from darts_segmentation import Channel, read_model
from darts_segmentation.network import load_network
from darts_training import (
    Folds,
    SampleFormat,
    Samples,
    TrainingOptions,
    agreed,
    begin_samples,
    cross_validate,
    finish_samples,
    train,
    write_tile_samples,
)
from darts_training.heldout import HeldOut, evaluate_held_out, joined, predict_held_out
from darts_training.networks import predictor
from darts_utils import get_band

BANDS = ("blue", "green", "red", "nir", "ndvi")
STEPS = 300
MIN_OBJECT_PX = 10
BUFFER_M = 50.0
OPTIONS = TrainingOptions(
    encoder="resnet18",
    architecture=(("encoder_depth", 4), ("decoder_channels", [64, 32, 16, 16])),
    epochs=1,
    steps_per_epoch=STEPS,
    batch_size=8,
    crop=64,
    slump_share=0.35,
    learning_rate=2e-3,
    brightness=0.0,
    focal_gamma=0.0,
    ema=0.98,
    patience=None,
    min_object_px=MIN_OBJECT_PX,
    threads=1,
)


def make_samples(peel: Path, out: Path) -> Samples:
    """Cut the scene into samples, as ``darts training-data create planet`` does."""
    scene_dir = next((peel / "planet_layout" / "scenes").iterdir())
    scene = load_planet_scene(scene_dir)
    tile = preprocess_v2(scene.assign(load_planet_masks(scene_dir, scene=scene).data_vars), None, None, device="cpu")
    channels = tuple(Channel(band, get_band(band).low, get_band(band).high) for band in BANDS)
    form = SampleFormat(channels=channels, patch_size=256)
    begin_samples(out, form)
    labels = agreed(read_labels(peel / "experts.gpkg", peel / "aoi.geojson"))
    write_tile_samples(out, form, tile, scene_dir.name, labels)
    return finish_samples(out)


def three_strips(samples: Samples) -> Folds:
    """Divide the scene into three strips from south to north."""
    tile = samples.tiles[0]
    height = -tile.transform.e * tile.shape[0]
    fold_of = {(row, 0): row for row in range(3)}
    return Folds(tile.crs, (height / 3 + 1, 1e7), BUFFER_M, fold_of, 3, (tile.transform.f - height, 0.0))


def best_threshold(samples: Samples) -> tuple[float, float]:
    """Return the best IoU and the best F1 of objects that any threshold on NDVI reaches on the same ground."""
    tile = samples.tiles[0]
    values, labels = tile.read(0)
    top, left = -int(tile.rows[0]), -int(tile.columns[0])
    window = np.s_[top : top + tile.shape[0], left : left + tile.shape[1]]
    ndvi, labels = 2 * values[BANDS.index("ndvi")][window] - 1, labels[window]
    found = []
    for threshold in np.arange(0.1, 0.8, 0.02):
        held = HeldOut(tile, np.where(ndvi < threshold, 1, 0).astype(np.float32), labels == 1, labels != 255)
        figures = evaluate_held_out([held], MIN_OBJECT_PX, block_m=200).figures
        found.append((figures["pixels"]["iou"].value, figures["objects"]["f1@0.3"].value))
    iou, f1 = zip(*found, strict=True)
    return max(iou), max(f1)


@dataclass(frozen=True)
class Outcome:
    """Figures of a seed."""

    seed: int
    seconds: float
    evaluation: Evaluation

    def __str__(self) -> str:
        return f"seed {self.seed}: {describe(self.evaluation)}, {self.seconds:.0f} s"


def run_seed(samples: Samples, out: Path, seed: int, **changes: Any) -> Outcome:
    """Train three models, and map each strip by the one that has not seen it."""
    begin = time.perf_counter()
    options = replace(OPTIONS, seed=seed, **changes)
    _, evaluation = cross_validate(samples, out, options, folds=three_strips(samples), device="cpu")
    return Outcome(seed, time.perf_counter() - begin, evaluation)


def fine_tune(samples: Samples, out: Path, seed: int) -> dict[str, Evaluation]:
    """Train on the labels of one strip, with and without a model of another, and map the third strip each time.

    Returns:
        Figures over all three strips: "other", of models that know one other strip; "scratch", of models that begin
        with random weights on the strip whose labels are at hand; "tuned", of "other" after that strip.
    """
    folds, options = three_strips(samples), replace(OPTIONS, seed=seed)
    tuning = replace(options, steps_per_epoch=STEPS // 2, learning_rate=options.learning_rate / 4)
    single = [
        train(samples, out / f"strip-{own}", options, folds=folds, test=_others(own), device="cpu").path
        for own in range(3)
    ]
    found: dict[str, list[HeldOut]] = {"other": [], "scratch": [], "tuned": []}
    for test in range(3):
        other, own = ((test + step) % 3 for step in (1, 2))
        tuned = train(
            samples, out / f"tuned-{test}", tuning, folds=folds, test=_others(own), base=single[other], device="cpu"
        )
        for name, path in (("other", single[other]), ("scratch", single[own]), ("tuned", tuned.path)):
            model = read_model(path)
            predict = predictor(load_network(model.card, model.state_dict), model.card, torch.device("cpu"))
            found[name] += predict_held_out(samples, folds, [test], predict)
    return {name: evaluate_held_out([reduce(joined, parts)], MIN_OBJECT_PX) for name, parts in found.items()}


def _others(strip: int) -> tuple[int, int]:
    return (strip + 1) % 3, (strip + 2) % 3


def describe(evaluation: Evaluation) -> str:
    """Return the two headline figures with their intervals."""
    figures = evaluation.figures["pixels"]["iou"], evaluation.figures["objects"]["f1@0.3"]
    spans = [f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for each in figures]
    return f"IoU {spans[0]}, object F1 {spans[1]}"


def main() -> None:
    peel, out = Path(sys.argv[1]), Path(sys.argv[2])
    samples = make_samples(peel, out / "samples")
    if sys.argv[3:4] == ["tune"]:
        for seed in map(int, sys.argv[4:] or "012"):
            for name, evaluation in fine_tune(samples, out / f"tune-{seed}", seed).items():
                print(f"seed {seed}, {name}: {describe(evaluation)}", flush=True)
        return
    print("NDVI:", best_threshold(samples), flush=True)
    for seed in map(int, sys.argv[3:] or "012"):
        print(run_seed(samples, out / f"seed-{seed}", seed), flush=True)


if __name__ == "__main__":
    main()
