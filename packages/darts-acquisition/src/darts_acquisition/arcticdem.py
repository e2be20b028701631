"""Names of the original's ``darts_acquisition.arcticdem``; the code is in `darts_acquisition.auxiliary.arcticdem`."""

from darts_acquisition.auxiliary.arcticdem import download_arcticdem, load_arcticdem
from darts_utils.moved import moved_names

__all__ = ["download_arcticdem", "load_arcticdem"]

__getattr__ = moved_names(__name__, {"load_arcticdem_tile": "darts_acquisition.load_arcticdem"})
