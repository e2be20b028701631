"""Windows of remote GeoTIFFs, read by odc-stac through GDAL: of one version of each file, checked, and whole."""

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from darts_acquisition.errors import ServiceError
from darts_acquisition.io.failures import Failure, RequestError, lost, public_url, scrub
from darts_acquisition.io.store import Store, Version
from darts_utils import step

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

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
_DAMAGED = "GDAL cannot read it although the service answers, it may be damaged or cut off"
_attempts = count()


@dataclass(frozen=True)
class Layer:
    """Files that make one array; where several have data, the first one counts.

    Attributes:
        uris: Their addresses, in the order of their rank.
        dtype: Data type of their values, and of the array.
        nodata: Value of the array where no file has data.
    """

    uris: Sequence[str]
    dtype: str
    nodata: float


@dataclass(frozen=True)
class _File:
    """What is known of a file.

    Attributes:
        uri: Its address.
        path: What GDAL calls this version of it.
        url: Its address of HTTP, signed where keys are needed.
        version: Its version.
        geobox: Its grid.
        dtype: Data type of its values.
        until: When the signature ends, on the monotonic clock.
    """

    uri: str
    path: str
    url: str
    version: Version
    geobox: "GeoBox"
    dtype: str
    until: float


@dataclass
class _Entry:
    """What threads share of a file, one of them at a time: its grid, its version, and when that was asked."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    file: _File | None = None
    version: Version | None = None
    asked: float = -math.inf


class _Unreadable(Failure):
    """GDAL fails, the service does not."""


class _Changed(Exception):  # noqa: N818 - no error where files may be replaced
    """A file is not the one any more of which a part was read."""


class RasterReader:
    """Reads layers of remote GeoTIFFs on the grid of the files. Threads may share one.

    Args:
        store: Where the files lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_scrub_record)  # Adding it again changes nothing.

    def read(self, layers: Mapping[str, Layer], target: "GeoBox") -> dict[str, np.ndarray] | None:
        """Read layers on a grid.

        A pixel has no data where it is NaN, holds the value that its file names, or the one that stands for it in the
        result. A file that is shifted by a part of a pixel is laid on the nearest pixels.

        Args:
            layers: Layers by name, all of as many files, of which those of one rank belong together.
            target: The grid, with the CRS and the pixel size of all files.

        Returns:
            2-D arrays by name; None where no file reaches the grid.

        Raises:
            LoginError: If the keys of an object storage are refused, or there are none.
            ServiceError: If a file cannot be read, changes all the time, or its grid or data type does not fit. The
                message names it.
        """
        uris = [uri for layer in layers.values() for uri in layer.uris]

        def attempt() -> dict[str, np.ndarray] | None:
            try:
                return self._read_once(layers, target)
            except _Changed as error:
                with self._lock:
                    for uri in uris:
                        self._entries.pop(uri, None)
                raise lost(f"{public_url(str(error))} has changed while it was read") from None

        return self._store.limits.retry.call(attempt, f"Reading {public_url(uris[0])} and what lies beside it")

    def _read_once(self, layers: Mapping[str, Layer], target: "GeoBox") -> dict[str, np.ndarray] | None:
        """Read layers, all of their files as they are before and afterwards."""
        together = self._store.threads.all
        ranks = list(zip(*(layer.uris for layer in layers.values()), strict=True))
        wanted = [(uri, layer.dtype) for layer in layers.values() for uri in layer.uris]
        opened = together(partial(self._open, uri, dtype, target) for uri, dtype in wanted)
        known = {file.uri: file for file in opened}
        ranks = [uris for uris in ranks if any(_overlap(known[uri].geobox, target) for uri in uris)]
        if not ranks:
            return None
        files = [known[uri] for uris in ranks for uri in uris]
        items = [_item(rank, layers, [known[uri] for uri in uris], target) for rank, uris in enumerate(ranks)]
        arrays = self._load(layers, items, {file.path: file for file in files}, target)
        for file, version in zip(files, together(partial(self._version, file) for file in files), strict=True):
            if version != file.version:
                raise _Changed(file.uri)
        return arrays

    def _entry(self, uri: str) -> "_Entry":
        with self._lock:
            while len(self._entries) >= _MOST_KNOWN:
                del self._entries[next(iter(self._entries))]
            return self._entries.setdefault(uri, _Entry())

    def _version(self, file: _File) -> Version:
        """Return what version a file has from now on; one request answers all threads that have asked before it."""
        called, entry = time.monotonic(), self._entry(file.uri)
        with entry.lock:
            if entry.version is None or entry.asked <= called:
                entry.asked = time.monotonic()
                entry.version = self._retried(self._ask, file)
            return entry.version

    def _ask(self, file: _File) -> Version:
        return self._store.version(file.url, login=self._store.logs_in(file.uri))

    def _open(self, uri: str, dtype: str, target: "GeoBox") -> _File:
        """Return what is known of a file, after a look at it unless it is known; check that it fits."""
        entry = self._entry(uri)
        with entry.lock:
            file = entry.file
            if file is None or file.until < time.monotonic():
                file = entry.file = self._retried(self._look, uri, dtype)
        ours, theirs = file.geobox.affine, target.affine
        same_size = abs(ours.a / theirs.a - 1) < 1e-9 and abs(ours.e / theirs.e - 1) < 1e-9
        if file.geobox.crs != target.crs or not same_size or ours.b or ours.d:
            raise ServiceError(
                f"{public_url(uri)} has {file.geobox.crs} and pixels of {ours.a} × {ours.e}; "
                f"expected {target.crs} and {theirs.a} × {theirs.e}."
            )
        return file

    def _look(self, uri: str, dtype: str) -> _File:
        """Find out grid and version of a file.

        Raises:
            RequestError: If that fails.
            ServiceError: If it is no GeoTIFF of one band with the data type that was asked for.
        """
        import rasterio
        from odc.geo.geobox import GeoBox

        url, until = self._store.http_url(uri), math.inf
        if url != uri:
            until = time.monotonic() + _SIGNED_FOR_S
        version = self._store.version(url, login=self._store.logs_in(uri), most_bytes=_HEAD_BYTES)
        told = _described(version.begin, uri)
        # GDAL keeps what it knows of an address, errors too. A fragment, which is never sent, makes it another one.
        path = f"/vsicurl/{url}#{next(_attempts)}"
        with self._gdal(uri, url, version), rasterio.open(path, driver="GTiff", sharing=False) as source:
            found = _profile(source)
        if found != told:  # GDAL takes what is cut off for absent, the value of no data for example.
            raise lost("its directory came otherwise than before")
        if (told["count"], told["dtype"]) != (1, dtype):
            raise ServiceError(
                f"{public_url(uri)} holds {told['count']} × {told['dtype']}; expected one band of {dtype}."
            )
        if told["crs"] is None:
            raise ServiceError(f"{public_url(uri)} names no CRS; a georeferenced file is expected.")
        geobox = GeoBox((told["height"], told["width"]), told["transform"], str(told["crs"]))
        return _File(uri, path, url, replace(version, begin=b""), geobox, dtype, until)

    def _load(
        self, layers: Mapping[str, Layer], items: Sequence[Any], files: Mapping[str, _File], target: "GeoBox"
    ) -> dict[str, np.ndarray]:
        """Lay files over one another."""
        import odc.stac

        with step("read GeoTIFFs"):
            loaded = odc.stac.load(
                items,
                list(layers),
                geobox=target,
                chunks=dict(zip(("y", "x"), target.shape, strict=True)),  # Else blocks of files would be read twice.
                resampling="nearest",
                fail_on_error=True,
                driver=_make_driver(self, files),
            ).compute(scheduler="threads", pool=self._store.threads)
        return {name: loaded[name].values[0] for name in layers}

    def read_window(self, file: _File, read: Callable[[str], T]) -> T:
        """Read a part of a file, with retries, each of what GDAL has not kept a broken answer of.

        Args:
            file: The file.
            read: Reads the part, from the path of GDAL that it is given.

        Returns:
            What `read` returned.

        Raises:
            ServiceError: If it cannot be read.
            _Changed: If the file is another one by now.
        """
        paths = [file.path]

        def attempt(file: _File) -> T:
            if not paths:
                again = self._look(file.uri, file.dtype)
                if again.version != file.version:
                    raise _Changed(file.uri)
                paths.append(again.path)
            with self._gdal(file.uri, file.url, file.version):
                return read(paths.pop())

        return self._retried(attempt, file)

    def _retried(self, work: Callable[..., T], file: "_File | str", *others: Any) -> T:
        """Do something with a file, with retries; one that is damaged does not mean that the service is down."""
        uri = file if isinstance(file, str) else file.uri
        try:
            return self._store.limits.retry.call(
                lambda: work(file, *others), f"Reading {public_url(uri)}", self._store.limiter(uri)
            )
        except ServiceError as error:
            if isinstance(error.failure, _Unreadable):
                raise type(error)(str(error), replace(error.failure, transient=False)) from None
            raise

    @contextmanager
    def _gdal(self, uri: str, url: str, version: Version) -> Iterator[None]:
        """Let GDAL read a file, as one of the requests that are made at once; ask the service why, where it cannot.

        Raises:
            RequestError: If it cannot.
        """
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.session import DummySession

        try:
            options = _gdal_options(self._store.limits.timeout_s)
            with self._store.slot(), rasterio.Env(session=DummySession(), **options):
                yield
        except RasterioError as error:
            told = scrub(" ".join(str(each) for each in (error, error.__cause__) if each))
        else:
            return
        if self._store.version(url, login=self._store.logs_in(uri)) != version:
            raise _Changed(uri)
        told = _FRAGMENT.sub("", told)
        raise RequestError(_Unreadable(f"{_DAMAGED} ({told})", transient=True))


def _described(head: bytes, uri: str) -> dict[str, Any]:
    """Return what the first bytes of a file say of it.

    Raises:
        ServiceError: If they are not those of a cloud-optimised GeoTIFF.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if head[:4] not in _TIFF:
        raise ServiceError(f"{public_url(uri)} is no GeoTIFF; it begins with {head[:4]!r}.")
    try:
        with rasterio.MemoryFile(head) as memory, memory.open(driver="GTiff", sharing=False) as source:
            return _profile(source)
    except RasterioError as error:
        raise ServiceError(
            f"{public_url(uri)} is no cloud-optimised GeoTIFF; its first {len(head)} bytes do not describe it: {error}"
        ) from error


def _profile(source: Any) -> dict[str, Any]:
    """Return what a file says of itself; NaN is written as a word, as it does not equal itself."""
    profile = {name: source.profile[name] for name in ("count", "height", "width", "dtype", "crs", "transform")}
    return profile | {
        "nodata": repr(source.nodata),
        "blocks": source.block_shapes,
        "scales": (source.scales, source.offsets),
    }


def _gdal_options(timeout_s: float) -> dict[str, Any]:
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


def _make_driver(reader: RasterReader, files: Mapping[str, _File]) -> Any:
    """Return what opens the files for odc-stac, through a reader."""
    from odc.loader import RioDriver, RioReader

    class Reader(RioReader):
        def __init__(self, source: Any, context: Any) -> None:
            super().__init__(source, context)
            self._source, self._context = source, context

        def read(self, *args: Any, **options: Any) -> Any:
            def read(path: str) -> Any:
                return RioReader(replace(self._source, uri=path), self._context).read(*args, **options)

            return reader.read_window(files[self._source.uri], read)

    class Driver(RioDriver):
        def capture_env(self) -> dict[str, Any]:
            return {}

        def open(self, src: Any, ctx: Any) -> Reader:
            return Reader(src, ctx)

    return Driver()


def _item(rank: int, layers: Mapping[str, Layer], files: Sequence[_File], target: "GeoBox") -> Any:
    """Describe files as odc-stac wants it, by what they themselves say; items are laid over one another by name."""
    from pystac import Asset, Item

    item = Item(f"{rank:06}", None, None, _TIME, {"proj:code": str(target.crs)}, stac_extensions=list(_EXTENSIONS))
    for (name, layer), file in zip(layers.items(), files, strict=True):
        described = {
            "proj:shape": list(file.geobox.shape),
            "proj:transform": list(file.geobox.affine)[:6],
            "raster:bands": [{"data_type": layer.dtype, "nodata": layer.nodata}],
        }
        item.add_asset(name, Asset(file.path, media_type="image/tiff; application=geotiff", extra_fields=described))
    return item


def _overlap(geobox: "GeoBox", target: "GeoBox") -> bool:
    """Tell whether two grids of one CRS share ground."""
    ours, theirs = geobox.boundingbox, target.boundingbox
    width = min(ours.right, theirs.right) - max(ours.left, theirs.left)
    return width > 0 and min(ours.top, theirs.top) > max(ours.bottom, theirs.bottom)


def _scrub_record(record: logging.LogRecord) -> bool:
    """Take signatures out of what libraries log, and leave out what odc-stac says of our files, since we say it."""
    record.msg, record.args = scrub(record.getMessage()), ()
    return not (record.name.startswith("odc") and _FRAGMENT.search(record.msg))
