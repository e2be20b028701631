"""A run: from a pipeline to tasks, from a task to a record, in one process or many."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
