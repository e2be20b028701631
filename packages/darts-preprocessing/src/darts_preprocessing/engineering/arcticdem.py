"""Where names of the original's ``darts_preprocessing.engineering.arcticdem`` are."""

from darts_utils.moved import moved_names

_FEATURES = {
    "calculate_slope": "slope",
    "calculate_aspect": "aspect",
    "calculate_hillshade": "hillshade",
    "calculate_topographic_position_index": "relative_elevation",
}

__getattr__ = moved_names(
    __name__,
    {name: f'darts_preprocessing.preprocess_v2(…, features=["{feature}"])' for name, feature in _FEATURES.items()},
)
