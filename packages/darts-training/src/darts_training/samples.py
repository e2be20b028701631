"""Samples on disk: patches as a network gets them, and their labels, a Zarr v3 group per tile.

``samples.json`` says what all tiles share. ``tiles/<tile>.zarr`` holds ``x`` (patches, bands, y, x), scaled to 0…1, and
``y`` (patches, y, x) uint8. ``samples.parquet`` is a table of the patches for readers; it is made anew from the tiles.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import geopandas as gpd
import numpy as np
import odc.geo.xr  # noqa: F401 - gives datasets their .odc
import pandas as pd
import shapely
import zarr
import zarr.codecs
from affine import Affine
from numpy.typing import NDArray

from darts_evaluation import Labels
from darts_evaluation.seam import to_world
from darts_segmentation import Channel, cut_patches
from darts_training.errors import SamplesError, writing
from darts_training.labels import SLUMP, UNLABELLED, burn_labels
from darts_training.sample_checks import check_form, check_tile_id, discard_empty, warn_of_repeats
from darts_utils import DartsError, atomic_path, check_quality, remove_partials, time_of, upright, write_atomically

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
RECORD, TILES, TABLE = "samples.json", "tiles", "samples.parquet"
_KEY = "darts"
NumberType: TypeAlias = Literal["float32", "float16"]


@dataclass(frozen=True, kw_only=True)
class SampleFormat:
    """What all samples of a folder share.

    Attributes:
        channels: What the patches show, in the order of the network's input.
        patch_size: Edge length in pixels.
        overlap: Pixels that neighbouring patches share.
        ignore_border: Width in pixels of the border outside slumps that is not labelled.
        dtype: Number type of the patches. float32 is what inference sends to a network, bit by bit; float16 rounds.
        source: Where the images come from, for the reader.
        made_with: Digest of what else the samples depend on, labels and area first; "" where nobody keeps it.
    """

    channels: tuple[Channel, ...]
    patch_size: int = 512
    overlap: int = 0
    ignore_border: int = 0
    dtype: NumberType = "float32"
    source: str = ""
    made_with: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        # Without an empty digest, so that samples of the release before keep the digest that models remember.
        told = {name: value for name, value in vars(self).items() if name != "made_with" or value}
        return told | {
            "format": FORMAT,
            "channels": [[channel.band, channel.low, channel.high] for channel in self.channels],
        }

    @classmethod
    def from_json(cls, content: Any, path: Path) -> "SampleFormat":
        """Read what :meth:`to_json` returned from a file.

        Raises:
            SamplesError: If it is something else.
        """
        try:
            fields = dict(content)
            if fields.pop("format") != FORMAT:
                raise SamplesError(f"{path} has another format than {FORMAT}; make the samples again.")
            channels = tuple(Channel(str(band), float(low), float(high)) for band, low, high in fields.pop("channels"))
            return cls(channels=channels, **fields)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SamplesError):
                raise
            raise SamplesError(f"{path} does not describe samples ({error!r}); make them again.") from error


@dataclass(frozen=True)
class TileSamples:
    """The samples of one tile.

    Attributes:
        path: Their Zarr group.
        tile_id: Name of the tile.
        time: When it was taken, ISO 8601; "" where unknown.
        crs: CRS of its grid, as text.
        transform: From column and row to coordinates.
        shape: Height and width of the tile.
        rows: First row of each patch in the tile, negative in its mirrored border, 1-D.
        columns: First column, likewise.
        slump: Share of labelled pixels that are slump, NaN where none is labelled, 1-D.
        digest: SHA-256 of patches and labels.
    """

    path: Path
    tile_id: str
    time: str
    crs: str
    transform: Affine
    shape: tuple[int, int]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    slump: NDArray[np.float64]
    digest: str

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _arrays(self) -> tuple[zarr.Array, zarr.Array]:
        group = zarr.open_group(self.path, mode="r")
        return _arrays_of(group)

    def read(self, index: int) -> tuple[NDArray, NDArray[np.uint8]]:
        """Return a patch, (bands, y, x), and its labels, (y, x).

        Raises:
            SamplesError: If it is damaged.
        """
        with _reading(self.path):
            x, y = self._arrays
            return np.asarray(x[index]), np.asarray(y[index])

    def read_labels(self) -> NDArray[np.uint8]:
        """Return the labels of all patches, (patches, y, x).

        Raises:
            SamplesError: If they are damaged.
        """
        with _reading(self.path):
            return np.asarray(self._arrays[1][:])


@dataclass(frozen=True)
class Samples:
    """A folder of samples.

    Attributes:
        path: The folder.
        format: What they share.
        tiles: The tiles by name.
    """

    path: Path
    format: SampleFormat
    tiles: Sequence[TileSamples]

    @property
    def digest(self) -> str:
        """SHA-256 of all that the samples hold."""
        text = json.dumps([self.format.to_json(), [[tile.tile_id, tile.digest] for tile in self.tiles]])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def count(self) -> int:
        """Number of patches."""
        return sum(len(tile) for tile in self.tiles)


def begin_samples(folder: str | os.PathLike[str], sample_format: SampleFormat) -> set[str]:
    """Make a folder for samples, or go on with one.

    Args:
        folder: The folder.
        sample_format: What they share.

    Returns:
        Names of the tiles that it holds already.

    Raises:
        ParameterError: If no samples can be made by the format.
        SamplesError: If the folder holds samples of another format.
        WritingError: If it cannot be written.
    """
    check_form(sample_format)
    folder = Path(folder)
    record = folder / RECORD
    text = json.dumps(sample_format.to_json(), indent=2) + "\n"
    if record.is_file() and record.read_text("utf-8") != text:
        raise SamplesError(
            f"{folder} holds samples with other bands, labels or options; make these ones in another folder, or remove "
            "it."
        )
    with writing(folder):
        (folder / TILES).mkdir(parents=True, exist_ok=True)
        remove_partials(folder / TILES)
        write_atomically(record, text.encode())
    return {path.stem for path in (folder / TILES).glob("*.zarr")}


def write_tile_samples(
    folder: str | os.PathLike[str],
    sample_format: SampleFormat,
    tile: "xr.Dataset",
    tile_id: str,
    labels: Labels,
    *,
    least_quality: int = 1,
) -> int:
    """Cut a tile into the patches that inference would send to a network, and write those that hold labels.

    The group of the tile appears whole or not at all, and replaces one that is there.

    Args:
        folder: Where :func:`begin_samples` was.
        sample_format: The same.
        tile: The tile, preprocessed, with its grid (odc.geo) and ``quality_data_mask`` where there is one.
        tile_id: Its name.
        labels: What to burn, see :func:`darts_training.labels.burn_labels`.
        least_quality: Pixels whose ``quality_data_mask`` is less are not labelled.

    Returns:
        Number of patches.

    Raises:
        ParameterError: If no samples can be made by the format.
        SamplesError: If the name can be no file name: with a slash, empty, or beginning with a dot.
        MissingBandError: If the tile lacks a band.
        GridError: If a band does not lie on (y, x), or the tile has no grid.
        ValueRangeError: If a band cannot be in its unit, or the quality has other values than 0, 1 and 2.
        WritingError: If the group cannot be written.
    """
    given = sample_format
    check_form(given)
    check_tile_id(tile_id)
    valid, patches = cut_patches(tile, given.channels, given.patch_size, given.overlap)
    geobox = tile.odc.geobox
    usable = valid
    if "quality_data_mask" in tile:
        mask = upright(tile["quality_data_mask"], "quality_data_mask")
        quality = check_quality(mask.to_numpy(), mask.attrs, mask.encoding)
        usable = valid & (quality >= least_quality)
    truth = burn_labels(labels, str(geobox.crs), geobox.affine, usable, given.ignore_border)
    x, y, positions = [], [], []
    for patch in patches:
        part = truth[np.ix_(patch.rows, patch.columns)]
        if (part != UNLABELLED).any():
            x.append(patch.values.astype(given.dtype))  # noqa: PD011 - no table
            y.append(part)
            positions.append((patch.row, patch.column))
    size = given.patch_size
    arrays = (
        np.stack(x) if x else np.zeros((0, len(given.channels), size, size), given.dtype),
        np.stack(y) if y else np.zeros((0, size, size), np.uint8),
    )
    labelled, slump = ((arrays[1] != UNLABELLED).sum(axis=(1, 2)), (arrays[1] == SLUMP).sum(axis=(1, 2)))
    described = {
        "tile_id": tile_id,
        "time": str(time_of(tile) or ""),
        "crs": str(geobox.crs),
        "transform": list(geobox.affine)[:6],
        "shape": list(truth.shape),
        "places": positions,
        "labelled": labelled.tolist(),
        "slump": slump.tolist(),
        "digest": hashlib.sha256(arrays[0].tobytes() + arrays[1].tobytes()).hexdigest(),
    }
    _write_group(Path(folder) / TILES / f"{tile_id}.zarr", arrays, described)
    return len(positions)


def _write_group(path: Path, arrays: tuple[NDArray, NDArray], described: dict[str, object]) -> None:
    with writing(path), atomic_path(path) as draft:
        group = zarr.create_group(draft, attributes={_KEY: described})
        for name, array in zip("xy", arrays, strict=True):
            stored = group.create_array(
                name,
                shape=array.shape,
                dtype=array.dtype,
                chunks=(1, *array.shape[1:]),
                compressors=(zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec()),
            )
            if len(array):
                stored[:] = array
        shutil.rmtree(path, ignore_errors=True)  # No folder takes the place of one that holds something.


def finish_samples(folder: str | os.PathLike[str]) -> Samples:
    """Write the table of samples, and return what there is; of samples of no tile nothing stays.

    Args:
        folder: The folder.

    Returns:
        The samples. A `RepeatedTileWarning` names tiles that have the same patches and labels.

    Raises:
        SamplesError: If it holds no samples, or damaged ones.
        WritingError: If the table cannot be written.
    """
    discard_empty(Path(folder) / RECORD, Path(folder) / TILES)
    samples = read_samples(folder)
    warn_of_repeats(samples, stacklevel=2)
    frames = []
    for tile in samples.tiles:
        size = samples.format.patch_size
        edges = ((column, row, column + size, row + size) for row, column in zip(tile.rows, tile.columns, strict=True))
        boxes = [shapely.affinity.affine_transform(shapely.box(*edge), tile.transform.to_shapely()) for edge in edges]
        columns = {
            "tile_id": tile.tile_id,
            "time": tile.time,
            "sample": np.arange(len(tile)),
            "row": tile.rows,
            "column": tile.columns,
            "slump_share": tile.slump,
        }
        placed = to_world(gpd.GeoSeries(boxes, crs=tile.crs)).set_crs("EPSG:4326", allow_override=True)
        frames.append(gpd.GeoDataFrame(columns, geometry=placed))
    table = gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), crs="EPSG:4326")
    with writing(samples.path / TABLE), atomic_path(samples.path / TABLE) as draft:
        table.to_parquet(draft)
    return samples


def read_samples(folder: str | os.PathLike[str]) -> Samples:
    """Open a folder of samples; patches are read when they are asked for.

    Args:
        folder: The folder.

    Returns:
        The samples; tiles without any are left out. Where two tell one name, all are called as their groups are.

    Raises:
        SamplesError: If it holds no samples, or damaged ones.
    """
    folder = Path(folder)
    record = folder / RECORD
    try:
        content = json.loads(record.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SamplesError(f"{folder} holds no samples: there is no {RECORD} in it.") from error
    except (OSError, ValueError) as error:
        raise SamplesError(f"{folder} holds no samples: {record} cannot be read ({error}).") from error
    described = SampleFormat.from_json(content, record)
    tiles = [_open_tile(path) for path in sorted((folder / TILES).glob("*.zarr"))]
    if len({tile.tile_id for tile in tiles}) < len(tiles):  # brought together from several folders, under new names
        tiles = [replace(tile, tile_id=tile.path.stem) for tile in tiles]
    if not any(len(tile) for tile in tiles):
        raise SamplesError(f"{folder} holds no samples of any tile; make some first, on labelled ground.")
    return Samples(folder, described, [tile for tile in tiles if len(tile)])


def _arrays_of(group: zarr.Group) -> tuple[zarr.Array, zarr.Array]:
    x, y = group["x"], group["y"]
    if not isinstance(x, zarr.Array) or not isinstance(y, zarr.Array):
        raise TypeError("x and y are no arrays")
    return x, y


def _open_tile(path: Path) -> TileSamples:
    with _reading(path):
        group = zarr.open_group(path, mode="r")
        found: Any = group.attrs[_KEY]
        positions = np.array(found["places"], np.int64).reshape(-1, 2)
        labelled, slump = np.array(found["labelled"], float), np.array(found["slump"], float)
        arrays = _arrays_of(group)
        if any(len(positions) != number for number in (len(labelled), *(array.shape[0] for array in arrays))):
            raise ValueError("arrays and places differ in number")
        share = np.divide(slump, labelled, out=np.full(len(slump), np.nan), where=labelled > 0)
        affine, shape = Affine(*found["transform"]), (int(found["shape"][0]), int(found["shape"][1]))
        of_tile = (found["tile_id"], found["time"], found["crs"], affine, shape)
        return TileSamples(path, *of_tile, positions[:, 0], positions[:, 1], share, found["digest"])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, DartsError):
            raise
        raise SamplesError(
            f"The samples {path} are damaged ({error}); remove them, and make the training data again."
        ) from error
