"""Compare maps of made-up landscapes with the truth."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from shapely.geometry.base import BaseGeometry

from darts_demo import Landscape, arcticdem_dataset, make_landscape, optical_dataset, truth_polygons
from darts_evaluation import Evaluation, FewBlocksWarning, TileMap, evaluate, make_labels, mapped_objects
from darts_postprocessing import prepare_export
from darts_preprocessing import preprocess_v2
from darts_segmentation import EnsembleV1

MIN_IOU = 0.5
"""Overlap from which an object counts as found. From one half on, no object can match two others (Kirillov et al.
2019, "Panoptic Segmentation", section 4.1)."""
MIN_PIXELS = 32
"""Objects and slumps of less do not count: the pipeline's default drops objects of that size."""
_PIXEL_M2 = 9.0


def compare_with_truth(
    predictions: "str | os.PathLike[str] | TileMap", truth: gpd.GeoDataFrame, landscape_area: BaseGeometry
) -> Evaluation:
    """Compare a map with the true outlines, inside the reliable area.

    Args:
        predictions: Folder of results, or the map itself.
        truth: The true outlines, see `truth_polygons`.
        landscape_area: Outline of the image, in the CRS of `truth`.

    Returns:
        The figures; objects and slumps of less than 32 pixels do not count as objects.
    """
    labels = make_labels(truth, gpd.GeoSeries([landscape_area], crs=truth.crs))
    given: Any = [predictions] if isinstance(predictions, TileMap) else predictions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewBlocksWarning)  # A small area is no mistake of whoever tries the demo.
        return evaluate(given, labels, min_object_m2=(MIN_PIXELS - 0.5) * _PIXEL_M2)


def evaluate_model(model: Path, seed: int, size: int) -> Evaluation:
    """Map the slumps of a landscape with the pipeline's defaults, and compare the map with the truth.

    Args:
        model: Model file or folder. Its bands must not need TCVIS.
        seed: Seed of the landscape.
        size: Rows and columns of the landscape, pixels of 3 m.

    Returns:
        The figures inside the reliable area.
    """
    landscape = make_landscape(seed, size)
    tile = preprocess_v2(optical_dataset(landscape), arcticdem_dataset(landscape), None, device="cpu")
    tile = EnsembleV1({"demo": model}, device="cpu").segment_tile(tile)
    tile = prepare_export(tile, quality_level=1, device="cpu")
    found = map_of(landscape, tile["binarized_segmentation"].values, tile["extent"].values > 0)
    return compare_with_truth(found, truth_polygons(landscape), landscape.geobox.extent.geom)


def map_of(landscape: Landscape, mapped: np.ndarray, seen: np.ndarray) -> TileMap:
    """Return a map of a landscape as the evaluation takes it.

    Args:
        landscape: What is mapped.
        mapped: 2-D bool, where the map says slump.
        seen: 2-D bool, where it is reliable.

    Returns:
        The map, with its 8-connected areas as objects and without probabilities.
    """
    geobox = landscape.geobox
    mapped = np.asarray(mapped, bool) & seen
    crs = str(geobox.crs)
    return TileMap("demo", crs, geobox.affine, mapped, seen, mapped_objects(mapped, geobox.affine, crs))


def summarize(evaluations: "Sequence[Evaluation]") -> dict[str, float]:
    """Return what a model card says of several landscapes: the mean and the worst of IoU and object F1."""
    figures = {
        "iou": [one.figures["pixels"]["iou"].value for one in evaluations],
        "object_f1": [one.figures["objects"][f"f1@{MIN_IOU}"].value for one in evaluations],
    }
    return {
        f"{kind}_{name}": round(float(reduce(values)), 3)
        for name, values in figures.items()
        for kind, reduce in (("mean", np.mean), ("lowest", np.min))
    }
