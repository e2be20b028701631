"""Where the demo model is."""

from pathlib import Path

MODEL_FILE = Path(__file__).parent / "model" / "darts-demo.safetensors"
"""The demo model in DARTS's own format; its card lies beside it."""


def demo_model() -> Path:
    """Say where the model is that ships with DARTS, for demonstration only.

    It has learned from made-up landscapes and has seen no real image. It needs the bands ``blue``, ``green``, ``red``,
    ``nir``, ``ndvi``, ``relative_elevation`` and ``slope``.

    Returns:
        The ``.safetensors`` file; its card lies beside it.
    """
    return MODEL_FILE
