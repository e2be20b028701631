"""The `darts` command: `app` is the tree of commands, and the module behind one of them loads when it is called."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
