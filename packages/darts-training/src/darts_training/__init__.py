"""Make a model out of labels: samples, training, calibration."""

from typing import TYPE_CHECKING

from darts_training.calibrate import Calibrated, calibrate, fit_temperature
from darts_training.checkpoint import Progress
from darts_training.crossvalidate import cross_validate
from darts_training.errors import SamplesError, SeenGroundWarning, TrainingError, WritingError
from darts_training.folds import Folds, make_folds
from darts_training.labels import agreed, burn_labels, count_outside, digest_labels
from darts_training.options import TrainingOptions
from darts_training.result import make_item
from darts_training.samples import (
    SampleFormat,
    Samples,
    TileSamples,
    begin_samples,
    finish_samples,
    read_samples,
    write_tile_samples,
)
from darts_training.trainer import Trained, train
from darts_utils.version import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-training")

__all__ = [
    "Calibrated",
    "Folds",
    "Progress",
    "SampleFormat",
    "Samples",
    "SamplesError",
    "SeenGroundWarning",
    "TileSamples",
    "Trained",
    "TrainingError",
    "TrainingOptions",
    "WritingError",
    "agreed",
    "begin_samples",
    "burn_labels",
    "calibrate",
    "count_outside",
    "cross_validate",
    "digest_labels",
    "finish_samples",
    "fit_temperature",
    "make_folds",
    "make_item",
    "read_samples",
    "train",
    "write_tile_samples",
]
