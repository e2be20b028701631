"""The local store of raw scenes: a Zarr v3 group per scene, an array per band, each there completely or not at all.

A band is written beside its place and moved there when it is whole; a move within a file system happens or does not.
Nothing that is in its place is ever changed, so a process that dies leaves what was there before, and processes that
write the same scene at once cannot mix their data.
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import zarr
from numcodecs import Blosc
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec

from darts_acquisition.cube.layout import checked, codec_names
from darts_acquisition.errors import RawStoreError
from darts_acquisition.scenes.raw import RawBand, RawGrid, S2Band, SceneMetadata, bands_of_scene
from darts_acquisition.tile import AnyPath, BandNames
from darts_utils import atomic_path, step, usable_cpus

FORMAT = 1
"""Format of a stored scene; readers refuse others."""
_STRIP_ROWS = 183
"""Rows of a chunk, which has the width of its band. It divides the 10980, 5490 and 1830 rows of a scene's bands, and
what a thread makes of a strip goes to memory that lies together."""


class RawStore:
    """A folder with one Zarr group per scene, ``<source>_<scene>.zarr``, created when something is written."""

    def __init__(self, folder: AnyPath) -> None:
        self.folder = Path(folder)

    def path(self, source: str, scene_id: str) -> Path:
        """Return where a scene lies, or would."""
        return self.folder / f"{source}_{scene_id}.zarr"

    def bands(self, source: str, scene_id: str) -> set[str]:
        """Name the bands of a scene that are present, completely; by ESA's numbers.

        A band of which files are absent, as after copying a part of the store, is not present.
        """
        path = self.path(source, scene_id)
        if not (path / "zarr.json").is_file():
            return set()
        folders = (entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.is_dir())
        return {folder.name for folder in folders if _is_whole(folder)}

    def missing(self, source: str, scene_id: str, wanted: Sequence[S2Band]) -> list[S2Band]:
        """List those of some bands of a scene that are not present."""
        present = self.bands(source, scene_id)
        return [band for band in wanted if band.number not in present]

    def files(self, source: str, scene_id: str, wanted: Sequence[S2Band]) -> list[Path]:
        """List the files of a scene that some of its bands are in, sorted; none unless all bands are present."""
        if self.missing(source, scene_id, wanted):
            return []
        folder, numbers = self.path(source, scene_id), {band.number for band in wanted}
        return sorted([folder / "zarr.json", *(file for each in numbers for file in _files(folder / each))])

    def metadata(self, source: str, scene_id: str) -> SceneMetadata:
        """Return what is known of a stored scene besides pixels; RawStoreError if damaged, or of another format."""
        path = self.path(source, scene_id)
        try:
            attrs: dict[str, Any] = zarr.open_group(path, mode="r", zarr_format=3).attrs.asdict()
        except (OSError, ValueError, KeyError) as error:
            raise RawStoreError(f"{path} is no Zarr group ({error}); remove it and fetch the scene again.") from error
        if attrs.get("darts_raw_format") != FORMAT:
            raise RawStoreError(f"{path} is no raw scene of format {FORMAT}; remove it, or use a newer version.")
        return SceneMetadata(source, scene_id, dict(attrs["tile"]))

    def add(self, metadata: SceneMetadata, raw: RawBand) -> None:
        """Add a band to a scene, and the scene where it is absent. A band that is present stays as it is.

        OSError if it cannot be written; the store is as before.
        """
        path = self.path(metadata.source, metadata.scene_id)
        draft = self.folder / f".{path.name}.{uuid.uuid4().hex}.partial"
        try:
            if not path.exists():
                group = draft / "group"
                zarr.create_group(group, attributes={"darts_raw_format": FORMAT, "tile": metadata.attrs})
                _move(group, path)
            if raw.band.number not in self.bands(metadata.source, metadata.scene_id):
                _write_array(draft / "band", raw)
                folder = path / raw.band.number
                if folder.is_dir() and not _is_whole(folder):
                    _move(folder, draft / "damaged")
                _move(draft / "band", folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def clear_drafts(self, source: str, scene_id: str) -> None:
        """Remove what a process that died has left of a scene; only who holds the scene may do so."""
        for draft in self.folder.glob(f".{self.path(source, scene_id).name}.*.partial"):
            shutil.rmtree(draft, ignore_errors=True)

    def open(self, source: str, scene_id: str, band: S2Band) -> "StoredBand":
        """Open a stored band for reading; RawStoreError if it is absent or damaged."""
        path = self.path(source, scene_id) / band.number
        try:
            array = zarr.open_array(path, mode="r")
            attrs: dict[str, Any] = array.attrs.asdict()
            grid = RawGrid.of(*(attrs[name] for name in ("crs", "transform", "shape", "scale", "offset")))
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise RawStoreError(f"{path} cannot be read ({error}); remove the scene and fetch it again.") from error
        # A chunk that is absent would be read as "no data", which would be wrong without a word.
        if array.shape != grid.shape or not _is_whole(path):
            raise RawStoreError(f"{path} is incomplete; remove the scene and fetch it again.")
        return StoredBand(band, grid, array, path)


class StoredBand:
    """A band in the store. Reading takes rows, so that a large band need not be in memory as a whole."""

    def __init__(self, band: S2Band, grid: RawGrid, array: zarr.Array, path: Path) -> None:
        self.band = band
        self.grid = grid
        self.rows_at_once: int = array.chunks[0]
        self._array = array
        self._path = path
        # As `_write_array` lays it out; earlier versions did so differently.
        metadata: Any = array.metadata
        names = codec_names(metadata.codecs)
        self._in_strips = array.chunks[1] == array.shape[1] and names == ["bytes", "blosc", "crc32c"]

    def read(self, rows: slice = slice(None)) -> np.ndarray:
        """Read rows of raw integers; RawStoreError if a chunk is damaged."""
        first, last, _ = rows.indices(self.grid.shape[0])
        number, within = divmod(first, self.rows_at_once)
        try:
            if self._in_strips and within == 0 and 0 < last - first <= self.rows_at_once:
                # zarr would decode it with a copy more.
                content = np.fromfile(self._path / self._array.metadata.encode_chunk_key((number, 0)), "uint8")
                dtype = np.dtype(self._array.dtype).newbyteorder("<")
                strip = np.frombuffer(Blosc().decode(checked(content)), dtype).reshape(self._array.chunks)
                return strip[: last - first]
            return np.asarray(self._array[rows])
        except (OSError, ValueError, RuntimeError) as error:
            raise RawStoreError(f"{self._path} is damaged ({error}); remove the scene and fetch it again.") from error


def _write_array(path: Path, raw: RawBand) -> None:
    values = np.ascontiguousarray(raw.values, dtype=raw.band.dtype)
    array = zarr.create_array(
        path,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(min(_STRIP_ROWS, values.shape[0]), values.shape[1]),
        compressors=_codecs(values.dtype),
        fill_value=0,
        dimension_names=("y", "x"),
        attributes=asdict(raw.grid),
        config={"write_empty_chunks": True},
    )
    array[:] = values


def _codecs(dtype: np.dtype) -> list[BytesBytesCodec]:
    """Return Zstandard, of bytes that belong together, and a checksum, which makes a damaged chunk an error.

    Shuffled bytes are smaller by a fifth than plain ones and as fast to read (docs/performance.md).
    """
    shuffle: Any = "shuffle" if dtype.itemsize > 1 else "noshuffle"
    return [BloscCodec(cname="zstd", clevel=3, shuffle=shuffle, typesize=dtype.itemsize), Crc32cCodec()]


def _move(source: Path, target: Path) -> None:
    """Move a folder into its place; where another process was quicker, its work stays."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _is_whole(path: Path) -> bool:
    """Tell whether an array has all of its files, whatever is in them."""
    try:
        metadata = json.loads((path / "zarr.json").read_bytes())
        edges = zip(metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"], strict=True)
        chunks = math.prod(-(-size // chunk) for size, chunk in edges)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return False
    return sum(1 for _ in _files(path / "c")) == chunks


def _files(folder: Path) -> Iterator[Path]:
    return (Path(folder) / name for folder, _, names in os.walk(folder) for name in names)


def write_raw_bands(
    store: RawStore, source: str, scene_id: str, folder: AnyPath, bands: BandNames = None
) -> list[Path]:
    """Write bands of a stored scene as ``<ESA's number>.tif`` into a folder; each appears complete or not at all.

    The files hold raw integers at the band's own resolution, nodata 0, with scale and offset of the reflectance.
    RawStoreError if a band is absent or damaged, OSError if a file cannot be written.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = []
    for band in bands_of_scene(bands):
        with step("write raw band"):
            files.append(_write(store.open(source, scene_id, band), band, Path(folder) / f"{band.number}.tif"))
    return files


def _write(stored: StoredBand, band: S2Band, file: Path) -> Path:
    grid = stored.grid
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": grid.shape[0],
        "width": grid.shape[1],
        "dtype": band.dtype,
        "crs": grid.crs,
        "transform": grid.affine,
        "nodata": 0,
        "tiled": True,
        "compress": "deflate",
        "predictor": 2,
        "num_threads": usable_cpus(),
    }
    try:
        with atomic_path(file, durable=False) as draft, rasterio.open(draft, "w", **profile) as target:
            target.scales, target.offsets = (grid.scale,), (grid.offset,)
            target.set_band_description(1, band.name)
            target.write(stored.read(), 1)
    except rasterio.errors.RasterioError as error:
        raise OSError(f"{file} cannot be written: {error}") from error
    return file
