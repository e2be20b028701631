"""What all kinds of an origin share: which chunks of a product it holds completely."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from darts_acquisition.auxiliary.arcticdem import arcticdem_product
from darts_acquisition.auxiliary.tcvis import TRENDS, tcvis_product
from darts_acquisition.cube.grid import Chunk, Window, chunk_block, chunk_window, chunks_in, to_pixels
from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.errors import CubeError
from darts_utils import ParameterError

if TYPE_CHECKING:
    from odc.geo import CRS

ARCTICDEM_NODATA = -9999.0
"""Elevation where the mosaics of ArcticDEM have none, in files that do not say so themselves."""
_SAME_PX = 1e-3


class Coverage(NamedTuple):
    """The chunks of a product of which every pixel lies in some windows, row by row; of how many only a part does."""

    complete: tuple[Chunk, ...]
    partial: int


def coverage_of(product: CubeProduct, windows: Sequence[Window]) -> Coverage:
    """Find the chunks that windows of a product's grid cover together."""
    import shapely

    if not windows:
        return Coverage((), 0)
    size = product.chunk_px
    touched = sorted({chunk for window in windows for chunk in chunks_in(chunk_block(window, size))})
    covered = shapely.union_all(_boxes(windows))
    shapely.prepare(covered)
    whole = shapely.covers(covered, _boxes([chunk_window(chunk, size, product.geobox) for chunk in touched]))
    complete = tuple(chunk for chunk, is_whole in zip(touched, whole, strict=True) if is_whole)
    return Coverage(complete, len(touched) - len(complete))


def offset_of(product: CubeProduct, left: float, top: float, pixel: tuple[float, float], crs: "CRS") -> tuple[int, int]:
    """Return row and column in a product's grid of the upper left pixel of another grid, which is made of its pixels.

    Of the other grid, `left` and `top` are edges in its CRS, `pixel` width and height, both positive.

    Raises:
        CubeError: If the other grid is not made of the same pixels.
    """
    affine = product.geobox.affine
    cols, rows = to_pixels(product.geobox, np.array([left]), np.array([top]))
    at = np.array([rows[0], cols[0]])
    whole = np.round(at)
    same_size = np.allclose(pixel, (affine.a, -affine.e), rtol=1e-9, atol=0)
    if crs != product.geobox.crs or not same_size or np.abs(at - whole).max() > _SAME_PX:
        raise CubeError(
            f"The grid begins at ({left}, {top}) in {crs} with pixels of {pixel[0]} × {pixel[1]}; expected pixels of "
            f"{product.collection}, {affine.a} × {-affine.e} in {product.geobox.crs}, with edges at multiples of that."
        )
    return int(whole[0]), int(whole[1])


def product_named(name: str) -> CubeProduct:
    """Return a product by the name that users write: ``arcticdem-2m``, ``tcvis-2000-2019``.

    Raises:
        ParameterError: If there is none.
    """
    for known, make in _PRODUCTS.items():
        if name == known:
            return make()
    raise ParameterError(f"product is {name!r}; expected one of {', '.join(_PRODUCTS)}.")


def _boxes(windows: Sequence[Window]) -> np.ndarray:
    import shapely

    edges = np.array([(cols.start, rows.start, cols.stop, rows.stop) for rows, cols in windows])
    return np.asarray(shapely.box(*edges.T))


_PRODUCTS = {f"arcticdem-{size}m": lambda size=size: arcticdem_product(size) for size in (2, 10, 32)} | {
    f"tcvis-{trend}": lambda trend=trend: tcvis_product(trend) for trend in TRENDS
}
