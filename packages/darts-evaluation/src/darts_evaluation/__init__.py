"""Say how good a map of thaw slumps is: figures with 95 % intervals, from labels."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-evaluation")
