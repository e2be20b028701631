"""Raw bands to a tile: reflectance, scene classification and quality on one grid of 10 m."""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from darts_acquisition.sentinel2.bands import DEFAULT_BANDS, SCL, S2Band, quality_from_scl, reflectance_table
from darts_acquisition.sentinel2.raw import RawBand, RawGrid, SceneFacts, tile_geobox
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr

_ENCODING = {"grid_mapping": "spatial_ref"}
"""Lets a NetCDF file say where the CRS stands."""
_ROWS = 1830
"""Rows of a band that are read and converted at once where the band itself does not say."""
_ROWS_IN_CACHE = 16
"""Rows that are looked up at once: numpy makes eight bytes of each index on the way, which is quick in a cache only."""


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
    facts: SceneFacts, bands: Sequence[Readable], data_source: str, workers: int | None = None
) -> "xr.Dataset":
    """Bring the bands of a scene onto its grid of 10 m.

    Pixels of 20 m and 60 m become squares of 2 × 2 and 6 × 6 pixels, which is what nearest neighbour gives on grids
    that share their corner. A pixel without data in one of blue, green, red and nir, as far as they are loaded, has
    quality 0, and so has one without a class.

    Args:
        facts: The scene.
        bands: Reflectance bands and the scene classification.
        data_source: Attribute that every variable gets.
        workers: Threads that read and convert; None for one per processor.

    Returns:
        Dataset with dimensions (y, x): reflectance as float32 (1, NaN where DN is 0), `s2_scl` as uint8 (0 no data),
        `quality_data_mask` as uint8 (0 invalid, 1 low, 2 high).

    Raises:
        SceneGridError: If the bands do not share one grid.
        RawStoreError: If a stored band is damaged.
    """
    import xarray as xr
    from odc.geo.xr import xr_coords

    geobox = tile_geobox({item.band.name: (item.band, item.grid) for item in bands}, facts.scene_id)
    coords = dict(xr_coords(geobox))
    arrays: dict[str, np.ndarray] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="darts-s2") as pool, step("read raw bands"):
        for item in sorted(bands, key=lambda item: item.band is not SCL):
            arrays[item.band.name] = _load(item, (geobox.shape[0], geobox.shape[1]), pool)
        arrays["quality_data_mask"] = _quality(arrays, pool)
    order = [item.band.name for item in bands if item.band is not SCL]
    variables = {
        name: (("y", "x"), arrays[name], _attrs(name, bands, data_source), _ENCODING)
        for name in (*order, SCL.name, "quality_data_mask")
    }
    angles = {name: facts.attrs.get(name, math.nan) for name in ("azimuth", "elevation")}
    return xr.Dataset(variables, coords=coords, attrs={"tile_id": facts.scene_id} | facts.attrs | angles)


def _attrs(name: str, bands: Sequence[Readable], data_source: str) -> dict[str, str]:
    from darts_utils import band_attrs

    for item in bands:
        if item.band.name == name:
            return item.band.attrs(data_source=data_source)
    return band_attrs(name, data_source=data_source)


def _load(item: Readable, shape: tuple[int, int], pool: ThreadPoolExecutor) -> np.ndarray:
    """Read a band and bring it onto the tile's grid, some rows per task."""
    factor = item.band.factor
    is_scl = item.band is SCL
    out = np.empty(shape, "uint8" if is_scl else "float32")
    table = np.arange(256, dtype="uint8") if is_scl else reflectance_table(item.grid.scale, item.grid.offset)

    def convert(rows: slice) -> None:
        values = item.read(rows)
        target = out[rows.start * factor : rows.stop * factor]
        if factor == 1:
            for part in _row_blocks(len(values), _ROWS_IN_CACHE):
                # Every value is an index of the table; "clip" only spares numpy the check and its buffer.
                np.take(table, values[part], out=target[part], mode="clip")
            return
        wide = np.repeat(table[values], factor, axis=1)
        for line in range(factor):
            target[line::factor] = wide

    _run(pool, convert, _row_blocks(item.grid.shape[0], item.rows_at_once))
    return out


def _quality(arrays: dict[str, np.ndarray], pool: ThreadPoolExecutor) -> np.ndarray:
    scl = arrays[SCL.name]
    optical = [arrays[name] for name in DEFAULT_BANDS if name in arrays]
    quality = np.empty(scl.shape, "uint8")

    def convert(rows: slice) -> None:
        part = quality_from_scl(scl[rows])
        for values in optical:
            part *= values[rows] == values[rows]  # NaN differs from itself
        quality[rows] = part

    _run(pool, convert, _row_blocks(scl.shape[0], 256))
    return quality


def _row_blocks(height: int, rows: int) -> Iterator[slice]:
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def _run(pool: ThreadPoolExecutor, task: "_Task", blocks: Iterable[slice]) -> None:
    for _ in pool.map(task, blocks):
        pass


class _Task(Protocol):
    def __call__(self, rows: slice, /) -> None: ...
