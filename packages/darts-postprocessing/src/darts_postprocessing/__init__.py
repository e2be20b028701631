"""From probabilities to clean objects: mask erosion and binarisation."""

from typing import TYPE_CHECKING

from darts_postprocessing.export import prepare_export
from darts_postprocessing.masks import erode_mask
from darts_postprocessing.objects import binarize
from darts_postprocessing.version import RESULTS_VERSION
from darts_utils.lazy import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-postprocessing")

__all__ = ["RESULTS_VERSION", "binarize", "erode_mask", "prepare_export"]
