"""Take tiles through their stages on a Dask cluster: needs ``pip install "darts-nextgen[cluster]"``."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-nextgen")
