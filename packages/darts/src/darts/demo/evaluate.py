"""Score a model on made-up landscapes, through the stages of the real pipeline."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from darts.demo.auxiliary import arcticdem_dataset
from darts.demo.landscape import make_landscape
from darts.demo.sample import optical_dataset
from darts.demo.scoring import Score, score


def evaluate(model: Path, seed: int, size: int) -> Score:
    """Map the slumps of a landscape with the pipeline's defaults, and score the map.

    Args:
        model: Model file or folder. Its bands must not need TCVIS.
        seed: Seed of the landscape.
        size: Rows and columns of the landscape, pixels of 3 m.

    Returns:
        The score inside the reliable area.
    """
    from darts_postprocessing import prepare_export
    from darts_preprocessing import preprocess_v2
    from darts_segmentation import EnsembleV1

    landscape = make_landscape(seed, size)
    tile = preprocess_v2(optical_dataset(landscape), arcticdem_dataset(landscape), None, device="cpu")
    tile = EnsembleV1({"demo": model}, device="cpu").segment_tile(tile)
    tile = prepare_export(tile, quality_level=1, device="cpu")
    return score(tile["binarized_segmentation"].values, landscape.label, tile["extent"].values > 0)


def summarize(scores: Sequence[Score]) -> dict[str, float]:
    """Return what a model card says of several scores: the mean and the worst of IoU and object F1."""
    figures = {"iou": [one.iou for one in scores], "object_f1": [one.f1 for one in scores]}
    return {
        f"{kind}_{name}": round(float(reduce(values)), 3)
        for name, values in figures.items()
        for kind, reduce in (("mean", np.mean), ("lowest", np.min))
    }
