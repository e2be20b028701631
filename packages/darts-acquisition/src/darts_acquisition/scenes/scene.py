"""Bring a scene into the store, or into memory, and make a tile of it: the same for all sources."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from darts_acquisition.errors import SceneNotStoredError
from darts_acquisition.scenes.bands import SCL, S2Band, select_bands
from darts_acquisition.scenes.raw import RawBand, SceneMetadata
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.scenes.tile import InMemory, Readable, build_tile
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr

BuildTile = Callable[[SceneMetadata, Sequence[Readable], str], "xr.Dataset"]
"""Makes a tile of a scene, its bands and the name of their source."""


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


def download_scene(provider: Provider, scene_id: str, store: RawStore, bands: "Iterable[str] | str | None") -> None:
    """Bring bands of a Sentinel-2 L2A scene into the store, and its classification; see `download_bands`."""
    download_bands(provider, scene_id, store, (*select_bands(bands), SCL))


def download_bands(provider: Provider, scene_id: str, store: RawStore, wanted: Sequence[S2Band]) -> None:
    """Bring those bands of a scene into the store that are not there. One process at a time does so."""
    if not _missing(provider, scene_id, store, wanted):
        return
    with _holding(provider, scene_id, store) as folder:
        missing = _missing(provider, scene_id, store, wanted)
        if missing:
            metadata, raw_bands = provider.fetch(scene_id, missing, folder)
            for raw in raw_bands:
                with step("store raw band"):
                    store.add(metadata, raw)
        shutil.rmtree(folder, ignore_errors=True)


def load_scene(
    provider: Provider,
    scene_id: str,
    store: RawStore | None,
    bands: "Iterable[str] | str | None",
    offline: bool,
) -> "xr.Dataset":
    """Make a tile of a Sentinel-2 L2A scene; see `load_bands`."""
    return load_bands(provider, scene_id, store, (*select_bands(bands), SCL), offline, build_tile)


def load_bands(
    provider: Provider,
    scene_id: str,
    store: RawStore | None,
    wanted: Sequence[S2Band],
    offline: bool,
    build: BuildTile,
) -> "xr.Dataset":
    """Make a tile of bands of a scene, from the store as far as they are there."""
    if store is None:
        if offline:
            raise SceneNotStoredError(f"Scene {scene_id} is to be loaded offline, but no store of raw scenes is named.")
        with tempfile.TemporaryDirectory(prefix="darts-s2-") as folder:
            metadata, raw_bands = provider.fetch(scene_id, wanted, Path(folder))
            return build(metadata, [InMemory(raw) for raw in raw_bands], provider.data_source)
    if offline:
        _check_stored(provider, scene_id, store, wanted)
    else:
        download_bands(provider, scene_id, store, wanted)
    metadata = store.metadata(provider.source, scene_id)
    stored = [store.open(provider.source, scene_id, band) for band in wanted]
    return build(metadata, stored, provider.data_source)


def _missing(provider: Provider, scene_id: str, store: RawStore, wanted: Sequence[S2Band]) -> list[S2Band]:
    present = store.bands(provider.source, scene_id)
    return [band for band in wanted if band.number not in present]


def _check_stored(provider: Provider, scene_id: str, store: RawStore, wanted: Sequence[S2Band]) -> None:
    missing = _missing(provider, scene_id, store, wanted)
    if not missing:
        return
    what = "Scene" if len(missing) == len(wanted) else f"Band {', '.join(band.number for band in missing)} of scene"
    raise SceneNotStoredError(
        f"{what} {scene_id} is not in {store.folder}, and offline nothing may be fetched. "
        "Fetch it with `darts inference prep-data sentinel2 --optical`."
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
