"""Train the demo model on made-up landscapes: ``python -m darts.demo.train``.

Deterministic: the same versions on the same kind of machine give the same model.
"""

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darts.demo.evaluate import MIN_IOU, evaluate_model, summarize
from darts.demo.model_file import MODEL_FILE
from darts.demo.patches import BANDS, Example, draw_patches, make_example

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TRAINING_SEEDS = range(1000, 1016)
TEST_SEEDS = range(2000, 2004)
ARCHITECTURE = {
    "arch": "unet",
    "encoder_name": "tu-mobilenetv3_small_050",
    "encoder_depth": 5,
    "decoder_channels": [64, 48, 32, 16, 8],
}
_SIZE_PX, _PATCH_PX, _BATCH, _STEPS = 1024, 256, 8, 700
_SLUMPS_PER_KM2 = 2.5
_NEAR_SLUMPS = 0.45  # share of patches that hold a slump for certain
_RATE = 4e-3


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compare with the truth on landscapes that were not trained on, and write the model."""
    parser = argparse.ArgumentParser(prog="python -m darts.demo.train", description=main.__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_FILE, help="model to write (default: the package's)")
    parser.add_argument("--steps", type=int, default=_STEPS, help="batches to train on (default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    start = time.perf_counter()
    examples = [make_example(seed, _SIZE_PX, _SLUMPS_PER_KM2) for seed in TRAINING_SEEDS]
    logger.info("%d landscapes after %.0f s", len(examples), time.perf_counter() - start)
    network = train(examples, options.steps)
    save(network, options.output)
    found = [evaluate_model(options.output, seed, _SIZE_PX) for seed in TEST_SEEDS]
    for seed, one in zip(TEST_SEEDS, found, strict=True):
        iou, f1 = one.figures["pixels"]["iou"].value, one.figures["objects"][f"f1@{MIN_IOU}"].value
        logger.info("landscape %d: IoU %.3f, object F1 %.3f", seed, iou, f1)
    save(network, options.output, summarize(found))
    logger.info("model in %s after %.0f s", options.output, time.perf_counter() - start)


def train(examples: Sequence[Example], steps: int = _STEPS) -> "torch.nn.Module":
    """Train a network.

    Args:
        examples: What to train on.
        steps: Batches to train on.

    Returns:
        The network, in evaluation mode.
    """
    with _repeatable():
        return _train(examples, steps)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Make torch give the same numbers each time: fixed seed, one thread, no algorithm that adds up as it likes."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(threads)


def _train(examples: Sequence[Example], steps: int) -> "torch.nn.Module":
    import torch

    network = build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_RATE, total_steps=steps, pct_start=0.15)
    batches = draw_patches(np.random.default_rng(0), examples, _BATCH, _PATCH_PX, _NEAR_SLUMPS)
    network.train()
    recent, start = [], time.perf_counter()
    for number, batch in zip(range(1, steps + 1), batches, strict=False):
        bands, truth, counts = (torch.from_numpy(part) for part in batch)
        loss = _loss(network(bands.to(memory_format=torch.channels_last)), truth, counts)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if number % 50 == 0:
            seconds = time.perf_counter() - start
            logger.info("step %d of %d: loss %.4f, %.0f s", number, steps, np.mean(recent[-50:]), seconds)
    return network.eval()


def build() -> "torch.nn.Module":
    """Build the untrained network; nothing is fetched."""
    import segmentation_models_pytorch as smp

    architecture: dict[str, Any] = dict(ARCHITECTURE)
    return smp.create_model(**architecture, encoder_weights=None, in_channels=len(BANDS), classes=1)


def _loss(logits: "torch.Tensor", truth: "torch.Tensor", counts: "torch.Tensor") -> "torch.Tensor":
    """Binary cross entropy plus Dice loss (Milletari et al. 2016), where errors count."""
    from torch.nn import functional

    entropy = functional.binary_cross_entropy_with_logits(logits, truth, weight=counts, reduction="sum") / counts.sum()
    probability = logits.sigmoid() * counts
    truth = truth * counts
    dice = 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    return entropy + dice


def save(network: "torch.nn.Module", path: Path, metrics: dict[str, float] | None = None) -> None:
    """Write the network and its model card.

    Args:
        network: What to write.
        path: Folder or ``.safetensors`` file to write.
        metrics: What was measured with it.
    """
    from darts_segmentation import ModelCard, save_model

    card = ModelCard(
        name="darts-demo",
        version="1",
        architecture=ARCHITECTURE,
        bands=BANDS,
        patch_size=_PATCH_PX,
        training_data=(
            f"{len(TRAINING_SEEDS)} made-up landscapes of {_SIZE_PX} × {_SIZE_PX} pixels of 3 m, seeds "
            f"{TRAINING_SEEDS.start} to {TRAINING_SEEDS.stop - 1} of darts.demo; no real image. "
            f"Made by python -m darts.demo.train. Measured on seeds {TEST_SEEDS.start} to {TEST_SEEDS.stop - 1}."
        ),
        license="MIT",
        metrics=metrics or {},
        description=(
            "For demonstration only: it knows made-up landscapes and no real ones. Never use what it finds in science."
        ),
    )
    save_model(path, network, card)


if __name__ == "__main__":
    main()
