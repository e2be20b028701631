"""Quantities that vary smoothly over a grid: known exactly at nodes, interpolated between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

PointFunction: TypeAlias = "Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.complex128]]"

_FIRST_STEP_PX = 256
_POINTS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Nodes:
    """A quantity with two components over a grid, to be interpolated bilinearly.

    Attributes:
        values: (nodes in y, nodes in x) complex128. Node (i, j) is the centre of pixel (i·step, j·step); nodes lie
            on all sides of every pixel.
        step: Pixels from node to node.
    """

    values: NDArray[np.complex128]
    step: int


def sample_nodes(function: PointFunction, geobox: GeoBox, tolerance: float) -> Nodes:
    """Evaluate a function at nodes so close that interpolation between them is as good as the function itself.

    The distance of the nodes is halved until interpolation agrees with the function halfway between them. Where the
    function jumps that ends at single pixels, which are then not interpolated at all.

    Args:
        function: Takes x and y in the CRS of the grid, float64 arrays of one shape; returns complex numbers.
        geobox: The grid, north-up.
        tolerance: Largest error that is accepted halfway between nodes, in the unit of the function's values.

    Returns:
        The nodes.
    """
    step = _FIRST_STEP_PX
    values = _evaluate(function, geobox, step)
    while step > 1:
        finer = _evaluate(function, geobox, step // 2)
        if _interpolates(values, finer, tolerance):
            break
        step, values = step // 2, finer
    return Nodes(values, step)


def _evaluate(function: PointFunction, geobox: GeoBox, step: int) -> NDArray[np.complex128]:
    rows, cols = (np.arange(-(-size // step) + 1) * step + 0.5 for size in geobox.shape)
    affine = geobox.affine
    x, y = affine.c + affine.a * cols, affine.f + affine.e * rows
    values = np.empty((y.size, x.size), dtype=np.complex128)
    lines = max(1, _POINTS_AT_ONCE // x.size)
    for start in range(0, y.size, lines):
        values[start : start + lines] = function(*np.meshgrid(x, y[start : start + lines]))
    return values


def _interpolates(values: NDArray[np.complex128], finer: NDArray[np.complex128], tolerance: float) -> bool:
    """Tell whether `values`, interpolated to half their distance, are `finer`."""
    halfway = np.empty((2 * values.shape[0] - 1, 2 * values.shape[1] - 1), dtype=np.complex128)
    halfway[::2, ::2] = values
    halfway[1::2, ::2] = (values[:-1] + values[1:]) / 2
    halfway[:, 1::2] = (halfway[:, :-1:2] + halfway[:, 2::2]) / 2
    rows, cols = finer.shape
    return bool((np.abs(halfway[:rows, :cols] - finer) < tolerance).all())
