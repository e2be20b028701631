"""The commands of `darts model`."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from darts.cli.tables import print_table
from darts.errors import ConfigurationError

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from darts_segmentation.quantise import ReadPatch

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
    """Convert a model.

    Args:
        file: Model file or folder.
        out: What to write.
        target: Into what; None for what the ending of `out` says.
    """
    from darts_segmentation import convert_model

    written = convert_model(file, out, target or _FORMATS.get(out.suffix, "safetensors"))  # type: ignore[arg-type]
    typer.echo(f"Wrote {written}.")


def quantise(file: Path, data: Path, out: Path) -> None:
    """Quantise a model with training data, or with the tiles in a folder.

    Args:
        file: Model file or folder.
        data: Folder of samples, as ``darts training-data create`` writes it; or one with tiles as NetCDF, at any depth,
            as ``--debug-data`` writes them; or one such file.
        out: Folder to write.

    Raises:
        ConfigurationError: If there is neither, or the samples show other bands than the model takes.
        SamplesError: If the samples are damaged.
    """
    from darts_segmentation import quantise_model
    from darts_training.samples import RECORD

    given: Iterable[Any]
    if (data / RECORD).is_file():
        given = _read_patches(data, file)
    else:
        paths = sorted(data.rglob("*.nc")) if data.is_dir() else [data]
        if not paths or not all(path.is_file() for path in paths):
            raise ConfigurationError(
                f"There are neither training data ({RECORD}) nor tiles (.nc) in {data}; `darts training-data create` "
                "makes the former, and a run with --debug-data writes its tiles among the results."
            )
        given = _open_tiles(paths)
    cost = quantise_model(file, given, out)
    typer.echo(
        f"Wrote {out}: the IoU of its map with that of the network is {cost.iou:.4f}, the mean difference of the "
        f"probabilities {cost.mean_difference:.2g}, on {cost.patches} patches."
    )


def _read_patches(data: Path, file: Path) -> "list[ReadPatch]":
    """Return what reads each sample: a patch, and where it is labelled."""
    from darts_segmentation import Channel, read_card
    from darts_training import read_samples
    from darts_training.labels import UNLABELLED

    card, samples = read_card(file), read_samples(data)
    if samples.format.channels != tuple(Channel(band, *map(float, card.normalization[band])) for band in card.bands):
        raise ConfigurationError(
            f"The samples of {data} show {', '.join(channel.band for channel in samples.format.channels)}; the model "
            f"{file} takes {', '.join(card.bands)}, each scaled as its card says. Make the samples with --model-files."
        )

    def read(tile: Any, index: int) -> "tuple[NDArray[np.float32], NDArray[np.bool_]]":
        values, labels = tile.read(index)
        return values.astype(np.float32), labels != UNLABELLED

    return [partial(read, tile, index) for tile in samples.tiles for index in range(len(tile))]


def _open_tiles(paths: list[Path]) -> "Iterator[xr.Dataset]":
    import xarray as xr

    for path in paths:
        with xr.open_dataset(path, engine="h5netcdf") as tile:
            yield tile
