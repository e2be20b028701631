"""A run: from a pipeline to tasks, from a task to a record, in one process or many."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-nextgen")
