"""One dataset of thaw slumps out of the results of many scenes: merged, with ids over years, looks and coverage."""

from typing import TYPE_CHECKING

from darts_dataset.checks import Checked, check, info
from darts_dataset.dataset import Built, build
from darts_dataset.errors import DatasetError, LeftOutWarning
from darts_utils.lazy import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-dataset")

__all__ = ["Built", "Checked", "DatasetError", "LeftOutWarning", "build", "check", "info"]
