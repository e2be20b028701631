"""Make up Arctic landscapes with thaw slumps whose outlines are known, as arrays, tiles, scenes and datacubes."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-demo")
