"""GeoTIFFs of a delivery: opened by GeoTIFF drivers alone, checked before memory is taken, read by threads."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.errors
from odc.geo.geobox import GeoBox
from rasterio.session import DummySession

from darts_acquisition.errors import SceneError, SceneGridError, SceneReadError
from darts_acquisition.planet.delivery import WHAT, Delivery, Kind, words_after
from darts_acquisition.scenes.quality import over_row_blocks
from darts_acquisition.tile import tile_grid
from darts_utils import OPTICAL_BANDS, available_memory, usable_cpus

MAX_EDGE_PX = 50_000
"""Larger images are damaged headers: PlanetScope scenes and orthotiles end well below 15 000 pixels."""
_BLOCK_BYTES = 4 << 20
"""What a thread reads at once, about: many pixels for GDAL, few enough for the processor's cache."""

_SUPERDOVE = ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir")
"""The eight bands of SuperDove, as Planet names and orders them."""
_MASK_BANDS = ("clear", "snow", "shadow", "haze_light", "haze_heavy", "cloud", "confidence", "udm1")
_ALSO_CALLED = {
    "near_infrared": "nir",
    "green_ii": "green",
    "light_haze": "haze_light",
    "heavy_haze": "haze_heavy",
    "unusable": "udm1",
    "unusable_data": "udm1",
}
_LAYOUTS: dict[Kind, tuple[str, tuple[str, ...], int]] = {
    "image": ("uint16", OPTICAL_BANDS, 6),
    "mask": ("uint8", _MASK_BANDS, 2),
}
"""Data type, names of the bands that are wanted, and the memory in bytes that each pixel of a band takes at most."""

Consume = Callable[[slice, np.ndarray, np.ndarray | None], None]
"""Takes rows, their pixels of shape (bands, rows, columns), and where the file says that there is no data (boolean of
shape (rows, columns)), None for nowhere. The pixels are overwritten afterwards."""


@dataclass(frozen=True)
class Image:
    """What the header of an image or a mask says, checked.

    `bands` are the numbers, from 1 on, of those that are wanted, in the order in which a tile has them; `nodata` the
    integer that stands for no data in each, None without one; `alpha` the number of the band that is 0 without data;
    `masked`: there is a mask of GDAL, in the file or beside it; `block_rows` are best read at once.
    """

    file: Path
    kind: Kind
    geobox: GeoBox
    bands: tuple[int, ...]
    nodata: tuple[int | None, ...]
    alpha: int | None
    masked: bool
    block_rows: int


def read_header(delivery: Delivery, file: Path, kind: Kind) -> Image:
    """Read what an image or a mask of a delivery says of itself.

    SceneReadError if the file is damaged or no GeoTIFF; SceneError if it has other bands or another data type, or takes
    more memory than there is; SceneGridError if its grid cannot be a tile's, see `darts_acquisition.tile.tile_grid`.
    """
    dtype, wanted, bytes_per_px = _LAYOUTS[kind]
    with _opened(delivery, file, kind) as source:
        alpha = [
            index
            for index, colour, name in zip(source.indexes, source.colorinterp, source.descriptions, strict=True)
            if colour.name == "alpha" and _plain(name) not in wanted  # a tool may take nir for it
        ]
        indexes = [index for index in source.indexes if index not in alpha]
        bands = _choose_bands(source, indexes, file, kind)
        if not bands or {source.dtypes[index - 1] for index in bands} != {dtype}:
            expected = len(_SUPERDOVE) if "8b" in words_after(file.name, kind) else len(wanted)
            found = f"{len(indexes)} of {', '.join(sorted(set(source.dtypes)))}"
            raise SceneError(f"{file} is no {WHAT[kind]}: expected {expected} bands of {dtype}, found {found}.")
        scalings = {(source.scales[index - 1], source.offsets[index - 1]) for index in bands}
        if kind == "image" and not scalings <= {(1.0, 0.0), (1e-4, 0.0)}:
            raise SceneError(f"{file} says scale and offset {sorted(scalings)}; expected reflectance × 10000 without.")
        block_rows = _check_size(source, file, len(bands), dtype, bytes_per_px)
        geobox = tile_grid(source, str(file))
        nodata = tuple(_integer(source.nodatavals[index - 1], dtype) for index in bands)
        flags = {flag.name for flag in source.mask_flag_enums[bands[0] - 1]}
        masked = "per_dataset" in flags and "alpha" not in flags
        return Image(file, kind, geobox, bands, nodata, alpha[0] if alpha else None, masked, block_rows)


def read_grid(delivery: Delivery, file: Path) -> GeoBox:
    """Read only the grid of an image, see `read_header`."""
    with _opened(delivery, file, "image") as source:
        return tile_grid(source, str(file))


def read_blocks(delivery: Delivery, image: Image, consume: Consume, out: np.ndarray | None = None) -> None:
    """Read an image in blocks of rows, with as many threads as CPUs may be used, which call `consume` for each block.

    The pixels are read into `out`, of shape (bands, y, x), or else into a buffer. SceneReadError if the file is
    damaged.
    """
    dtype = _LAYOUTS[image.kind][0]
    height, width = image.geobox.shape

    with ExitStack() as stack:
        name = stack.enter_context(_in_memory(delivery, image.file)) if delivery.archive else None

        @contextmanager
        def open_worker() -> Iterator[Callable[[slice], None]]:
            with _opened(delivery, image.file, image.kind, name) as source:
                if source.shape != (height, width):
                    raise SceneReadError(f"{image.file} was changed while it was read.")
                rows_at_once = min(image.block_rows, height)
                buffer = np.empty((len(image.bands), rows_at_once, width), dtype) if out is None else out[:, :0]

                def read(rows: slice) -> None:
                    values = buffer[:, : rows.stop - rows.start] if out is None else out[:, rows]
                    window = ((rows.start, rows.stop), (0, width))
                    source.read(list(image.bands), window=window, out=values)
                    consume(rows, values, _invalid(source, image, window))

                yield read

        over_row_blocks(height, image.block_rows, open_worker)


def _invalid(source: rasterio.DatasetReader, image: Image, window: Sequence[tuple[int, int]]) -> np.ndarray | None:
    """Return where alpha band and mask of an image say that there is no data, None for nowhere."""
    valid = [source.read(image.alpha, window=window)] if image.alpha else []
    valid += [source.read_masks(image.bands[0], window=window)] if image.masked else []
    invalid = np.logical_or.reduce([each == 0 for each in valid]) if valid else None
    return invalid if invalid is not None and invalid.any() else None


@contextmanager
def _opened(delivery: Delivery, file: Path, kind: Kind, name: str | None = None) -> Iterator[rasterio.DatasetReader]:
    """Open a file as a GeoTIFF and as nothing else, which could lead to other files or into the network."""
    if name is None:
        inside = delivery.archive
        name = str(file) if inside is None else f"/vsizip/{{{inside}}}/{file.relative_to(inside).as_posix()}"
        for sidecar in delivery.sidecars(file):
            if sidecar.suffix == ".msk" and delivery.read(sidecar, 2) not in (b"II", b"MM"):
                raise SceneReadError(f"{sidecar} is no GeoTIFF; expected a mask as GDAL writes it beside {file.name}.")
    try:
        with rasterio.Env(session=DummySession()), rasterio.open(name, driver="GTiff") as source:
            yield source
    except rasterio.errors.RasterioError as error:
        problem = str(error).replace(name, file.name).rstrip(".")
        raise SceneReadError(f"{file} cannot be read as {WHAT[kind]}: {problem}. Download it again.") from error
    except rasterio.errors.NotGeoreferencedWarning as warning:  # where warnings are errors
        raise SceneGridError(f"{file}: it is not georeferenced. Expected a CRS and a transform.") from warning


@contextmanager
def _in_memory(delivery: Delivery, file: Path) -> Iterator[str]:
    """Bring a file out of an archive, and what lies beside it, to where GDAL reads it like any other."""
    with ExitStack() as stack:
        folder = f"darts-{file.stem}-{id(stack)}"
        names = [
            stack.enter_context(rasterio.MemoryFile(delivery.read(each), dirname=folder, filename=each.name)).name
            for each in (file, *delivery.sidecars(file))
        ]
        yield names[0]


def _choose_bands(source: rasterio.DatasetReader, indexes: Sequence[int], file: Path, kind: Kind) -> tuple[int, ...]:
    """Return the numbers of the bands that are wanted: by the names in the file, by position only where it has none.

    Nothing where the count of bands is wrong; SceneError if the file names bands, and not each of those once.
    """
    wanted = _LAYOUTS[kind][1]
    order = _SUPERDOVE if kind == "image" and "8b" in words_after(file.name, kind) else wanted
    if len(indexes) not in {len(wanted), len(_SUPERDOVE)}:
        return ()
    names = [_plain(source.descriptions[index - 1]) for index in indexes]
    if kind == "image" and not any(names):
        names = _colours([source.colorinterp[index - 1].name for index in indexes], order)
    if not any(names):
        return tuple(indexes[order.index(name)] for name in wanted) if len(indexes) == len(order) else ()
    if any(names.count(name) != 1 for name in wanted):
        listed = ", ".join(f"{index} {name or 'without a name'}" for index, name in zip(indexes, names, strict=True))
        raise SceneError(
            f"{file} names its bands: {listed}; expected {', '.join(wanted)} among them, each once. Write these names "
            "into the file (`descriptions` in rasterio), or take it as Planet delivered it."
        )
    return tuple(indexes[names.index(name)] for name in wanted)


def _colours(colours: list[str], order: Sequence[str]) -> list[str]:
    """Return the colours that a file gives its bands, as names where they say more than the order does.

    Planet's own files call blue, green and red "red, green, blue": TIFF has these words for the first bands of every
    image in colour. Only a file that knows all four, or some in places of their own, names bands by colours.
    """
    named = [name if name in OPTICAL_BANDS else "" for name in colours]
    usual = ["red", "green", "blue"]
    in_order = len(colours) == len(order) and all(
        name in ("", usual_name) for name, usual_name in zip(named, order, strict=True)
    )
    return [] if in_order or (named[:3] == usual and not any(named[3:])) else named


def _plain(name: str | None) -> str:
    plain = "_".join(re.findall(r"[^\W_]+", (name or "").lower()))
    return _ALSO_CALLED.get(plain, plain)


def _integer(nodata: float | None, dtype: str) -> int | None:
    """Return the no-data value of a band as one of its integers; None where it has none that a pixel can have."""
    limits = np.iinfo(dtype)
    possible = nodata is not None and limits.min <= nodata <= limits.max and nodata == int(nodata)
    return int(nodata) if possible else None  # type: ignore[arg-type] # it is a number then


def _check_size(source: rasterio.DatasetReader, file: Path, bands: int, dtype: str, bytes_per_px: int) -> int:
    """Refuse an image that does not fit into memory; a small damaged file may claim to be a large one.

    Returns the rows that a thread best reads at once: whole blocks of the file, of about `_BLOCK_BYTES`.
    """
    if max(source.shape) > MAX_EDGE_PX:
        raise SceneError(
            f"{file} claims to have {source.height} × {source.width} pixels; expected at most {MAX_EDGE_PX} on "
            "an edge, more than any scene or orthotile has. Download it again."
        )
    size, (rows, cols) = np.dtype(dtype).itemsize, source.block_shapes[0]
    threads = min(usable_cpus(), math.ceil(source.height / rows))
    needed = bands * bytes_per_px * source.width * source.height + threads * rows * cols * size * source.count
    available = available_memory()
    if needed > available:
        raise SceneError(
            f"{file} takes {needed / 2**30:.1f} GB of memory as a tile, and {available / 2**30:.1f} GB are available; "
            "download it again if it should be smaller, or use a machine with more memory."
        )
    return int(rows * max(_BLOCK_BYTES // (rows * source.width * bands * size), 1))
