"""Say how good a map of thaw slumps is: figures with 95 % intervals, from labels."""

from .agreement import Agreement as Agreement
from .agreement import majority as majority
from .agreement import measure_agreement as measure_agreement
from .errors import FewBlocksWarning as FewBlocksWarning
from .errors import LabelsError as LabelsError
from .errors import NoLabelAreaWarning as NoLabelAreaWarning
from .errors import PredictionsError as PredictionsError
from .errors import RepairedLabelsWarning as RepairedLabelsWarning
from .evaluate import Evaluation as Evaluation
from .evaluate import TileFigures as TileFigures
from .evaluate import evaluate as evaluate
from .intervals import Figure as Figure
from .labels import Labels as Labels
from .labels import make_labels as make_labels
from .labels import read_labels as read_labels
from .matching import Overlaps as Overlaps
from .matching import Ranking as Ranking
from .matching import match as match
from .predictions import TileMap as TileMap
from .predictions import find_results as find_results
from .predictions import mapped_objects as mapped_objects
from .predictions import read_tile_map as read_tile_map
from .report import to_json as to_json
from .report import write_report as write_report

__version__: str
