"""Where the demo model is."""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
"""Folder of the demo model in DARTS's own format."""


def demo_model() -> Path:
    """Return the folder of the model that ships with DARTS, for demonstration only.

    It has learned from made-up landscapes and has seen no real image. It needs the bands ``blue``, ``green``, ``red``,
    ``nir``, ``ndvi``, ``relative_elevation`` and ``slope``.
    """
    return MODEL_DIR
