"""What is taken from ArcticDEM as it is: the elevation, and where it was measured."""

from darts_preprocessing.feature import Feature
from darts_utils import get_band

FEATURES = (
    Feature(
        band=get_band("dem"),
        definition="elevation, by cubic convolution; NaN where the nearest cell is",
        auxiliary="arcticdem",
        by_default=True,
    ),
    Feature(
        band=get_band("arcticdem_data_mask"),
        definition="1 where the elevation was measured, by the nearest cell",
        auxiliary="arcticdem",
        is_cubic=False,
        by_default=True,
    ),
)
