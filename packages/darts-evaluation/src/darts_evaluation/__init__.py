"""Say how good a map of thaw slumps is: figures with 95 % intervals, from labels."""

from typing import TYPE_CHECKING

from darts_evaluation.agreement import Agreement, majority, measure_agreement
from darts_evaluation.errors import (
    FewBlocksWarning,
    LabelsError,
    NoLabelAreaWarning,
    PredictionsError,
    RepairedLabelsWarning,
)
from darts_evaluation.evaluate import Evaluation, TileFigures, evaluate
from darts_evaluation.intervals import Figure
from darts_evaluation.labels import Labels, make_labels, read_labels
from darts_evaluation.matching import Overlaps, Ranking, match
from darts_evaluation.predictions import TileMap, find_results, mapped_objects, read_tile_map
from darts_evaluation.report import to_json, write_report
from darts_utils.version import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-evaluation")

__all__ = [
    "Agreement",
    "Evaluation",
    "FewBlocksWarning",
    "Figure",
    "Labels",
    "LabelsError",
    "NoLabelAreaWarning",
    "Overlaps",
    "PredictionsError",
    "Ranking",
    "RepairedLabelsWarning",
    "TileFigures",
    "TileMap",
    "evaluate",
    "find_results",
    "majority",
    "make_labels",
    "mapped_objects",
    "match",
    "measure_agreement",
    "read_labels",
    "read_tile_map",
    "to_json",
    "write_report",
]
