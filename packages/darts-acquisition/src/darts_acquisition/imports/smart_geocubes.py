"""Datacubes of smart-geocubes, as the first DARTS filled them: what they hold, and how their chunks are read.

Such a cube is an Icechunk repository with one group: `x` and `y` (pixel centres), `spatial_ref`, and `dem` and
`datamask` (ArcticDEM) or `TCB_slope`, `TCG_slope` and `TCW_slope` (TCVIS), in chunks of 3600 × 3600. The attribute
`title` is the name of the class that made it, and `loaded_patches` (`loaded_tiles` before its release 0.1) lists what
was loaded: names of tiles of the ArcticDEM mosaic, or row and column of a chunk. Nothing else proves that something is
there: a patch may have broken off.
"""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from odc.geo import CRS
from zarr.buffer import default_buffer_prototype

from darts_acquisition.auxiliary import TRENDS
from darts_acquisition.auxiliary.arcticdem import RESOLUTIONS, arcticdem_product, tile_window
from darts_acquisition.auxiliary.tcvis import tcvis_product
from darts_acquisition.cube.layout import codec_names
from darts_acquisition.cube.product import SMART_GEOCUBES, CubeProduct, Window, offset_of
from darts_acquisition.cube.repository import BRANCH, Location, open_repository, reading, run_async, stored_chunks
from darts_acquisition.errors import CubeDamagedError, CubeError
from darts_utils import ParameterError

_TITLE = re.compile(r"ArcticDEM(?P<metres>2|10|32)m|TCTrend(?P<year>\d{4})?")
_NAMES = {
    "dem": "dem",
    "arcticdem_data_mask": "datamask",
    "tc_brightness": "TCB_slope",
    "tc_greenness": "TCG_slope",
    "tc_wetness": "TCW_slope",
}
"""Name in such a cube of each variable of ours."""
_KEPT_CHUNKS = 5
"""Decoded chunks that are kept of each variable. The chunks of both grids lie askew; read by pairs of rows, column by
column, the three at the right edge of one pair are those at the left edge of the next, beside two that are new."""


class SmartGeocube:
    """A datacube of smart-geocubes as the origin of an import. Nothing is ever written to it.

    `product` is what it must hold, None for what its title says; then what it does hold. `windows` are those of the
    product's grid that were loaded completely, `unknown` names in its list that are none of the product's. CubeError if
    it is no such cube, or holds something else.
    """

    def __init__(self, folder: Path, product: CubeProduct | None = None) -> None:
        self._location = Location.parse(folder)
        repository = open_repository(self._location)
        self._session = repository.readonly_session(BRANCH)
        self._group: Any
        try:
            self._group = zarr.open_group(self._session.store, mode="r")
        except FileNotFoundError as error:
            raise CubeError(f"{folder} is no datacube of smart-geocubes: it holds no Zarr group.") from error
        attrs = self._group.attrs.asdict()
        loaded = next((attrs[name] for name in SMART_GEOCUBES if name in attrs), None)
        if loaded is None:
            raise CubeError(
                f"{folder} is no datacube of smart-geocubes: its group has no attribute {SMART_GEOCUBES[0]!r}."
            )
        self.product = _product_of(folder, str(attrs.get("title", "")), product)
        self._arrays: dict[str, Any] = {}
        for variable in self.product.variables:
            name = _NAMES[variable.name]
            if name not in self._group:
                raise CubeError(f"{folder} has no variable {name!r}, which {self.product.collection} needs.")
            self._arrays[variable.name] = self._group[name]
        self._shape = next(iter(self._arrays.values())).shape
        self._size = _size_of(folder, self._arrays)
        self._top, self._left = self._offset()
        self._kept: dict[str, OrderedDict[tuple[int, int], np.ndarray]] = {name: OrderedDict() for name in self._arrays}
        self._believe([str(patch) for patch in loaded])

    def read(self, window: Window) -> dict[str, np.ndarray]:
        """Read a window of the product's grid.

        Where a cube is 0 wherever nothing was written, 0 m that were not measured are no data: it writes no NaN there.
        """
        with reading(self._location):
            arrays = {
                variable.name: self._assemble(variable.name, variable.dtype, window)
                for variable in self.product.variables
            }
        if "dem" in arrays and self._arrays["dem"].fill_value == 0:
            arrays["dem"][(arrays["dem"] == 0) & (arrays["arcticdem_data_mask"] == 0)] = np.nan
        return arrays

    def _assemble(self, name: str, dtype: str, window: Window) -> np.ndarray:
        result, window = np.empty(window.shape, dtype), window.moved(-self._top, -self._left)
        chunks = window.in_chunks(self._size).chunks()
        for row, col in sorted(chunks, key=lambda at: at[::-1]):  # column by column, see `_KEPT_CHUNKS`
            chunk = self._decode(name, row, col)
            held = Window.of(0, self._size, 0, self._size).moved(row * self._size, col * self._size)
            part = held.intersection(window)
            if part is not None:
                result[part.relative_to(window)] = chunk[part.relative_to(held)]
        return result

    def _decode(self, name: str, row: int, col: int) -> np.ndarray:
        kept = self._kept[name]
        if (row, col) not in kept:
            free = kept.popitem(last=False)[1] if len(kept) >= _KEPT_CHUNKS else None
            try:
                kept[row, col] = self._read_chunk(name, row, col, free)
            except (ValueError, RuntimeError) as error:
                raise CubeDamagedError(
                    f"The chunk in row {row}, column {col} of {_NAMES[name]} in {self._location} cannot be decoded: "
                    f"{error}."
                ) from error
        return kept[row, col]

    def _read_chunk(self, name: str, row: int, col: int, free: np.ndarray | None) -> np.ndarray:
        """Read a chunk whole; beyond the array's edge it holds anything. It may be written into a chunk that is `free`.

        What Blosc alone compressed, as such cubes are, is decoded here: zarr copies each chunk twice into new memory,
        and Blosc reads on beyond the end of one that is cut off. Of the 16 bytes that a chunk begins with, the second
        four are its length before it was compressed, and the last four that after it. ValueError or RuntimeError if the
        chunk is damaged.
        """
        array, size = self._arrays[name], self._size
        if codec_names(array.metadata.codecs) != ["bytes", "blosc"]:
            chunk = np.full((size, size), array.fill_value, array.dtype)
            values = np.asarray(array[row * size : (row + 1) * size, col * size : (col + 1) * size])
            chunk[: values.shape[0], : values.shape[1]] = values
            return chunk
        chunk = np.empty((size, size), array.dtype) if free is None else free
        key = f"{_NAMES[name]}/c/{row}/{col}"
        stored = run_async(lambda: self._session.store.get(key, default_buffer_prototype()))
        if stored is None:  # nothing was written
            chunk[:] = array.fill_value
            return chunk
        content = np.frombuffer(stored.as_numpy_array(), "uint8")
        for what, found, expected in (
            ("bytes", len(content), int.from_bytes(content[12:16].tobytes(), "little")),
            ("bytes of pixels", int.from_bytes(content[4:8].tobytes(), "little"), chunk.nbytes),
        ):
            if found != expected:
                raise ValueError(f"it has {found} {what}; expected {expected}")
        Blosc().decode(content, out=chunk)
        if chunk.dtype == bool and chunk.view("uint8").max() > 1:
            raise ValueError("it holds what is neither True nor False")
        return chunk

    def _offset(self) -> tuple[int, int]:
        try:
            x, y = (float(self._group[axis][0]) for axis in ("x", "y"))
            crs = CRS(str(self._group["spatial_ref"].attrs["crs_wkt"]))
        except (KeyError, ValueError) as error:
            raise CubeError(f"{self._location} does not say where its pixels lie: {error!r}.") from error
        width, height = self._step("x"), -self._step("y")
        return offset_of(self.product, x - width / 2, y + height / 2, (width, height), crs)

    def _step(self, axis: str) -> float:
        """Return the distance of pixel centres, from the first to the last: neighbours tell it with fewer digits."""
        values: Any = self._group[axis]
        return (float(values[-1]) - float(values[0])) / (values.shape[0] - 1)

    def _believe(self, patches: list[str]) -> None:
        """Find the windows that were loaded, as the list of patches says."""
        self.unknown: list[str] = []
        self.windows: list[Window] = []
        with reading(self._location):  # A patch of which nothing is stored was not loaded.
            stored = stored_chunks(self._session, _NAMES[self.product.variables[0].name])
        whole = Window.of(0, self._shape[0], 0, self._shape[1]).moved(self._top, self._left)
        for patch in patches:
            window = self._chunk_window(patch) if self.product.name == "tcvis" else tile_window(patch, self.product)
            part = None if window is None else window.intersection(whole)
            if window is None:
                self.unknown.append(patch)
            elif part is not None:
                touched = part.moved(-self._top, -self._left).in_chunks(self._size).chunks()
                part = part.intersection(self.product.window)
                self.windows += [] if part is None or stored.isdisjoint(touched) else [part]

    def _chunk_window(self, patch: str) -> Window | None:
        """Return the window of a chunk of this cube by its name, "row-column"."""
        match = re.fullmatch(r"(\d+)-(\d+)", patch)
        if match is None:
            return None
        row, col = (int(number) * self._size for number in match.groups())
        return Window.of(0, self._size, 0, self._size).moved(self._top + row, self._left + col)


def _size_of(folder: Path, arrays: dict[str, zarr.Array]) -> int:
    """Return the side of what is stored as one: of a chunk, or of a shard that holds several."""
    (size, *others) = {array.shards or array.chunks for array in arrays.values()}
    if others or len(set(size)) != 1:
        raise CubeError(f"{folder} has chunks of {size} and {others}; expected square ones, the same of all variables.")
    return int(size[0])


def _product_of(folder: Path, title: str, product: CubeProduct | None) -> CubeProduct:
    """Return what a cube holds by its title, or by what it is said to hold, and check that both agree."""
    match = _TITLE.fullmatch(title)
    named = None
    if match is not None and match["metres"]:
        named = product_named(f"arcticdem-{match['metres']}m")
    elif match is not None:
        year = match["year"] or "2019"  # Its first releases knew one trend.
        named = next((product_named(f"tcvis-{trend}") for trend in TRENDS if trend.endswith(year)), None)
    known = named or product
    if known is None:
        raise CubeError(f"{folder} is titled {title!r}, which names no product of DARTS; say what it holds.")
    if named is not None and product is not None and named.collection != product.collection:
        raise CubeError(f"{folder} is titled {title!r} and holds {named.collection}; expected {product.collection}.")
    return known


def product_named(name: str) -> CubeProduct:
    """Return a product by its name (``arcticdem-2m``, ``tcvis-2000-2019``); ParameterError if there is none."""
    resolutions = {f"arcticdem-{resolution}m": resolution for resolution in RESOLUTIONS}
    trends = {f"tcvis-{trend}": trend for trend in TRENDS}
    if name in resolutions:
        return arcticdem_product(resolutions[name])
    if name in trends:
        return tcvis_product(trends[name])
    raise ParameterError(f"product is {name!r}; expected one of {', '.join([*resolutions, *trends])}.")
