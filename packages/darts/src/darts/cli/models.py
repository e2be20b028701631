"""The commands of `darts model`."""

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

_FORMATS = {".onnx": "onnx", ".pt2": "torch-export"}


def show_model(file: Path) -> None:
    """Print what a model file says about itself, after checking that its weights fit.

    Args:
        file: Model file or folder.
    """
    from darts_segmentation import model_info

    info = model_info(file)
    card = info.card
    architecture = ", ".join(f"{key}={value}" for key, value in card.architecture.items())
    rows = {
        "name": card.name,
        "kind": info.kind,
        "SHA-256": info.sha256,
        "size": f"{info.size_bytes / 1e6:.1f} MB, {info.parameters:,} parameters",
        "architecture": architecture,
        "bands": ", ".join(card.bands),
        "patch size": "" if card.patch_size is None else f"{card.patch_size} px",
        "version": card.version,
        "licence": card.license,
        "description": card.description,
        "training data": card.training_data,
        "calibration": "" if card.calibration is None else f"temperature {card.calibration.parameter:.3g}",
        "metrics": ", ".join(f"{key} {value:.3g}" for key, value in card.metrics.items()),
    }
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in rows.items():
        if value:
            table.add_row(what, value)
    Console().print(table)


def convert(file: Path, out: Path) -> None:
    """Convert a model; the ending of `out` says into what.

    Args:
        file: Model file or folder.
        out: What to write.
    """
    from darts_segmentation import convert_model

    written = convert_model(file, out, _FORMATS.get(out.suffix, "safetensors"))  # type: ignore[arg-type]
    typer.echo(f"Wrote {written}.")
