"""Where names of the original's ``darts_segmentation.utils`` are; nothing here uses this module."""

from darts_utils.moved import moved_names

__getattr__ = moved_names(
    __name__,
    {
        "predict_in_patches": "segment_tile of darts_segmentation.SMPSegmenter",
        "Bands": "the list of names in bands of darts_segmentation.read_card(model)",
    },
)
