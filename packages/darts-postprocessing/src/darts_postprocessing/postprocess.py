"""The stage under the names that the first DARTS has for it.

``DEFAULT_DEVICE`` is "cuda" where a GPU works and "cpu" elsewhere, which is found out when somebody asks for it.
"""

from typing import TYPE_CHECKING

from darts_postprocessing.backends import TRIAL
from darts_postprocessing.backends.cuda import CUCIM_AVAILABLE
from darts_postprocessing.export import prepare_export
from darts_postprocessing.masks import erode_mask
from darts_postprocessing.objects import binarize
from darts_utils import resolve_device

if TYPE_CHECKING:
    DEFAULT_DEVICE: str

__all__ = ["CUCIM_AVAILABLE", "DEFAULT_DEVICE", "binarize", "erode_mask", "prepare_export"]


def __getattr__(name: str) -> str:
    """Return ``DEFAULT_DEVICE``."""
    if name != "DEFAULT_DEVICE":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_device(None, trial=TRIAL).type
