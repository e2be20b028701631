"""Raw bands to a tile: reflectance, scene classification and quality on one grid of 10 m."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from darts_acquisition.errors import EmptySceneError
from darts_acquisition.scenes.bands import SCL, S2Band, quality_from_scl, reflectance_table
from darts_acquisition.scenes.raw import RawBand, RawGrid, SceneMetadata, tile_geobox
from darts_acquisition.tile import as_variable
from darts_utils import OPTICAL_BANDS, step

if TYPE_CHECKING:
    import xarray as xr

_ROWS = 183
"""Rows of a band in memory that a thread converts at once."""
_ROWS_IN_CACHE = 16
"""Rows that go through all steps of the conversion at once, so that what lies between them stays in the cache."""


class Readable(Protocol):
    """A band whose rows can be read: in the store, or in memory."""

    @property
    def band(self) -> S2Band:
        """Which one."""

    @property
    def grid(self) -> RawGrid:
        """Where its pixels lie."""

    @property
    def rows_at_once(self) -> int:
        """How many rows are best read at once."""

    def read(self, rows: slice = ...) -> np.ndarray:
        """Read rows of raw integers."""


class InMemory:
    """A band in memory, read like one in the store."""

    def __init__(self, raw: RawBand) -> None:
        self.band, self.grid = raw.band, raw.grid
        self.rows_at_once = _ROWS
        self._values = raw.values

    def read(self, rows: slice = slice(None)) -> np.ndarray:
        """Return a view of rows."""
        return self._values[rows]


def build_tile(
    metadata: SceneMetadata, bands: Sequence[Readable], data_source: str, workers: int | None = None
) -> "xr.Dataset":
    """Bring the bands of a scene onto its grid of 10 m.

    Pixels of 20 m and 60 m become squares of 2 × 2 and 6 × 6 pixels, which is what nearest neighbour gives on grids
    that share their corner. A pixel without data in one of blue, green, red and nir, as far as they are loaded, has
    quality 0, and so has one without a class.

    Args:
        metadata: The scene.
        bands: Reflectance bands and the scene classification.
        data_source: Attribute that every variable gets.
        workers: Threads that read and convert; None for one per processor.

    Returns:
        Dataset with dimensions (y, x): reflectance as float32 (1, NaN where DN is 0), `s2_scl` as uint8 (0 no data),
        `quality_data_mask` as uint8 (0 invalid, 1 low, 2 high).

    Raises:
        SceneGridError: If the bands do not share one grid.
        EmptySceneError: If every pixel of every reflectance band is 0, whatever the scene classification says.
        RawStoreError: If a stored band is damaged.
    """
    import xarray as xr

    geobox = tile_geobox({item.band.name: (item.band, item.grid) for item in bands}, metadata.scene_id)
    shape = (geobox.shape[0], geobox.shape[1])
    arrays = {item.band.name: np.empty(shape, "uint8" if item.band is SCL else "float32") for item in bands}
    arrays["quality_data_mask"] = quality = np.empty(shape, "uint8")
    with ThreadPoolExecutor(workers, thread_name_prefix="darts-s2") as pool, step("read raw bands"):
        # The classes decide on the quality first, then pixels without data in a band take theirs away.
        _run(pool, [_Classes(item, arrays[SCL.name], quality) for item in bands if item.band is SCL])
        reflectance = [_Reflectance(item, arrays[item.band.name], quality) for item in bands if item.band is not SCL]
        _run(pool, reflectance)
    if reflectance and not any(band.has_data for band in reflectance):
        names = ", ".join(band.item.band.name for band in reflectance)
        raise EmptySceneError(f"Scene {metadata.scene_id} holds no data: all pixels of {names} are 0. Nothing to map.")
    order = [item.band.name for item in bands if item.band is not SCL]
    variables = {
        name: as_variable(arrays[name], geobox, _attrs(name, bands, data_source))
        for name in (*order, SCL.name, "quality_data_mask")
    }
    angles = {name: metadata.attrs.get(name, math.nan) for name in ("azimuth", "elevation")}
    return xr.Dataset(variables, attrs={"tile_id": metadata.scene_id} | metadata.attrs | angles)


def _attrs(name: str, bands: Sequence[Readable], data_source: str) -> dict[str, str]:
    from darts_utils import band_attrs

    for item in bands:
        if item.band.name == name:
            return item.band.attrs(data_source=data_source)
    return band_attrs(name, data_source=data_source)


class _Classes:
    """Brings rows of the scene classification onto the tile's grid, and the quality that follows from it."""

    def __init__(self, item: Readable, out: np.ndarray, quality: np.ndarray) -> None:
        self.item, self._out, self._quality = item, out, quality

    def convert(self, rows: slice) -> None:
        """Read and write some rows, counted in those of the band."""
        factor = self.item.band.factor
        values = self.item.read(rows)
        target = slice(rows.start * factor, rows.stop * factor)
        _enlarge(values, factor, self._out[target])
        _enlarge(quality_from_scl(values), factor, self._quality[target])


class _Reflectance:
    """Brings rows of a band onto the tile's grid as reflectance. Each value goes to memory once, out of the cache."""

    def __init__(self, item: Readable, out: np.ndarray, quality: np.ndarray) -> None:
        self.item, self._out, self._quality = item, out, quality
        self.has_data = False
        self._table = reflectance_table(item.grid.scale, item.grid.offset)
        self._line = _exact_line(item.grid.scale, item.grid.offset, self._table)

    def convert(self, rows: slice) -> None:
        """Read and write some rows, counted in those of the band."""
        factor = self.item.band.factor
        values = self.item.read(rows)
        first = rows.start * factor
        for part in _row_blocks(len(values), _ROWS_IN_CACHE):
            target = slice(first + part.start * factor, first + part.stop * factor)
            self._convert(values[part], factor, self._out[target], self._quality[target])

    def _convert(self, values: np.ndarray, factor: int, out: np.ndarray, quality: np.ndarray) -> None:
        small = out if factor == 1 else np.empty(values.shape, "float32")
        if self._line is None:
            # Every value is an index of the table; "clip" only spares numpy the check and its buffer.
            np.take(self._table, values, out=small, mode="clip")
        else:
            shift, divisor = self._line
            np.copyto(small, values)
            np.subtract(small, shift, out=small)
            np.divide(small, divisor, out=small)
        if not self.has_data and values.any():
            self.has_data = True  # threads that find that at the same time write the same
        if values.min() == 0:
            empty = values == 0
            small[empty] = np.nan
            if self.item.band.name in OPTICAL_BANDS:
                # Threads that do so for other bands at the same time write the same zeros.
                quality[_enlarged(empty, factor)] = 0
        if factor > 1:
            _enlarge(small, factor, out)


def _exact_line(scale: float, offset: float, table: np.ndarray) -> tuple[np.float32, np.float32] | None:
    """Return shift and divisor for which ``(DN - shift) / divisor`` in float32 is the table's value, bit by bit.

    The scales and offsets of Sentinel-2, 0.0001 and -0.1, are such: a difference of two integers is exact, and IEEE 754
    rounds a quotient once. That takes a third of the time of looking up. Checked for all DN but 0; None if one differs.
    """
    if not 0 < scale <= 1:
        return None
    shift, divisor = np.float32(round(-offset / scale)), np.float32(round(1 / scale))
    line = (np.arange(len(table), dtype="float32") - shift) / divisor
    return (shift, divisor) if np.array_equal(line[1:].view("uint32"), table[1:].view("uint32")) else None


def _enlarge(values: np.ndarray, factor: int, out: np.ndarray) -> None:
    """Make of each pixel a square of factor × factor ones."""
    first = out[::factor]
    for col in range(factor):
        first[:, col::factor] = values
    for line in range(1, factor):
        out[line::factor] = first


def _enlarged(values: np.ndarray, factor: int) -> np.ndarray:
    return values.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else values


def _row_blocks(height: int, rows: int) -> Iterator[slice]:
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def _run(pool: ThreadPoolExecutor, conversions: "Sequence[_Classes | _Reflectance]") -> None:
    """Convert all rows of some bands."""
    tasks = [
        (each, rows) for each in conversions for rows in _row_blocks(each.item.grid.shape[0], each.item.rows_at_once)
    ]
    for _ in pool.map(lambda task: task[0].convert(task[1]), tasks):
        pass
