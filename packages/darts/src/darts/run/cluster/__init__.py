"""Take tiles through their stages on a Dask cluster: needs ``pip install "darts-nextgen[cluster]"``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
