"""One dataset of thaw slumps out of the results of many scenes: merged, with ids over years, looks and coverage."""

from .checks import Checked as Checked
from .checks import check as check
from .checks import info as info
from .dataset import Built as Built
from .dataset import build as build
from .errors import CloudyGroundWarning as CloudyGroundWarning
from .errors import DatasetError as DatasetError
from .errors import LeftOutWarning as LeftOutWarning
from .errors import MixedResultsWarning as MixedResultsWarning

__version__: str
