"""One dataset of thaw slumps out of the results of many scenes: merged, with ids over years, looks and coverage."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-dataset")
