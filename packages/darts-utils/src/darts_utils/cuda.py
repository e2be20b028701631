"""Where names of the original's ``darts_utils.cuda`` are; nothing here uses this module."""

from darts_utils.moved import moved_names

__getattr__ = moved_names(
    __name__,
    {
        "move_to_device": "preprocess_v2(…, device=…, keep_on_device=True) of darts_preprocessing",
        "move_to_host": "darts_utils.to_host(tile)",
        "free_cupy": "nothing, since memory is handed back where another library lacks it,",
    },
)
