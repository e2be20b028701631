"""The commands of `darts model`."""

from pathlib import Path

import typer

import darts_segmentation
from darts.cli.tables import print_table

_FORMATS = {".onnx": "onnx", ".pt2": "torch-export"}


def show_model(file: Path) -> None:
    """Print what a model file says about itself, after checking that its weights fit."""
    info = darts_segmentation.model_info(file)
    card = info.card
    architecture = ", ".join(f"{key}={value}" for key, value in card.architecture.items())
    rows = {
        "name": card.name,
        "kind": info.kind,
        "SHA-256": info.sha256,
        "size": f"{info.size_bytes / 1e6:.1f} MB, {info.parameters:,} parameters",
        "architecture": architecture,
        "bands": ", ".join(card.bands),
        "classes": card.outputs.describe(),
        "patch size": "" if card.patch_size is None else f"{card.patch_size} px",
        "pixel size": "" if card.pixel_size is None else f"{card.pixel_size:g} m",
        "version": card.version,
        "licence": card.license,
        "description": card.description,
        "training data": card.training_data,
        "calibration": "" if card.calibration is None else f"temperature {card.calibration.parameter:.3g}",
        "metrics": ", ".join(f"{key} {value:.3g}" for key, value in card.metrics.items()),
    }
    print_table((what, value) for what, value in rows.items() if value)


def convert(file: Path, out: Path, target: str | None) -> None:
    """Convert a model."""
    written = darts_segmentation.convert_model(file, out, target or _FORMATS.get(out.suffix, "safetensors"))  # type: ignore[arg-type]
    typer.echo(f"Wrote {written}.")
