"""Where names of the original's package ``darts_ensemble`` are; nothing here uses this one."""

from darts_utils.moved import moved_names

__getattr__ = moved_names(__name__, {"EnsembleV1": "darts_segmentation.EnsembleV1"})
