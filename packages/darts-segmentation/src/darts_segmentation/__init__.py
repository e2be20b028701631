"""Segment DARTS tiles with one network or an ensemble of them."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-segmentation")
