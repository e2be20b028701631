"""From probabilities to clean objects: mask erosion and binarisation."""

from darts_postprocessing.export import prepare_export
from darts_postprocessing.masks import erode_mask
from darts_postprocessing.objects import binarize

__all__ = ["binarize", "erode_mask", "prepare_export"]
