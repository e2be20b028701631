"""Make a model out of labels: samples, training, calibration."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-training")
