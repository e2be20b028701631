"""A plateau of glacial till cut by a river and its streams, with lakes: heights, water, and where water runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from darts_demo.drainage import FlowTree, flow_tree, river_profile
from darts_demo.noise import Field, double, fractal, smoothstep, wave

FACTOR = 8
"""Fine cells per coarse cell: drainage is worked out on the coarse grid."""
_HALVINGS = 3
_BORDER = 40  # coarse cells around the area, so that what happens at the edge of the drainage stays outside


@dataclass(frozen=True)
class Terrain:
    """The ground before slumps.

    Every array has the shape of the area, rows from north to south.

    Attributes:
        height: Elevation, float32, metres.
        stream: Distance to the nearest stream line, float32, metres.
        drained: Area that drains through that stream line, float32, square metres.
        water: 0 land, 1 river, 2 stream, 3 lake, uint8.
        depth: Depth of water, float32, metres; 0 on land.
        floodplain: 1 on the river's floodplain falling to 0 at its edge, float32.
        lake: Distance to the nearest lake, float32, metres.
        incised: How deep the ground is cut into the plateau, float32, metres.
        cell: Cell size in metres.
    """

    height: Field
    stream: Field
    drained: Field
    water: NDArray[np.uint8]
    depth: Field
    floodplain: Field
    lake: Field
    incised: Field
    cell: float


@dataclass(frozen=True)
class _Valley:
    """Coordinates along (`s`, metres) and across (`t`, metres from the middle of the floodplain) the main valley."""

    s: Field
    t: Field
    channel: Field
    half_width: Field
    level: Field


class _Frame:
    """The course of the main river, as functions of place; the same for every grid that asks."""

    def __init__(self, rng: np.random.Generator, extent: float) -> None:
        self._angle = rng.uniform(0, 2 * np.pi)
        self._shift = rng.uniform(-0.2, 0.2) * extent
        self._seeds = rng.integers(0, 2**31, 3)
        self.level = rng.uniform(180, 260)
        self.depth = rng.uniform(85, 115)

    def valley(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> _Valley:
        s = x * np.cos(self._angle) + y * np.sin(self._angle)
        across = -x * np.sin(self._angle) + y * np.cos(self._angle) - self._shift
        rngs = [np.random.default_rng(seed) for seed in self._seeds]
        knots = np.arange(s.min() - 50, s.max() + 50, 5.0)
        middle = 260 * wave(rngs[0], knots, 5200, 1.0)
        bends = 55 * wave(rngs[1], knots, 900, 0.9)
        width = 130 + 35 * wave(rngs[2], knots, 2600, 0.8)
        slant = np.hypot(1, np.gradient(middle, 5.0))
        t = (across - np.interp(s, knots, middle)) / np.interp(s, knots, slant)
        return _Valley(
            s.astype(np.float32),
            t.astype(np.float32),
            np.interp(s, knots, bends).astype(np.float32),
            np.interp(s, knots, width).astype(np.float32),
            (self.level - 0.004 * s).astype(np.float32),
        )


def make_terrain(rng: np.random.Generator, rows: int, columns: int, cell: float) -> Terrain:
    """Make the ground of an area.

    Args:
        rng: Where the randomness comes from.
        rows: Height of the area in cells.
        columns: Width of the area in cells.
        cell: Cell size in metres.

    Returns:
        The terrain, before slumps.
    """
    frame = _Frame(rng, cell * max(rows, columns))
    coarse, tree, cut = _coarse_heights(rng, frame, rows, columns, cell)
    height, incised = _refine(coarse, rows, columns), _refine(cut, rows, columns)
    stream, drained, water = _streams(rng, tree, cut.shape, (rows, columns), cell)
    height += np.float32(0.35) * fractal(rng, (rows, columns), 72 / cell, hurst=0.6)
    height -= np.clip(0.6 * (drained / 1e6) ** 0.25, 0, 1.2) * np.exp(-((stream / 5) ** 2))
    height, floodplain, river = _river(rng, frame, height, cell)
    water[river > 0] = 1
    depth = np.where(water == 2, np.float32(0.3), river)
    height, lake_depth, lake = _lakes(rng, height, incised, floodplain, stream, cell)
    water[lake_depth > 0] = 3
    depth = np.where(water == 3, lake_depth, depth)
    return Terrain(height, stream, drained, water, depth, floodplain, lake, incised, cell)


def _grid(shape: tuple[int, ...], cell: float, middle: tuple[float, float]) -> tuple[NDArray, NDArray]:
    """Metres east and north of the middle (row and column of an edge between cells), for each cell of a grid."""
    x = (np.arange(shape[1]) + 0.5 - middle[1]) * cell
    y = (middle[0] - np.arange(shape[0]) - 0.5) * cell
    east, north = np.meshgrid(x, y)
    return east, north


def _coarse_shape(rows: int, columns: int) -> tuple[int, int]:
    return -(-rows // FACTOR) + 2 * _BORDER, -(-columns // FACTOR) + 2 * _BORDER


def _coarse_heights(
    rng: np.random.Generator, frame: _Frame, rows: int, columns: int, cell: float
) -> tuple[NDArray, FlowTree, NDArray]:
    """Heights on the coarse grid, its flow tree, and how deep each cell is cut into the plateau."""
    size = FACTOR * cell
    shape = _coarse_shape(rows, columns)
    x, y = _grid(shape, size, (_BORDER + rows / FACTOR / 2, _BORDER + columns / FACTOR / 2))
    valley = frame.valley(x, y)
    plateau = frame.level + frame.depth - 0.004 * valley.s + 0.012 * np.abs(valley.t)
    plateau = plateau + 16 * fractal(rng, shape, 3000 / size, hurst=0.95) + 2.5 * fractal(rng, shape, 500 / size)
    outlets = np.abs(valley.t) < valley.half_width
    edge = np.ones(shape, dtype=bool)
    edge[1:-1, 1:-1] = False
    routing = np.where(outlets, valley.level, plateau + 9 * fractal(rng, shape, 1200 / size, hurst=0.7))
    tree = flow_tree(routing.astype(np.float64), outlets | edge, size)
    base = np.where(outlets, valley.level, plateau - 12).ravel().astype(np.float64)
    cut = river_profile(tree, base, size, steepest=0.42, concavity=0.33).reshape(shape)
    soft = 5.0
    height = -soft * np.logaddexp(-cut / soft, -plateau / soft)
    height = np.where(outlets, valley.level, ndimage.gaussian_filter(height, 0.7))
    return height, tree, plateau - height


def _refine(coarse: NDArray, rows: int, columns: int) -> Field:
    """Bring coarse heights to the fine grid, in place to half a fine cell.

    Doubling three times puts value `j` at the coarse index `j / 8 + 7 / 8`; the centre of the area's first fine cell
    has the coarse index `_BORDER − 1 / 2 + 1 / 16`.
    """
    field = coarse.astype(np.float32)
    for _ in range(_HALVINGS):
        field = double(field)
    start = round(FACTOR * (_BORDER - 1 / 2 + 1 / 16 - 7 / 8))
    return np.ascontiguousarray(field[start : start + rows, start : start + columns])


def _stream_lines(rng: np.random.Generator, tree: FlowTree, keep: NDArray, shape: tuple[int, int]) -> tuple:
    """Smooth the staircase of flow directions: positions (coarse cells) of the kept cells and of their receivers."""
    position = np.stack(np.divmod(np.arange(keep.size), shape[1]), axis=1).astype(np.float64)
    inner = keep & (tree.receiver != np.arange(keep.size))
    main = np.arange(keep.size)  # the largest tributary of each cell
    by_area = np.flatnonzero(inner)[np.argsort(tree.area[inner], kind="stable")]
    main[tree.receiver[by_area]] = by_area
    wobble = np.stack([fractal(rng, shape, 12, 2, 0.6).ravel() for _ in range(2)], axis=1)
    position += 0.45 * wobble
    for _ in range(4):
        position[inner] = 0.5 * position[inner] + 0.25 * position[tree.receiver[inner]] + 0.25 * position[main[inner]]
    cells = np.flatnonzero(inner)
    return cells, position[cells], position[tree.receiver[cells]]


def _streams(
    rng: np.random.Generator, tree: FlowTree, coarse: tuple[int, int], shape: tuple[int, int], cell: float
) -> tuple[Field, Field, NDArray]:
    """Distance to the nearest stream, the area that it drains, and where its water is wide enough to be seen."""
    cells, start, end = _stream_lines(rng, tree, tree.area > 1.5e4, coarse)
    points = 2 * FACTOR
    along = (np.arange(points) / points)[None, :, None]
    path = ((start[:, None] * (1 - along) + end[:, None] * along + 0.5 - _BORDER) * FACTOR).reshape(-1, 2)
    area = np.repeat(tree.area[cells], points)
    row, column = np.floor(path).astype(np.int64).T
    drained = np.zeros(shape, dtype=np.float32)
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    np.maximum.at(drained, (row[inside], column[inside]), area[inside].astype(np.float32))
    if not drained.any():
        return np.full(shape, 1e4, np.float32), drained, np.zeros(shape, np.uint8)
    distance, nearest = ndimage.distance_transform_edt(drained == 0, sampling=cell, return_indices=True)
    drained = drained[nearest[0], nearest[1]]
    half_width = np.where(drained > 6e5, 0.9 + 1.4 * np.sqrt(drained / 1e6), 0)
    water = np.where(distance < half_width, 2, 0).astype(np.uint8)
    return distance.astype(np.float32), drained, water


def _river(rng: np.random.Generator, frame: _Frame, height: Field, cell: float) -> tuple[Field, Field, Field]:
    """Lay the river into its floodplain: heights, the floodplain (1 … 0), the depth of its water."""
    rows, columns = height.shape
    valley = frame.valley(*_grid(height.shape, cell, (rows / 2, columns / 2)))
    side = np.abs(valley.t) - valley.half_width + 18 * fractal(rng, height.shape, 270 / cell, 24 / cell, 0.7)
    floodplain = smoothstep(side, 30, -15)
    bed = valley.level + 1.2 + 0.5 * fractal(rng, height.shape, 180 / cell, 12 / cell, 0.7)
    width = 17 + 5 * fractal(rng, height.shape, 600 / cell, 90 / cell, 0.8)
    to_channel = np.abs(valley.t - np.clip(valley.channel, -0.7 * valley.half_width, 0.7 * valley.half_width))
    depth = np.clip(1.8 * (1 - (to_channel / np.maximum(width, 8)) ** 2), 0, None)
    floodplain = np.maximum(floodplain, smoothstep(to_channel, 60, 25))
    land = np.maximum(height * (1 - floodplain) + bed * floodplain, valley.level + 0.2 * floodplain)
    return np.where(depth > 0, valley.level, land).astype(np.float32), floodplain, depth.astype(np.float32)


def _lakes(
    rng: np.random.Generator, height: Field, incised: Field, floodplain: Field, stream: Field, cell: float
) -> tuple[Field, Field, Field]:
    """Sink thermokarst lakes into the plateau: heights, depth of lake water, distance to the nearest lake."""
    smooth = ndimage.uniform_filter(height, round(150 / cell), mode="nearest")
    steep = np.hypot(*np.gradient(smooth, cell))
    likely = fractal(rng, height.shape, 1000 / cell, 90 / cell, 0.95)
    likely -= 8 * steep + 0.25 * np.clip(incised - 6, 0, None) + 10 * floodplain + smoothstep(stream, 60, 10)
    level = max(float(np.quantile(likely, 0.965)), 0.6)
    labels, count = ndimage.label(likely > level)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    good = areas >= 6000 / cell**2
    good[0] = False
    labels[~good[labels]] = 0
    if not labels.any():
        return height, np.zeros_like(height), np.full(height.shape, 1e4, np.float32)
    away, nearest = ndimage.distance_transform_edt(labels == 0, sampling=cell, return_indices=True)
    shore = (away > 0) & (away < 3 * cell)
    nearest = labels[nearest[0], nearest[1]]
    lowest = ndimage.minimum(height, np.where(shore, nearest, 0), np.arange(count + 1))
    surface = np.where(np.isfinite(lowest), lowest - rng.uniform(1, 6, count + 1), 0)[nearest].astype(np.float32)
    away = away.astype(np.float32)
    bank = smoothstep(away, -10, 70 + 40 * rng.random())
    sunk = surface + 0.4 + (height - surface - 0.4) * bank
    sunk = np.maximum(sunk, surface + 0.4 - 0.3 * np.clip(away - 20, 0, None))  # no lake hangs over its valley
    height = sunk + (height - sunk) * floodplain
    depth = np.where(labels > 0, 0.3 + 2.5 * np.clip(likely - level, 0, 1), 0).astype(np.float32)
    return np.where(labels > 0, surface, height).astype(np.float32), depth, away
