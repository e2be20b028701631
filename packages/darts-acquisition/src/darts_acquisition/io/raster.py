"""Windows of remote GeoTIFFs, read by odc-stac through GDAL: of one version of each file, checked, and whole."""

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.session import DummySession

from darts_acquisition.errors import Failure, RequestError, ServiceError, lost, public_url, scrub
from darts_acquisition.io.retry import check_not_stopped
from darts_acquisition.io.store import Store, Version
from darts_utils import step

if TYPE_CHECKING:
    from odc.loader import RioDriver
    from odc.loader.types import RasterSource
    from pystac import Item

T = TypeVar("T")

_HEAD_BYTES = 1 << 17
"""Bytes that hold the directories of most cloud-optimised GeoTIFFs, which lie at the beginning."""
_SLOWEST = 1024
"""Bytes per second below which a request of GDAL counts as stalled."""
_SIGNED_FOR_S = 3000
"""How long a signed address is used."""
_MOST_KNOWN = 512
"""Files of which grid and version are kept in memory."""
_LOGGERS = (
    *("rasterio._base", "rasterio._env", "rasterio._err", "rasterio._io"),
    *("odc.loader._rio", "urllib3.connectionpool"),
)
"""Who writes addresses into logs."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json" for name in ("projection/v2.0.0", "raster/v1.1.0")
)
_FRAGMENT = re.compile(r"#\d+\b")
_attempts = count()


@dataclass(frozen=True)
class Layer:
    """Files by address that make one array; of several with data the first counts, and without any it is `nodata`.

    The files have the array's data type, or one of `also`, all of whose values the array can hold.
    """

    uris: Sequence[str]
    dtype: str
    nodata: float
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    """A version of a file: what GDAL calls it, its HTTP address, and until when that is signed (monotonic clock)."""

    uri: str
    path: str
    url: str
    version: Version
    geobox: GeoBox
    until: float


class _Entry:
    """What threads share of a file; one of them at a time looks at it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.file: _File | None = None


class _Unreadable(Failure):
    """GDAL fails, the service does not."""


class RasterReader:
    """Reads layers of remote GeoTIFFs in a store on the grid of the files. Threads may share one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_scrub_record)  # Adding it again changes nothing.

    def read(self, layers: Mapping[str, Layer], target: GeoBox) -> dict[str, np.ndarray] | None:
        """Read layers on a grid, all of their files as they are before and afterwards, with retries.

        A pixel has no data where it is NaN, holds the value that its file names, or the one that stands for it in the
        result. A file that is shifted by a part of a pixel is laid on the nearest pixels. All layers have as many
        files, of which those of one rank belong together; all files have the CRS and the pixel size of the grid.
        Returns 2-D arrays by name; None where no file reaches the grid.

        LoginError if keys are refused or absent, ServiceError if a file cannot be read, changes all the time, or does
        not fit; the message names it.
        """
        first = next(uri for layer in layers.values() for uri in layer.uris)
        try:
            return self._store.limits.retry.call(
                lambda: self._read_once(layers, target),
                f"Reading {public_url(first)} and what lies beside it",
                self._store.limiter(first),
            )
        except ServiceError as error:
            if isinstance(error.failure, _Unreadable):  # One that is damaged does not mean that the service is down.
                raise type(error)(str(error), replace(error.failure, transient=False)) from None
            raise

    def _read_once(self, layers: Mapping[str, Layer], target: GeoBox) -> dict[str, np.ndarray] | None:
        together = self._store.threads.all
        wanted = [(uri, (layer.dtype, *layer.also)) for layer in layers.values() for uri in layer.uris]
        opened = together(partial(self._open, uri, dtypes, target) for uri, dtypes in wanted)
        known = {file.uri: file for file in opened}
        ranks = [
            uris
            for uris in zip(*(layer.uris for layer in layers.values()), strict=True)
            if any(_overlap(known[uri].geobox, target) for uri in uris)
        ]
        if not ranks:
            return None
        columns = zip(layers, zip(*ranks, strict=True), strict=True)
        files = {name: [known[uri] for uri in uris] for name, uris in columns}
        arrays = together(partial(self._load, layers[name], files[name], target) for name in layers)
        together(partial(self._check_unchanged, file) for each in files.values() for file in each)
        return dict(zip(layers, arrays, strict=True))

    def _open(self, uri: str, dtypes: tuple[str, ...], target: GeoBox) -> _File:
        """Return what is known of a file, after a look at it unless it is known; check that it fits."""
        with self._lock:
            while len(self._entries) >= _MOST_KNOWN:
                del self._entries[next(iter(self._entries))]
            entry = self._entries.setdefault(uri, _Entry())
        with entry.lock:
            file = entry.file
            if file is None or file.until < time.monotonic():
                file = entry.file = self._retried(lambda: self._look(uri, dtypes), uri)
        ours, theirs = file.geobox.affine, target.affine
        same_size = abs(ours.a / theirs.a - 1) < 1e-9 and abs(ours.e / theirs.e - 1) < 1e-9
        if file.geobox.crs != target.crs or not same_size or ours.b or ours.d:
            raise ServiceError(
                f"{public_url(uri)} has {file.geobox.crs} and pixels of {ours.a} × {ours.e}; "
                f"expected {target.crs} and {theirs.a} × {theirs.e}."
            )
        return file

    def _look(self, uri: str, dtypes: tuple[str, ...]) -> _File:
        """Find out grid and version of a file; ServiceError if it is no GeoTIFF of one band of such a data type."""
        url = self._store.http_url(uri)
        until = math.inf if url == uri else time.monotonic() + _SIGNED_FOR_S
        version = self._store.version(url, login=self._store.logs_in(uri), most_bytes=_HEAD_BYTES)
        told = _described(version.begin, uri)
        # GDAL keeps what it knows of an address, errors too. A fragment, which is never sent, makes it another one.
        path = f"/vsicurl/{url}#{next(_attempts)}"
        try:
            with self._gdal(), rasterio.open(path, driver="GTiff", sharing=False) as source:
                found = _profile(source)
        except RasterioError as error:
            raise self._why(error, uri, url, version) from None
        if found != told:  # GDAL takes what is cut off for absent, the value of no data for example.
            raise lost("its directory came otherwise than before")
        if told["count"] != 1 or told["dtype"] not in dtypes:
            raise ServiceError(
                f"{public_url(uri)} holds {told['count']} × {told['dtype']}; expected one band of "
                f"{' or '.join(dtypes)}."
            )
        if told["crs"] is None:
            raise ServiceError(f"{public_url(uri)} names no CRS; a georeferenced file is expected.")
        geobox = GeoBox((told["height"], told["width"]), told["transform"], str(told["crs"]))
        return _File(uri, path, url, replace(version, begin=b""), geobox, until)

    def _load(self, layer: Layer, files: Sequence[_File], target: GeoBox) -> np.ndarray:
        import odc.stac

        try:
            with step("read GeoTIFFs"), self._gdal():
                loaded = odc.stac.load(
                    [_item(rank, layer, file) for rank, file in enumerate(files)],
                    ["layer"],
                    geobox=target,
                    chunks={"y": target.height, "x": target.width},  # Else blocks of files would be read twice.
                    resampling="nearest",
                    fail_on_error=True,
                    driver=_make_driver(),
                ).compute(scheduler="synchronous")
        except RasterioError as error:
            self._forget(files)
            fragments = tuple(_FRAGMENT.findall(_told(error)))  # GDAL names the file that it cannot read.
            failed = next((file for file in files if file.path.endswith(fragments)), files[0])
            raise self._why(error, failed.uri, failed.url, failed.version) from None
        return np.asarray(loaded["layer"].values[0])

    def _check_unchanged(self, file: _File) -> None:
        ask = partial(self._store.version, file.url, login=self._store.logs_in(file.uri))
        if self._retried(ask, file.uri) != file.version:
            self._forget([file])
            raise _changed(file.uri)

    def _retried(self, work: Callable[[], T], uri: str) -> T:
        return self._store.limits.retry.call(work, f"Reading {public_url(uri)}", self._store.limiter(uri))

    def _forget(self, files: Sequence[_File]) -> None:
        with self._lock:
            for file in files:
                self._entries.pop(file.uri, None)

    @contextmanager
    def _gdal(self) -> Iterator[None]:
        """Let GDAL read, as one of the requests that are made at once."""
        options = _gdal_options(self._store.limits.timeout_s)
        with self._store.slot(), rasterio.Env(session=DummySession(), **options):
            yield

    def _why(self, error: Exception, uri: str, url: str, version: Version) -> RequestError:
        """Ask the service why GDAL cannot read a file; the error of what it answers, or the one that is returned."""
        if self._store.version(url, login=self._store.logs_in(uri)) != version:
            return _changed(uri)
        told = _FRAGMENT.sub("", _told(error))
        reason = f"GDAL cannot read {public_url(uri)} although the service answers, it may be damaged or cut off"
        return RequestError(_Unreadable(f"{reason} ({told})", transient=True))


def _changed(uri: str) -> RequestError:
    return lost(f"{public_url(uri)} has changed while it was read")


def _told(error: Exception) -> str:
    return scrub(" ".join(str(each) for each in (error, error.__cause__) if each))


def _described(head: bytes, uri: str) -> dict[str, Any]:
    """Return what the first bytes of a file say; ServiceError if they are not those of a cloud-optimised GeoTIFF."""
    if head[:4] not in _TIFF:
        raise ServiceError(f"{public_url(uri)} is no GeoTIFF; it begins with {head[:4]!r}.")
    try:
        with rasterio.MemoryFile(head) as memory, memory.open(driver="GTiff", sharing=False) as source:
            return _profile(source)
    except RasterioError as error:
        raise ServiceError(
            f"{public_url(uri)} is no cloud-optimised GeoTIFF; its first {len(head)} bytes do not describe it: {error}"
        ) from error


def _profile(source: rasterio.DatasetReader) -> dict[str, Any]:
    """Return what a file says of itself; NaN is written as a word, as it does not equal itself."""
    profile = {name: source.profile[name] for name in ("count", "height", "width", "dtype", "crs", "transform")}
    return profile | {
        "nodata": repr(source.nodata),
        "blocks": source.block_shapes,
        "scales": (source.scales, source.offsets),
    }


def _gdal_options(timeout_s: float) -> dict[str, str | float]:
    """Return what lets GDAL read one file and nothing beside it, in bounded time, without retries of its own."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    return {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_PAM_ENABLED": "NO",
        "GDAL_INGESTED_BYTES_AT_OPEN": _HEAD_BYTES,
        "VSI_CACHE": "NO",
        "GDAL_HTTP_MULTIRANGE": "SERIAL",  # Else one file would mean many requests at once.
        "GDAL_HTTP_MAX_RETRY": 0,
        "GDAL_HTTP_CONNECTTIMEOUT": timeout_s,
        "GDAL_HTTP_TIMEOUT": 10 * timeout_s,
        "GDAL_HTTP_LOW_SPEED_TIME": math.ceil(timeout_s),
        "GDAL_HTTP_LOW_SPEED_LIMIT": _SLOWEST,
        **({"CURL_CA_BUNDLE": bundle} if bundle else {}),
    }


def _make_driver() -> "RioDriver":
    """Return what opens files for odc-stac, under the options of the thread that asks, until that is to stop."""
    from odc.loader import RioDriver, RioReader

    class Driver(RioDriver):
        def capture_env(self) -> dict[str, object]:
            return {}

        def open(self, src: "RasterSource", ctx: Any) -> RioReader:
            check_not_stopped()
            return super().open(src, ctx)

    return Driver()


def _item(rank: int, layer: Layer, file: _File) -> "Item":
    """Describe a file as odc-stac wants it, by what it says itself; items are laid over one another by name."""
    from pystac import Asset, Item

    item = Item(f"{rank:06}", None, None, _TIME, {"proj:code": str(file.geobox.crs)}, stac_extensions=list(_EXTENSIONS))
    described = {
        "proj:shape": list(file.geobox.shape),
        "proj:transform": list(file.geobox.affine)[:6],
        "raster:bands": [{"data_type": layer.dtype, "nodata": layer.nodata}],
    }
    item.add_asset("layer", Asset(file.path, media_type="image/tiff; application=geotiff", extra_fields=described))
    return item


def _overlap(geobox: GeoBox, target: GeoBox) -> bool:
    ours, theirs = geobox.boundingbox, target.boundingbox
    width = min(ours.right, theirs.right) - max(ours.left, theirs.left)
    return width > 0 and min(ours.top, theirs.top) > max(ours.bottom, theirs.bottom)


def _scrub_record(record: logging.LogRecord) -> bool:
    """Take signatures out of what libraries log, and leave out what odc-stac says of our files, since we say it."""
    record.msg, record.args = scrub(record.getMessage()), ()
    return not (record.name.startswith("odc") and _FRAGMENT.search(record.msg))
