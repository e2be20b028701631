"""Bring a scene into the store, or into memory, and make a tile of it: the same for all sources."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from darts_acquisition.errors import SceneNotStoredError
from darts_acquisition.scenes.bands import S2Band
from darts_acquisition.scenes.mgrs import mgrs_tile_geobox
from darts_acquisition.scenes.raw import RawBand, RawGrid, SceneMetadata, tile_geobox
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.scenes.tile import build_tile
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox


class Provider(Protocol):
    """A source of raw scenes.

    Attributes:
        source: Its name in the store.
        data_source: Its name in a tile.
    """

    source: str
    data_source: str

    def fetch(self, scene_id: str, bands: Sequence[S2Band], folder: Path) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Fetch bands of a scene; `folder` keeps what a later attempt can go on from."""

    def grid(self, scene_id: str) -> RawGrid:
        """Return the grid of the band that says how good pixels are, as the catalogue says it."""


def download_scene(provider: Provider, scene_id: str, store: RawStore, wanted: Sequence[S2Band]) -> None:
    """Bring those bands of a scene into the store that are not there. One process at a time does so."""
    if not store.missing(provider.source, scene_id, wanted):
        return
    with _holding(provider, scene_id, store) as folder:
        missing = store.missing(provider.source, scene_id, wanted)
        if missing:
            metadata, raw_bands = provider.fetch(scene_id, missing, folder)
            for raw in raw_bands:
                with step("store raw band"):
                    store.add(metadata, raw)
        shutil.rmtree(folder, ignore_errors=True)


def load_scene(
    provider: Provider,
    scene_id: str,
    folder: "str | os.PathLike[str] | None",
    wanted: Sequence[S2Band],
    offline: bool,
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
    metadata = store.metadata(provider.source, scene_id)
    stored = [store.open(provider.source, scene_id, band) for band in wanted]
    return build_tile(metadata, stored, provider.data_source)


def scene_geobox(
    provider: Provider,
    scene_id: str,
    folder: "str | os.PathLike[str] | None",
    band: S2Band,
    tile_id: str | None,
) -> "GeoBox":
    """Return the grid of 10 m that a scene's tile will have, without its pixels.

    It is that of `band`, which says how good pixels are, in the store or as the provider says. With a `tile_id` the
    provider is not asked: the grid is that of the MGRS tile, if it is not empty.

    Raises:
        SceneNotStoredError: If nothing is to be asked for, and nothing is known.
        DartsError: What the provider raises.
    """
    store = None if folder is None else RawStore(folder)
    if store is not None and not store.missing(provider.source, scene_id, [band]):
        grid = store.open(provider.source, scene_id, band).grid
    elif tile_id is None:
        grid = provider.grid(scene_id)
    elif tile_id:
        return mgrs_tile_geobox(tile_id)
    else:
        raise SceneNotStoredError(f"Scene {scene_id} is not in the store, and its name does not say where it lies.")
    return tile_geobox({band.name: (band, grid)}, scene_id)


def _check_stored(provider: Provider, scene_id: str, store: RawStore, wanted: Sequence[S2Band]) -> None:
    missing = store.missing(provider.source, scene_id, wanted)
    if not missing:
        return
    what = "Scene" if len(missing) == len(wanted) else f"Band {', '.join(band.number for band in missing)} of scene"
    raise SceneNotStoredError(
        f"{what} {scene_id} is not in {store.folder}, and offline nothing may be fetched. "
        "Fetch it by loading it online, or with `darts inference prep-data sentinel2 --optical`."
    )


@contextmanager
def _holding(provider: Provider, scene_id: str, store: RawStore) -> Iterator[Path]:
    """Hold a scene of the store; give the folder that keeps what was fetched of it. A process that dies lets go."""
    from filelock import FileLock

    downloads = store.folder / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    name = f"{provider.source}_{scene_id}"
    with FileLock(downloads / f"{name}.lock"):
        store.clear_drafts(provider.source, scene_id)
        yield downloads / name
