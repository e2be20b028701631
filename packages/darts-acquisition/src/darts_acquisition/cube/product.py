"""What a datacube holds: a product on its whole grid, its variables, its chunks, and the values that can be."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from darts_acquisition.errors import CubeError, ForeignCubeError
from darts_acquisition.tile import describe_area, name_crs
from darts_utils import GridError, ValueRangeError, elevation_fault, no_elevation, row_blocks

FORMAT = 1
"""Version of the layout of a datacube; raised when old code could misread a new cube."""

SYNTHETIC = "made up"
"""Version of a product that no provider has: that of a datacube of made-up data, of which runs warn."""


SMART_GEOCUBES = ("loaded_patches", "loaded_tiles")
"""Attributes by which a datacube of smart-geocubes is known: they list what was loaded, the present one first."""


@dataclass(frozen=True)
class CubeVariable:
    """One variable of a datacube.

    Attributes:
        name: Name of the array in the cube.
        dtype: Data type of its values, the same on disk and in memory.
        nodata: Value where the provider has nothing.
        long_name: What the values are, for people.
        units: Unit of the values, None where they have none.
    """

    name: str
    dtype: str
    nodata: float
    long_name: str
    units: str | None = None

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes of the variable in a Dataset."""
        attrs = {"long_name": self.long_name}
        return attrs if self.units is None else attrs | {"units": self.units}


@dataclass(frozen=True)
class CubeProduct:
    """A product that a datacube holds.

    Attributes:
        name: Short name, for example "arcticdem".
        version: Version as the provider counts it.
        collection: The provider's name for the data set.
        geobox: The whole grid of the product, north-up. Outside it the provider has nothing.
        variables: The variables, all on the grid.
        chunk_px: Edge of a bookkeeping chunk in pixels: chunks are what is absent, filled or empty.
        inner_px: Edge in pixels of the Zarr chunks within the shard that such a chunk is; divides `chunk_px`.
    """

    name: str
    version: str
    collection: str
    geobox: GeoBox
    variables: tuple[CubeVariable, ...]
    chunk_px: int = 3600
    inner_px: int = 600

    @property
    def window(self) -> "Window":
        """The window that covers the whole grid."""
        return Window.of(0, self.geobox.shape[0], 0, self.geobox.shape[1])

    def chunk_window(self, chunk: "Chunk") -> "Window":
        """Return the pixels of a chunk; those at the grid's lower and right edge end with it."""
        rows, cols = (
            slice(at * self.chunk_px, min((at + 1) * self.chunk_px, edge))
            for at, edge in zip(chunk, self.geobox.shape, strict=True)
        )
        return Window(rows, cols)

    def to_attrs(self) -> dict[str, object]:
        """Return what a cube stores about its product, as JSON values."""
        return {
            "darts_cube_format": FORMAT,
            "product": self.name,
            "version": self.version,
            "collection": self.collection,
            "crs": str(self.geobox.crs),
            "transform": list(self.geobox.affine)[:6],
            "shape": list(self.geobox.shape),
            "chunk_px": self.chunk_px,
            "inner_px": self.inner_px,
            "variables": [
                asdict(each) | {"nodata": None if each.nodata != each.nodata else each.nodata}
                for each in self.variables
            ],
        }

    @classmethod
    def from_attrs(cls, attrs: dict[str, Any]) -> "CubeProduct":
        """Read what `to_attrs` wrote.

        Raises:
            ForeignCubeError: If they are those of a datacube of smart-geocubes.
            CubeError: If the attributes are not those of a datacube, or of one that this version cannot read.
        """
        found = attrs.get("darts_cube_format")
        if found is None and any(name in attrs for name in SMART_GEOCUBES):
            raise ForeignCubeError(
                f"It is a datacube of smart-geocubes ({attrs.get('title')}), which is not read in its place; an import "
                "takes it over into a new datacube."
            )
        if found != FORMAT:
            raise CubeError(
                f"Expected a datacube of format {FORMAT}, found "
                f"{'none' if found is None else f'format {found}'}; a newer darts-acquisition may be able to read it."
            )
        try:
            return cls(
                name=attrs["product"],
                version=attrs["version"],
                collection=attrs["collection"],
                geobox=GeoBox(tuple(attrs["shape"]), Affine(*attrs["transform"]), attrs["crs"]),
                variables=tuple(_variable(**entry) for entry in attrs["variables"]),
                chunk_px=attrs["chunk_px"],
                inner_px=attrs["inner_px"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CubeError(f"The attributes of the datacube are damaged: {error!r}.") from error


def _variable(name: str, dtype: str, nodata: float | None, long_name: str, units: str | None, **_: Any) -> CubeVariable:
    return CubeVariable(name, dtype, math.nan if nodata is None else nodata, long_name, units)


class Window(NamedTuple):
    """A rectangle of pixels of a grid; rows count from the top, columns from the left, ends are exclusive.

    Attributes:
        rows: First and one past the last row.
        cols: First and one past the last column.
    """

    rows: slice
    cols: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    @classmethod
    def of(cls, top: int, bottom: int, left: int, right: int) -> "Window":
        """Make a window from its first and one past its last row and column."""
        return cls(slice(top, bottom), slice(left, right))

    def relative_to(self, other: "Window") -> "Window":
        """Return the same pixels, counted from the first row and column of another window."""
        return self.moved(-other.rows.start, -other.cols.start)

    def moved(self, down: int, right: int) -> "Window":
        """Return a window of the same shape some rows further down and some columns further to the right."""
        rows, cols = self
        return Window.of(rows.start + down, rows.stop + down, cols.start + right, cols.stop + right)

    def intersection(self, other: "Window") -> "Window | None":
        """Return what two windows share, None where that is nothing."""
        top, bottom = max(self.rows.start, other.rows.start), min(self.rows.stop, other.rows.stop)
        left, right = max(self.cols.start, other.cols.start), min(self.cols.stop, other.cols.stop)
        return Window.of(top, bottom, left, right) if top < bottom and left < right else None

    def in_chunks(self, size: int) -> "Window":
        """Return the rectangle of chunks of `size` × `size` pixels that a window touches, counted in chunks."""
        rows, cols = self
        return Window.of(rows.start // size, -(-rows.stop // size), cols.start // size, -(-cols.stop // size))

    def chunks(self, chosen: np.ndarray | None = None) -> "list[Chunk]":
        """List the chunks of a window that is counted in chunks, row by row: all, or those that are `chosen`.

        `chosen` is 2-D, bool, one value per chunk.
        """
        rows, cols = self
        if chosen is not None:
            return [Chunk(int(row) + rows.start, int(col) + cols.start) for row, col in np.argwhere(chosen)]
        return [Chunk(row, col) for row in range(rows.start, rows.stop) for col in range(cols.start, cols.stop)]


class Chunk(NamedTuple):
    """Row and column of a chunk in a datacube; rows count from the top, columns from the left."""

    row: int
    col: int


def aligned_window(geobox: GeoBox, grid: GeoBox) -> Window:
    """Return the window of a north-up grid that a geobox made of the grid's own pixels covers.

    GridError if the geobox has another CRS or pixel size, is shifted by a part of a pixel, or reaches beyond the grid's
    edges.
    """
    problem = None
    x, y = to_world(geobox, np.array([0, geobox.width]), np.array([0, geobox.height]))
    (left, right), (top, bottom) = to_pixels(grid, x, y)
    edges = np.array([top, bottom, left, right])
    whole = np.round(edges).astype(int)
    window = Window.of(*whole.tolist())
    if geobox.crs != grid.crs:
        problem = f"its CRS is {name_crs(geobox.crs)}"
    elif geobox.affine.b or geobox.affine.d or window.shape != geobox.shape:
        problem = f"its pixels are {geobox.affine.a} × {geobox.affine.e}"
    elif np.abs(edges - whole).max() > 0.01:
        problem = "it is shifted by a part of a pixel"
    elif window.intersection(Window.of(0, grid.height, 0, grid.width)) != window:
        problem = "it reaches beyond the grid's edges"
    if problem:
        raise GridError(
            f"The geobox at {describe_area(geobox)} is not part of the datacube's grid: {problem}. "
            f"Expected {name_crs(grid.crs)}, pixels of {grid.affine.a} × {grid.affine.e}, an origin on the grid; "
            "geobox[cube.window(area)] has them."
        )
    return window


def to_pixels(grid: GeoBox, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn coordinates into columns and rows of a north-up grid, counted from the upper left corner, with fractions."""
    affine = grid.affine
    return (x - affine.c) / affine.a, (y - affine.f) / affine.e


def to_world(geobox: GeoBox, cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do the opposite of `to_pixels`, also for a grid that is rotated."""
    affine = geobox.affine
    return affine.c + cols * affine.a + rows * affine.b, affine.f + cols * affine.d + rows * affine.e


def offset_of(product: CubeProduct, left: float, top: float, pixel: tuple[float, float], crs: CRS) -> tuple[int, int]:
    """Return row and column in a product's grid of the upper left pixel of another grid, which is made of its pixels.

    Of the other grid, `left` and `top` are edges in its CRS, `pixel` width and height, both positive. CubeError if it
    is not made of the same pixels.
    """
    affine = product.geobox.affine
    cols, rows = to_pixels(product.geobox, np.array([left]), np.array([top]))
    at = np.array([rows[0], cols[0]])
    whole = np.round(at)
    same_size = np.allclose(pixel, (affine.a, -affine.e), rtol=1e-9, atol=0)
    if crs != product.geobox.crs or not same_size or np.abs(at - whole).max() > 1e-3:
        raise CubeError(
            f"The grid begins at ({left}, {top}) in {crs} with pixels of {pixel[0]} × {pixel[1]}; expected pixels of "
            f"{product.collection}, {affine.a} × {-affine.e} in {product.geobox.crs}, with edges at multiples of that."
        )
    return int(whole[0]), int(whole[1])


LOWEST_M, HIGHEST_M = -500.0, 9000.0
"""Beyond the shore of the Dead Sea and Mount Everest, whatever the elevations are counted from."""


def check_elevations(arrays: Mapping[str, np.ndarray]) -> None:
    """Pass elevations that can be some; every pixel counts, for terrain features are made of each.

    ValueRangeError if one lies outside −500…9000 m, or is NaN where the mask says that it was measured, or the mask has
    other values than 0 and 1. Without `dem` and `arcticdem_data_mask` nothing is looked at.
    """
    dem, mask = _with_mask(arrays)
    blocks = [slice(*ends) for ends in row_blocks(0, *dem.shape)]
    if any(_impossible(dem[rows], mask[rows]).any() for rows in blocks):
        wrong = _impossible(dem, mask)
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        said = "measured" if mask[row, column] else "not measured"
        raise ValueRangeError(
            f"dem is {dem[row, column]:g} at row {row}, column {column} of what is to be written, {said} according to "
            f"arcticdem_data_mask, and no elevation at {np.count_nonzero(wrong)} pixels in all; expected metres from "
            f"{LOWEST_M:g} to {HIGHEST_M:g}. Where there is none, make dem NaN and the mask 0 "
            f"(`known = (dem >= {LOWEST_M:g}) & (dem <= {HIGHEST_M:g}); dem[~known] = np.nan; mask[~known] = 0`)."
        )


def check_possible(arrays: Mapping[str, np.ndarray]) -> None:
    """Pass elevations of a provider or another program, which may have spikes, but no marks of missing pixels.

    ValueRangeError if :func:`darts_utils.no_elevation` finds one, or the mask has other values than 0 and 1.
    """
    dem, _ = _with_mask(arrays)
    if elevation_fault(dem).any():
        row, column = np.unravel_index(no_elevation(dem).argmax(), dem.shape)
        raise ValueRangeError(f"dem is {dem[row, column]:g} at row {row}, column {column}, which is no elevation.")


def _with_mask(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return elevations and their mask, which holds 0 and 1 (else ValueRangeError); nothing where one is absent."""
    if not {"dem", "arcticdem_data_mask"} <= set(arrays):
        return np.empty((0, 0)), np.empty((0, 0))
    dem, mask = arrays["dem"], arrays["arcticdem_data_mask"]
    if mask.size and mask.max() > 1:
        raise ValueRangeError(
            f"arcticdem_data_mask holds {mask.max()}; expected 1 where the elevation was measured and 0 elsewhere."
        )
    return dem, mask


def _impossible(dem: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if dem.size and dem.min() >= LOWEST_M and dem.max() <= HIGHEST_M:  # neither is true where one is NaN
        return np.zeros(1, bool)
    wrong = ~((dem >= LOWEST_M) & (dem <= HIGHEST_M))
    wrong &= (mask == 1) | ~np.isnan(dem)
    return wrong
