"""Where names of the original's ``darts_utils.cuda`` are; nothing here uses this module."""

from darts_utils.moved import moved_names

__getattr__ = moved_names(
    __name__,
    {
        "move_to_device": "preprocess_v2(…, device=…, keep_on_device=True) of darts_preprocessing",
        "move_to_host": "a tile's own arrays, which each stage brings to the host where its caller does not keep them,",
        "free_cupy": "nothing, since each stage hands its memory back by itself,",
    },
)
