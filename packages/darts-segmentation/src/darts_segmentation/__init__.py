"""Segment DARTS tiles with one network or an ensemble of them."""

from typing import TYPE_CHECKING

from darts_segmentation.bands import Channel
from darts_segmentation.calibration import Calibration
from darts_segmentation.card import ModelCard
from darts_segmentation.convert import convert_model
from darts_segmentation.ensemble import EnsembleV1
from darts_segmentation.ensemblefile import EnsembleFile, is_ensemble_file, read_ensemble, write_ensemble
from darts_segmentation.errors import (
    BatchHalvedWarning,
    BrokenModelError,
    CompileError,
    ConversionError,
    GpuMemoryError,
    MissingLibraryError,
    ModelCardError,
    ModelFileError,
    ModelNotFoundError,
    ModelWeightsError,
    OutputError,
    PixelSizeWarning,
    QuantisationError,
    UnsafeModelError,
)
from darts_segmentation.modelfile import ModelFile, ModelInfo, model_info, read_card, read_model
from darts_segmentation.patches import Patch, cut_patches
from darts_segmentation.program import openvino_program
from darts_segmentation.quantise import QuantisationCost, quantise_model
from darts_segmentation.segmenter import SMPSegmenter
from darts_segmentation.store import hash_model, model_paths, save_model
from darts_segmentation.version import RESULTS_VERSION
from darts_utils import ValueRangeError
from darts_utils.version import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-segmentation")

__all__ = [
    "RESULTS_VERSION",
    "BatchHalvedWarning",
    "BrokenModelError",
    "Calibration",
    "Channel",
    "CompileError",
    "ConversionError",
    "EnsembleFile",
    "EnsembleV1",
    "GpuMemoryError",
    "MissingLibraryError",
    "ModelCard",
    "ModelCardError",
    "ModelFile",
    "ModelFileError",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelWeightsError",
    "OutputError",
    "Patch",
    "PixelSizeWarning",
    "QuantisationCost",
    "QuantisationError",
    "SMPSegmenter",
    "UnsafeModelError",
    "ValueRangeError",
    "convert_model",
    "cut_patches",
    "hash_model",
    "is_ensemble_file",
    "model_info",
    "model_paths",
    "openvino_program",
    "quantise_model",
    "read_card",
    "read_ensemble",
    "read_model",
    "save_model",
    "write_ensemble",
]
