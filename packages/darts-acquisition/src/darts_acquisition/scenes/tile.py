"""Raw bands to a tile: reflectance and quality on one grid of 10 m."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from darts_acquisition.errors import EmptySceneError
from darts_acquisition.scenes.bands import S2Band
from darts_acquisition.scenes.quality import Scaling, row_blocks
from darts_acquisition.scenes.raw import RawBand, SceneMetadata, tile_geobox
from darts_acquisition.scenes.store import StoredBand
from darts_acquisition.tile import as_band, as_variable
from darts_utils import BANDS, OPTICAL_BANDS, step

if TYPE_CHECKING:
    import xarray as xr

_ROWS_IN_CACHE = 16
"""Rows that go through all steps of the conversion at once, so that what lies between them stays in the cache."""


Readable: TypeAlias = RawBand | StoredBand
"""A band whose rows can be read: in memory, or in the store."""


def build_tile(
    metadata: SceneMetadata, bands: Sequence[Readable], data_source: str, workers: int | None = None
) -> "xr.Dataset":
    """Bring the bands of a scene onto its grid of 10 m.

    Pixels of 20 m and 60 m become squares of 2 × 2 and 6 × 6 pixels, which is what nearest neighbour gives on grids
    that share their corner. A pixel without data in one of blue, green, red and nir, as far as they are loaded, has
    quality 0.

    Args:
        metadata: The scene.
        bands: Reflectance bands, and the one that says how good pixels are.
        data_source: Attribute that every variable gets.
        workers: Threads that read and convert; None for one per processor.

    Returns:
        Dataset with dimensions (y, x): reflectance as float32 (1, NaN where there is no data), the other band if the
        band table knows it (`s2_scl`, uint8), and `quality_data_mask` as uint8 (0 invalid, 1 low, 2 high).

    Raises:
        SceneGridError: If the bands do not share one grid.
        EmptySceneError: If no pixel of any reflectance band has data, whatever the other band says.
        RawStoreError: If a stored band is damaged.
    """
    import xarray as xr

    geobox = tile_geobox({item.band.name: (item.band, item.grid) for item in bands}, metadata.scene_id)
    shape = (geobox.shape[0], geobox.shape[1])
    reflectance = [item for item in bands if item.band.quality is None]
    classes = [item for item in bands if item.band.quality is not None]
    shown = [item.band for item in (*reflectance, *classes) if item.band.quality is None or item.band.name in BANDS]
    arrays = {band.name: np.empty(shape, "float32" if band.quality is None else band.dtype) for band in shown}
    quality = np.empty(shape, "uint8")
    scalings = {
        item.band.name: Scaling(item.grid.scale, item.grid.offset, (item.band.nodata,), item.band.dtype)
        for item in reflectance
    }
    with_data: set[str] = set()

    def classify(band: S2Band, values: np.ndarray, target: slice) -> None:
        if band.name in arrays:
            _enlarge(values, band.factor, arrays[band.name][target])
        if band.quality is not None:
            _enlarge(band.quality(values), band.factor, quality[target])

    def convert(band: S2Band, values: np.ndarray, target: slice) -> None:
        """Write reflectance, each value once, out of the cache; and quality 0 where there is no data."""
        out, factor = arrays[band.name][target], band.factor
        for rows in row_blocks(len(values), _ROWS_IN_CACHE):
            part, place = values[rows], slice(rows.start * factor, rows.stop * factor)
            small = out[place] if factor == 1 else np.empty(part.shape, "float32")
            missing = scalings[band.name].convert(part, small)
            if factor > 1:
                _enlarge(small, factor, out[place])
            if missing is None or (band.name not in with_data and not missing.all()):
                with_data.add(band.name)
            if missing is not None and band.name in OPTICAL_BANDS:
                where = missing if factor == 1 else np.kron(missing, np.ones((factor, factor), bool))
                # Threads that do so for other bands at the same time write the same zeros.
                quality[target][place][where] = 0

    with ThreadPoolExecutor(workers, thread_name_prefix="darts-s2") as pool, step("read raw bands"):
        # What decides on the quality comes first, then pixels without data in a band take theirs away.
        _run(pool, classes, classify)
        _run(pool, reflectance, convert)
    if reflectance and not with_data:
        raise EmptySceneError(
            f"Scene {metadata.scene_id} holds no data: all pixels of {', '.join(scalings)} are "
            f"{reflectance[0].band.nodata}. Nothing to map."
        )
    variables = {
        band.name: as_variable(arrays[band.name], geobox, band.attrs(data_source=data_source)) for band in shown
    }
    variables["quality_data_mask"] = as_band("quality_data_mask", quality, geobox, data_source)
    angles = {name: metadata.attrs.get(name, math.nan) for name in ("azimuth", "elevation")}
    return xr.Dataset(variables, attrs={"tile_id": metadata.scene_id} | metadata.attrs | angles)


def _run(pool: ThreadPoolExecutor, bands: Sequence[Readable], work: Callable[[S2Band, np.ndarray, slice], Any]) -> None:
    """Work on all rows of some bands, as they are read: band, rows, and where these lie in the tile."""

    def read(task: tuple[Readable, slice]) -> None:
        item, rows = task
        factor = item.band.factor
        work(item.band, item.read(rows), slice(rows.start * factor, rows.stop * factor))

    tasks = [(item, rows) for item in bands for rows in row_blocks(item.grid.shape[0], item.rows_at_once)]
    for _ in pool.map(read, tasks):
        pass


def _enlarge(values: np.ndarray, factor: int, out: np.ndarray) -> None:
    """Make of each pixel a square of factor × factor ones."""
    first = out[::factor]
    for col in range(factor):
        first[:, col::factor] = values
    for line in range(1, factor):
        out[line::factor] = first
