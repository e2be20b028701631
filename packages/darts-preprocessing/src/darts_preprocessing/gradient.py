"""The kernels of the features that are made of Horn's gradient: all that are wanted in one pass over the DEM."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends import Shading
from darts_preprocessing.backends.arrays import Gradient, framed, interpolate, strips
from darts_preprocessing.backends.blocks import Block, Scratch, iterate_blocks, run_blocks
from darts_preprocessing.backends.cpu import interpolator
from darts_preprocessing.backends.cpu_gradient import COLS, ROWS, gradient_block
from darts_preprocessing.backends.cpu_nodes import interpolate_block
from darts_preprocessing.backends.interface import Array
from darts_preprocessing.feature import Inputs, Kernels
from darts_preprocessing.nodes import Nodes

_NAMES = ("slope", "aspect", "hillshade", "curvature")


def _on_cpu(inputs: Inputs, names: Sequence[str]) -> dict[str, NDArray]:
    dem, interior = inputs["dem"], inputs.interior
    out = {name: np.empty(interior.shape, dtype=np.float32) for name in names}
    unwanted = np.empty((0, 0), dtype=np.float32)
    arrays = [out.get(name, unwanted) for name in _NAMES]
    shading = _shading(inputs, names)
    sun = np.zeros(3) if shading is None else np.array([shading.east, shading.north, shading.up])
    north = _north(inputs, names)
    # Without a convergence, one pair of nodes around everything says that grid north is true north.
    nodes = Nodes(np.ones((2, 2), dtype=np.complex128), max(interior.shape) + 1) if north is None else north
    interpolated = interpolator(nodes, Scratch())
    needs_north, nowhere = _needs_north(names), np.empty((2, 0, 0))

    def work(block: Block) -> None:
        convergence = interpolated(block) if needs_north else nowhere
        top, left = interior.top + block[0], interior.left + block[1]
        gradient_block(dem, top, left, convergence, inputs.cell, sun, *block, *arrays)

    run_blocks(work, iterate_blocks(interior.shape, ROWS, COLS))
    return out


def _on_gpu(inputs: Inputs, names: Sequence[str]) -> dict[str, Array]:
    xp, interior = inputs.xp, inputs.interior
    out = {name: xp.empty(interior.shape, dtype=xp.float32) for name in names}
    shading, north = _shading(inputs, names), _north(inputs, names)
    for start, stop in strips(*interior.shape):
        z = framed(xp, inputs["dem"], interior, start, stop)
        gradient = Gradient(xp, z, inputs.cell)
        turn = 1.0 if north is None else interpolate(xp, north, start, stop, interior.shape[1])
        if "slope" in out:
            out["slope"][start:stop] = xp.degrees(xp.arctan(gradient.steepness))
        if "curvature" in out:
            out["curvature"][start:stop] = _curvature(z, inputs.cell)
        if "aspect" in out:
            out["aspect"][start:stop] = gradient.aspect(turn.imag, turn.real)
        if shading is not None:
            out["hillshade"][start:stop] = gradient.hillshade(shading, turn.imag, turn.real)
    return out


GRADIENT = Kernels(_on_cpu, _on_gpu, (interpolate_block, gradient_block))
"""Computes slope, aspect, hillshade and curvature. Its settings are where the sun stands, for the hillshade."""


def _needs_north(names: Sequence[str]) -> bool:
    return not {"aspect", "hillshade"}.isdisjoint(names)


def _north(inputs: Inputs, names: Sequence[str]) -> Nodes | None:
    return None if inputs.north is None or not _needs_north(names) else inputs.north()


def _shading(inputs: Inputs, names: Sequence[str]) -> Shading | None:
    return inputs.settings["hillshade"] if "hillshade" in names else None


def _curvature(z: Array, cell: float) -> Array:
    """ESRI's curvature, as ``xrspatial.curvature`` defines it: −2 (D + E) · 100 with Zevenbergen and Thorne's D, E."""
    centre = z[1:-1, 1:-1]
    d = ((z[1:-1, :-2] + z[1:-1, 2:]) / 2 - centre) / cell**2
    e = ((z[:-2, 1:-1] + z[2:, 1:-1]) / 2 - centre) / cell**2
    return -200 * (d + e)
