"""A made-up Arctic landscape with known thaw slumps, a small model that finds them, and how to judge and draw it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts.demo.auxiliary import arcticdem_dataset, tcvis_dataset
    from darts.demo.drawing import draw_map, draw_result
    from darts.demo.evaluate import compare_with_truth, map_of
    from darts.demo.landscape import Landscape, make_landscape
    from darts.demo.model_file import demo_model
    from darts.demo.sample import (
        DEMO_SEED,
        SampleArea,
        SampleAreaError,
        find_sample_area,
        make_inputs,
        make_sample_area,
        optical_dataset,
        read_truth,
        truth_polygons,
    )

__all__ = [
    "DEMO_SEED",
    "Landscape",
    "SampleArea",
    "SampleAreaError",
    "arcticdem_dataset",
    "compare_with_truth",
    "demo_model",
    "draw_map",
    "draw_result",
    "find_sample_area",
    "make_inputs",
    "make_landscape",
    "make_sample_area",
    "map_of",
    "optical_dataset",
    "read_truth",
    "tcvis_dataset",
    "truth_polygons",
]

_HOMES = {
    "auxiliary": ("arcticdem_dataset", "tcvis_dataset"),
    "drawing": ("draw_map", "draw_result"),
    "landscape": ("Landscape", "make_landscape"),
    "model_file": ("demo_model",),
    "sample": (
        "DEMO_SEED",
        "SampleArea",
        "SampleAreaError",
        "find_sample_area",
        "make_inputs",
        "make_sample_area",
        "optical_dataset",
        "read_truth",
        "truth_polygons",
    ),
    "evaluate": ("compare_with_truth", "map_of"),
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that importing the package costs nothing."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
