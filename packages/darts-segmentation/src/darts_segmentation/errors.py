"""The errors and warnings of segmentation: what is wrong with a model file, and what a run had to give up."""

from darts_utils import DartsError, DartsWarning
from darts_utils import ValueRangeError as ValueRangeError


class ModelFileError(DartsError, ValueError):
    """A model file cannot be used. Base of all errors about model files."""


class ModelNotFoundError(ModelFileError, FileNotFoundError):
    """There is no model file at the given place, or the card beside the weights is missing."""


class UnsafeModelError(ModelFileError):
    """A model file contains more than data: something in it would run code, or expand without bound, when read."""


class BrokenModelError(ModelFileError):
    """A model file is truncated, damaged, or of another kind than its name says."""


class ModelCardError(ModelFileError):
    """The description of a model (its card or its ``config``) lacks something or contradicts itself."""


class ModelWeightsError(ModelFileError):
    """The weights of a model do not fit the architecture that its card or ``config`` names."""


class ConversionError(DartsError, RuntimeError):
    """A network could not be exported, or what was exported computes something else than the original."""


class QuantisationError(DartsError, ValueError):
    """A network does not keep its map with eight-bit numbers, or there is too little to tell by."""


class MissingLibraryError(DartsError, ImportError):
    """A library that is installed on request only is asked for, and not there."""


class OutputError(DartsError, ArithmeticError):
    """A network returned something that is no probability: NaN, infinity, or an array of another shape."""


class GpuMemoryError(DartsError, MemoryError):
    """The network, the result of a tile, or a single patch does not fit into the memory of the device."""


class CompileError(DartsError, RuntimeError):
    """``torch.compile`` does not work for this network on this machine."""


class PixelSizeWarning(DartsWarning):
    """A tile has pixels of another size than those that a network was trained on."""


class RepeatedModelWarning(DartsWarning):
    """An ensemble holds the same model under two names, or as two kinds of file; it weighs double in the mean."""


class BatchHalvedWarning(DartsWarning):
    """The GPU ran out of memory, and the tile goes on with half as many patches at a time."""
