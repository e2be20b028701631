"""Train the demo model on made-up landscapes: ``python -m darts.demo.train``.

Deterministic: the same versions on the same kind of machine give the same model.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np

import darts_training
from darts.demo.evaluate import MIN_IOU, evaluate_model, summarize
from darts.demo.model_file import MODEL_FILE
from darts_demo import arcticdem_dataset, make_landscape, optical_dataset, truth_polygons
from darts_evaluation import make_labels
from darts_preprocessing import preprocess_v2
from darts_segmentation import Channel, read_model, save_model
from darts_utils import OPTICAL_BANDS, get_band

logger = logging.getLogger(__name__)

BANDS = (*OPTICAL_BANDS, "ndvi", "relative_elevation", "slope")
"""What the demo model sees, in its order."""
TRAINING_SEEDS = range(1000, 1016)
TEST_SEEDS = range(2000, 2004)
ENCODER = "tu-mobilenetv3_small_050"
_SIZE_PX, _SAMPLE_PX, _OVERLAP_PX, _PATCH_PX, _STEPS = 1024, 544, 62, 256, 700
_SLUMPS_PER_KM2 = 2.5


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compare with the truth on landscapes that were not trained on, and write the model."""
    parser = argparse.ArgumentParser(prog="python -m darts.demo.train", description=main.__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_FILE, help="model to write (default: the package's)")
    parser.add_argument("--steps", type=int, default=_STEPS, help="batches to train on (default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="darts-demo-training-") as folder:
        samples = make_samples(Path(folder) / "samples", TRAINING_SEEDS)
        logger.info("%d samples after %.0f s", samples.count, time.perf_counter() - start)
        trained = darts_training.train(
            samples, Path(folder) / "model", training_options(options.steps), folds=None, device="cpu"
        )
        save(trained.path, options.output)
    found = [evaluate_model(options.output, seed, _SIZE_PX) for seed in TEST_SEEDS]
    for seed, one in zip(TEST_SEEDS, found, strict=True):
        iou, f1 = one.figures["pixels"]["iou"].value, one.figures["objects"][f"f1@{MIN_IOU}"].value
        logger.info("landscape %d: IoU %.3f, object F1 %.3f", seed, iou, f1)
    save(options.output, options.output, summarize(found))
    logger.info("model in %s after %.0f s: %s", options.output, time.perf_counter() - start, summarize(found))


def training_options(steps: int = _STEPS) -> darts_training.TrainingOptions:
    """Return how the demo model is trained: on all landscapes, for a fixed number of batches."""
    return darts_training.TrainingOptions(
        encoder=ENCODER,
        architecture=(("encoder_depth", 5), ("decoder_channels", [64, 48, 32, 16, 8])),
        epochs=1,
        steps_per_epoch=steps,
        crop=_PATCH_PX,
        slump_share=0.45,
        learning_rate=4e-3,
        warmup=0.15,
        focal_gamma=0.0,
        ema=0.98,
        patience=None,
        threads=2,
    )


def make_samples(folder: Path, seeds: Iterable[int]) -> darts_training.Samples:
    """Make landscapes, bring them through the real preprocessing, and cut them into samples.

    Slumps that a cloud hides are not labelled.
    """
    channels = tuple(Channel(name, float(get_band(name).low), float(get_band(name).high)) for name in BANDS)
    form = darts_training.SampleFormat(
        channels=channels, patch_size=_SAMPLE_PX, overlap=_OVERLAP_PX, dtype="float16", source="darts.demo"
    )
    darts_training.begin_samples(folder, form)
    for seed in seeds:
        landscape = make_landscape(seed, _SIZE_PX, _SLUMPS_PER_KM2)
        tile = preprocess_v2(optical_dataset(landscape), arcticdem_dataset(landscape), None, device="cpu")
        hidden = (landscape.udm[4:6] > 0).any(axis=0) & (landscape.label > 0)
        tile["quality_data_mask"] = tile["quality_data_mask"].where(~hidden, np.uint8(0))
        truth = truth_polygons(landscape)
        labels = make_labels(truth, gpd.GeoSeries([landscape.geobox.extent.geom], crs=truth.crs))
        darts_training.write_tile_samples(folder, form, tile, f"landscape-{seed}", labels)
    return darts_training.finish_samples(folder)


def save(source: Path, path: Path, metrics: dict[str, float] | None = None) -> None:
    """Write the network with the model card of the demo."""
    model = read_model(source)
    card = replace(
        model.card,
        name="darts-demo",
        version="2",
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
    save_model(path, model.state_dict, card)


if __name__ == "__main__":
    main()
