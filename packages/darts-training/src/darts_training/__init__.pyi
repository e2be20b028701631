"""Make a model out of labels: samples, training, calibration."""

from .calibrate import Calibrated as Calibrated
from .calibrate import calibrate as calibrate
from .calibrate import fit_temperature as fit_temperature
from .checkpoint import Progress as Progress
from .crossvalidate import cross_validate as cross_validate
from .errors import RepeatedTileWarning as RepeatedTileWarning
from .errors import SamplesError as SamplesError
from .errors import SeenGroundWarning as SeenGroundWarning
from .errors import TrainingError as TrainingError
from .errors import WritingError as WritingError
from .folds import Folds as Folds
from .folds import make_folds as make_folds
from .labels import agreed as agreed
from .labels import burn_labels as burn_labels
from .labels import count_outside as count_outside
from .labels import digest_labels as digest_labels
from .options import TrainingOptions as TrainingOptions
from .result import make_item as make_item
from .samples import SampleFormat as SampleFormat
from .samples import Samples as Samples
from .samples import TileSamples as TileSamples
from .samples import begin_samples as begin_samples
from .samples import finish_samples as finish_samples
from .samples import read_samples as read_samples
from .samples import write_tile_samples as write_tile_samples
from .trainer import Trained as Trained
from .trainer import train as train

__version__: str
