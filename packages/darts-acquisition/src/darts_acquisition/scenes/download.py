"""Bring a scene into the store, or into memory, and make a tile of it: the same for all sources."""

import math
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from filelock import FileLock
from odc.geo.geobox import GeoBox

from darts_acquisition.errors import EmptySceneError, SceneNotStoredError
from darts_acquisition.scenes.names import mgrs_tile_geobox
from darts_acquisition.scenes.quality import Scaling, row_blocks
from darts_acquisition.scenes.raw import SCL, RawBand, RawGrid, S2Band, SceneMetadata, bands_of_scene, tile_geobox
from darts_acquisition.scenes.store import RawStore, StoredBand
from darts_acquisition.tile import AnyPath, BandNames, as_band, as_variable
from darts_utils import BANDS, OPTICAL_BANDS, step

if TYPE_CHECKING:
    import xarray as xr


class Provider(Protocol):
    """A source of raw scenes; `name` is its name in the store, `data_source` that in a tile."""

    name: str
    data_source: str

    def fetch(self, scene_id: str, bands: Sequence[S2Band], folder: Path, /) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Fetch bands of a scene; `folder` keeps what a later attempt can go on from."""

    def grid(self, scene_id: str) -> RawGrid:
        """Return the grid of the band that says how good pixels are, as the catalogue says it."""


def download_scene(provider: Provider, scene_id: str, store: RawStore, wanted: Sequence[S2Band]) -> None:
    """Bring those bands of a scene into the store that are not there. One process at a time does so."""
    if not store.missing(provider.name, scene_id, wanted):
        return
    with _holding(provider, scene_id, store) as folder:
        if missing := store.missing(provider.name, scene_id, wanted):
            metadata, raw_bands = provider.fetch(scene_id, missing, folder)
            for raw in raw_bands:
                with step("store raw band"):
                    store.add(metadata, raw)
        shutil.rmtree(folder, ignore_errors=True)


def load_scene(
    provider: Provider, scene_id: str, folder: AnyPath | None, wanted: Sequence[S2Band], offline: bool
) -> "xr.Dataset":
    """Make a tile of bands of a scene, from the store in a folder as far as they are there; None keeps nothing."""
    if folder is None:
        if offline:
            raise SceneNotStoredError(f"Scene {scene_id} is to be loaded offline, but no store of raw scenes is named.")
        with tempfile.TemporaryDirectory(prefix="darts-s2-") as downloads:
            metadata, raw_bands = provider.fetch(scene_id, wanted, Path(downloads))
            return build_tile(metadata, list(raw_bands), provider.data_source)
    store = RawStore(folder)
    if offline:
        _check_stored(provider, scene_id, store, wanted)
    else:
        download_scene(provider, scene_id, store, wanted)
    metadata = store.metadata(provider.name, scene_id)
    stored = [store.open(provider.name, scene_id, band) for band in wanted]
    return build_tile(metadata, stored, provider.data_source)


class SceneSource(ABC):
    """A source of scenes as pipelines use it: they are fetched, stored under its `name`, and loaded as tiles."""

    name: str
    _quality = SCL

    @abstractmethod
    def check_scene_id(self, scene_id: str) -> str:
        """Return a scene's name as the source writes it; SceneNameError if it is none of this source."""

    @abstractmethod
    def _provider(self) -> Provider: ...

    @abstractmethod
    def _tile_of(self, scene_id: str) -> str:
        """Return the MGRS tile that a name holds; empty where it holds none."""

    def _bands(self, bands: BandNames) -> tuple[S2Band, ...]:
        return bands_of_scene(bands)

    def is_stored(self, scene_id: str, store: AnyPath, bands: BandNames = None) -> bool:
        """Say whether these bands of a scene, and what says how good pixels are, can be loaded from the store alone."""
        return not RawStore(store).missing(self.name, self.check_scene_id(scene_id), self._bands(bands))

    def stored_files(self, scene_id: str, store: AnyPath, bands: BandNames = None) -> list[Path]:
        """List the files of a stored scene that a tile of these bands is made from; none where a band is absent."""
        return RawStore(store).files(self.name, self.check_scene_id(scene_id), self._bands(bands))

    def download(self, scene_id: str, store: AnyPath, bands: BandNames = None) -> None:
        """Bring a scene into the store; see `download_cdse_s2_sr_scene`."""
        download_scene(self._provider(), self.check_scene_id(scene_id), RawStore(store), self._bands(bands))

    def load(
        self, scene_id: str, store: AnyPath | None = None, bands: BandNames = None, *, offline: bool = False
    ) -> "xr.Dataset":
        """Load a scene as a tile; see `load_cdse_s2_sr_scene`."""
        return load_scene(self._provider(), self.check_scene_id(scene_id), store, self._bands(bands), offline)

    def geobox(self, scene_id: str, store: AnyPath | None = None, *, offline: bool = False) -> GeoBox:
        """Return the grid of 10 m that a scene's tile will have, without its pixels.

        The store is looked at first; offline, the grid is that of the MGRS tile in the scene's name, and without one it
        is a SceneNotStoredError. SceneNameError if the name is none of this source, SceneNotFoundError if the source
        does not know the scene, ServiceError if the service refuses or fails.
        """
        name, band = self.check_scene_id(scene_id), self._quality
        if store is not None and not RawStore(store).missing(self.name, name, [band]):
            grid = RawStore(store).open(self.name, name, band).grid
        elif not offline:
            grid = self._provider().grid(name)
        elif tile := self._tile_of(name):
            return mgrs_tile_geobox(tile)
        else:
            raise SceneNotStoredError(f"Scene {name} is not in the store, and its name does not say where it lies.")
        return tile_geobox({band.name: (band, grid)}, name)


def _check_stored(provider: Provider, scene_id: str, store: RawStore, wanted: Sequence[S2Band]) -> None:
    if missing := store.missing(provider.name, scene_id, wanted):
        what = "Scene" if len(missing) == len(wanted) else f"Band {', '.join(band.number for band in missing)} of scene"
        raise SceneNotStoredError(
            f"{what} {scene_id} is not in {store.folder}; offline nothing is fetched. Fetch it by loading it online."
        )


@contextmanager
def _holding(provider: Provider, scene_id: str, store: RawStore) -> Iterator[Path]:
    """Hold a scene of the store; give the folder that keeps what was fetched of it. A process that dies lets go."""
    downloads = store.folder / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    name = f"{provider.name}_{scene_id}"
    with FileLock(downloads / f"{name}.lock"):
        store.clear_drafts(provider.name, scene_id)
        yield downloads / name


_ROWS_IN_CACHE = 16
"""Rows that go through all steps of the conversion at once, so that what lies between them stays in the cache."""


Readable: TypeAlias = RawBand | StoredBand
"""A band whose rows can be read: in memory, or in the store."""


def build_tile(
    metadata: SceneMetadata, bands: Sequence[Readable], data_source: str, workers: int | None = None
) -> "xr.Dataset":
    """Bring the bands of a scene, reflectance and the one that says how good pixels are, onto its grid of 10 m.

    Pixels of 20 m and 60 m become squares of 2 × 2 and 6 × 6 pixels, which is what nearest neighbour gives on grids
    that share their corner. A pixel without data in one of blue, green, red and nir, as far as they are loaded, has
    quality 0. The Dataset (y, x) holds reflectance as float32 (1, NaN where there is no data), the other band if the
    band table knows it (`s2_scl`, uint8), and `quality_data_mask` as uint8 (0 invalid, 1 low, 2 high). `workers` are
    threads, None for one per processor.

    SceneGridError if the bands do not share one grid, EmptySceneError if no pixel of any reflectance band has data,
    RawStoreError if a stored band is damaged.
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
            part, target_rows = values[rows], slice(rows.start * factor, rows.stop * factor)
            small = out[target_rows] if factor == 1 else np.empty(part.shape, "float32")
            missing = scalings[band.name].convert(part, small)
            if factor > 1:
                _enlarge(small, factor, out[target_rows])
            if missing is None or (band.name not in with_data and not missing.all()):
                with_data.add(band.name)
            if missing is not None and band.name in OPTICAL_BANDS:
                where = missing if factor == 1 else np.kron(missing, np.ones((factor, factor), bool))
                # Threads that do so for other bands at the same time write the same zeros.
                quality[target][target_rows][where] = 0

    with ThreadPoolExecutor(workers, thread_name_prefix="darts-s2") as pool, step("read raw bands"):
        # What decides on the quality comes first, then pixels without data in a band take theirs away.
        _run(pool, classes, classify)
        _run(pool, reflectance, convert)
    if reflectance and not with_data:
        raise EmptySceneError(
            f"Scene {metadata.scene_id} holds no data: all pixels of {', '.join(scalings)} are "
            f"{reflectance[0].band.nodata}. Nothing to map."
        )
    layers = {band.name: as_variable(arrays[band.name], geobox, band.attrs(data_source=data_source)) for band in shown}
    layers["quality_data_mask"] = as_band("quality_data_mask", quality, geobox, data_source)
    angles = {name: metadata.attrs.get(name, math.nan) for name in ("azimuth", "elevation")}
    return xr.Dataset(layers, attrs={"tile_id": metadata.scene_id} | metadata.attrs | angles)


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
    first = out[::factor]
    for col in range(factor):
        first[:, col::factor] = values
    for line in range(1, factor):
        out[line::factor] = first
