"""Segment DARTS tiles with one network or an ensemble of them."""

from .bands import Channel as Channel
from .calibration import Calibration as Calibration
from .card import ModelCard as ModelCard
from .convert import convert_model as convert_model
from .ensemble import EnsembleV1 as EnsembleV1
from .ensemblefile import EnsembleFile as EnsembleFile
from .ensemblefile import is_ensemble_file as is_ensemble_file
from .ensemblefile import read_ensemble as read_ensemble
from .ensemblefile import write_ensemble as write_ensemble
from .errors import BatchHalvedWarning as BatchHalvedWarning
from .errors import BrokenModelError as BrokenModelError
from .errors import CompileError as CompileError
from .errors import ConversionError as ConversionError
from .errors import GpuMemoryError as GpuMemoryError
from .errors import MissingLibraryError as MissingLibraryError
from .errors import ModelCardError as ModelCardError
from .errors import ModelFileError as ModelFileError
from .errors import ModelNotFoundError as ModelNotFoundError
from .errors import ModelWeightsError as ModelWeightsError
from .errors import OutputError as OutputError
from .errors import PixelSizeWarning as PixelSizeWarning
from .errors import QuantisationError as QuantisationError
from .errors import RepeatedModelWarning as RepeatedModelWarning
from .errors import UnsafeModelError as UnsafeModelError
from .errors import ValueRangeError as ValueRangeError
from .modelfile import ModelFile as ModelFile
from .modelfile import ModelInfo as ModelInfo
from .modelfile import model_info as model_info
from .modelfile import read_card as read_card
from .modelfile import read_model as read_model
from .patches import Patch as Patch
from .patches import cut_patches as cut_patches
from .program import openvino_program as openvino_program
from .quantise import QuantisationCost as QuantisationCost
from .quantise import quantise_model as quantise_model
from .repeats import repeated_models as repeated_models
from .segmenter import SMPSegmenter as SMPSegmenter
from .store import hash_model as hash_model
from .store import model_paths as model_paths
from .store import save_model as save_model
from .version import RESULTS_VERSION as RESULTS_VERSION

__version__: str
