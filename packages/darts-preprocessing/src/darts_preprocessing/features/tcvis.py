"""The Landsat trends of TCVIS."""

from darts_preprocessing.feature import Feature
from darts_utils import TREND_BANDS, get_band

FEATURES = tuple(
    Feature(
        band=get_band(name),
        definition=f"Landsat trend of {name.removeprefix('tc_')}, by cubic convolution; 0 beyond the data",
        auxiliary="tcvis",
        by_default=True,
    )
    for name in TREND_BANDS
)
