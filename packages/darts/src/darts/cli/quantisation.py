"""The command `darts model quantise`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import typer
import xarray as xr
from numpy.typing import NDArray

from darts.errors import ConfigurationError
from darts_segmentation import Channel, quantise_model, read_card
from darts_segmentation.quantise import ReadPatch
from darts_training import TileSamples, read_samples
from darts_training.labels import UNLABELLED
from darts_training.samples import RECORD


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
    given: list[ReadPatch] | Iterator[xr.Dataset]
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


def _read_patches(data: Path, file: Path) -> list[ReadPatch]:
    """Return what reads each sample: a patch, and where it is labelled."""
    card, samples = read_card(file), read_samples(data)
    if samples.format.channels != tuple(Channel(band, *map(float, card.normalization[band])) for band in card.bands):
        raise ConfigurationError(
            f"The samples of {data} show {', '.join(channel.band for channel in samples.format.channels)}; the model "
            f"{file} takes {', '.join(card.bands)}, each scaled as its card says. Make the samples with --model-files."
        )

    def read(tile: TileSamples, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        values, labels = tile.read(index)
        return values.astype(np.float32), labels != UNLABELLED

    return [partial(read, tile, index) for tile in samples.tiles for index in range(len(tile))]


def _open_tiles(paths: list[Path]) -> Iterator[xr.Dataset]:
    for path in paths:
        with xr.open_dataset(path, engine="h5netcdf") as tile:
            yield tile
