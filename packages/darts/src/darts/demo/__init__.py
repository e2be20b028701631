"""A made-up Arctic landscape with known thaw slumps, a small model that finds them, and how to judge and draw it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
