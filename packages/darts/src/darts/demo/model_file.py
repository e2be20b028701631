"""Where the demo model is."""

from pathlib import Path

MODEL_FILE = Path(__file__).parent / "model" / "darts-demo.safetensors"
"""The demo model in DARTS's own format; its card lies beside it."""


def demo_model() -> Path:
    """Return the file of the model that ships with DARTS, for demonstration only.

    It has learned from made-up landscapes and has seen no real image. It needs the bands ``blue``, ``green``, ``red``,
    ``nir``, ``ndvi``, ``relative_elevation`` and ``slope``.
    """
    return MODEL_FILE
