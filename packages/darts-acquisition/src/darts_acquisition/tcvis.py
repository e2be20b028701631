"""Names of the original's ``darts_acquisition.tcvis``; the code is in `darts_acquisition.auxiliary.tcvis`."""

from darts_acquisition.auxiliary.tcvis import download_tcvis, load_tcvis
from darts_utils.moved import moved_names

__all__ = ["download_tcvis", "load_tcvis"]

__getattr__ = moved_names(
    __name__,
    {"create_tcvis_datacubes": "darts_acquisition.create_tcvis_cube, or load_tcvis, which makes the datacube it needs"},
)
