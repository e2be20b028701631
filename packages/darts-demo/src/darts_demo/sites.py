"""Where slumps start: sites on ice-rich slopes above water, and the ways that their debris takes down."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from darts_demo.noise import Field, smoothstep
from darts_demo.scar import Plan
from darts_demo.terrain import Terrain

_STRIDE = 4  # sites are looked for on every fourth cell
_STEP_M = 6.0  # from point to point of a debris tongue
_LAKE_SHARE = 0.3
_FIRST = 12  # proposals that are made inside the image


def plan_slumps(
    rng: np.random.Generator, terrain: Terrain, count: int, inner: tuple[slice, slice]
) -> Iterator[tuple[str, Plan]]:
    """Propose slumps, the first dozen of them inside `inner`.

    Args:
        rng: Where the randomness comes from.
        terrain: The ground.
        count: How many to propose at most.
        inner: Rows and columns where at least some slumps have to be.

    Yields:
        "valley" or "lake", and the plan.
    """
    cell = terrain.cell
    smooth = ndimage.gaussian_filter(terrain.height, 24 / cell)[::_STRIDE, ::_STRIDE]
    south, east = (part.astype(np.float32) for part in np.gradient(smooth, cell * _STRIDE))
    likely = _suitability(terrain, np.hypot(south, east))
    everywhere = (slice(0, terrain.height.shape[0]), slice(0, terrain.height.shape[1]))
    sites = []
    for number, window in ((_FIRST, inner), (count, everywhere)):
        for kind, weight in likely.items():
            part = _LAKE_SHARE if kind == "lake" else 1 - _LAKE_SHARE
            sites.append(_draw(rng, kind, weight, window, round(part * number)))
    kinds = np.array([kind for kind, points in sites for _ in points])
    points = np.concatenate([points for _, points in sites])
    first = sum(len(points) for _, points in sites[: len(likely)])
    order = np.concatenate([rng.permutation(first), first + rng.permutation(len(points) - first)])
    kinds, points = kinds[order], points[order]
    length = np.clip(rng.lognormal(np.log(95), 0.45, len(points)), 40, 260) * np.where(kinds == "lake", 0.7, 1)
    width = length * rng.uniform(0.65, 1.25, len(points))
    down = _sample((-south, -east), points)
    down = down / np.maximum(np.hypot(*down.T), 1e-6)[:, None]
    reach = length * rng.uniform(0.3, 1.6, len(points))
    paths = _paths((-south, -east), terrain, points + down * (0.4 * length / cell)[:, None], down, reach)
    headwall = np.clip(3.6 * (length / 50) ** 0.8 * rng.uniform(0.8, 1.4, len(points)), 3, 18)
    fresh = rng.uniform(0.45, 1.0, len(points))
    for i, (row, column) in enumerate(points):
        across = (float(down[i, 0]), float(down[i, 1]))
        yield str(kinds[i]), Plan(row, column, across, length[i], width[i], headwall[i], paths[i], fresh[i])


def _suitability(terrain: Terrain, slope: Field) -> dict[str, Field]:
    """How likely a slump starts, for each kind, on the thinned grid."""
    lake, incised, stream, floodplain = (
        field[::_STRIDE, ::_STRIDE] for field in (terrain.lake, terrain.incised, terrain.stream, terrain.floodplain)
    )
    steep = smoothstep(slope, 0.07, 0.16) * smoothstep(slope, 0.5, 0.32)
    wet = smoothstep(stream, 400, 150) * smoothstep(stream, 25, 60)
    valley = steep * wet * smoothstep(incised, 2, 10) * (floodplain <= 0) * (lake > 150)
    shore = smoothstep(slope, 0.03, 0.08) * (lake > 15) * (lake < 40) * (floodplain <= 0)
    return {"valley": valley, "lake": shore}


def _draw(
    rng: np.random.Generator, kind: str, weight: Field, window: tuple[slice, slice], count: int
) -> tuple[str, NDArray[np.float64]]:
    """Draw sites with the given weights, as rows and columns of the full grid."""
    inside = np.zeros(weight.shape, dtype=bool)
    rows, columns = (slice(part.start // _STRIDE, -(-part.stop // _STRIDE)) for part in window)
    inside[rows, columns] = True
    cells = np.flatnonzero((weight > 0) & inside)
    if not len(cells):
        return kind, np.empty((0, 2))
    # Weighted drawing without replacement (Efraimidis and Spirakis 2006).
    keys = rng.random(len(cells)) ** (1 / weight.ravel()[cells].astype(np.float64))
    chosen = cells[np.argsort(-keys, kind="stable")[:count]]
    return kind, _STRIDE * np.stack(np.divmod(chosen, weight.shape[1]), axis=1).astype(np.float64)


def _sample(fields: tuple[Field, Field], points: NDArray[np.float64]) -> NDArray[np.float64]:
    at = (points / _STRIDE).T
    return np.stack([ndimage.map_coordinates(field, at, order=1, mode="nearest") for field in fields], axis=1)


def _paths(
    down: tuple[Field, Field],
    terrain: Terrain,
    start: NDArray[np.float64],
    heading: NDArray[np.float64],
    reach: NDArray[np.float64],
) -> list[NDArray[np.float64]]:
    """Follow the slope down from each start until water, a flat, or as far as it reaches."""
    water = terrain.water > 0
    position, heading = start.copy(), heading.copy()
    running = np.ones(len(start), dtype=bool)
    track = [start.copy()]
    lengths = np.ones(len(start), dtype=int)
    limit = np.array(water.shape) - 1
    for number in range(1, int(reach.max(initial=0) / _STEP_M) + 1):
        slope = _sample(down, position)
        steep = np.hypot(*slope.T)
        heading = 0.6 * heading + 0.4 * slope / np.maximum(steep, 1e-6)[:, None]
        heading /= np.maximum(np.hypot(*heading.T), 1e-6)[:, None]
        position = position + heading * (_STEP_M / terrain.cell)
        row, column = np.clip(np.round(position), 0, limit).astype(int).T
        running &= (number * _STEP_M <= reach) & (steep > 0.02) & ~water[row, column]
        track.append(position.copy())
        lengths += running
    points = np.stack(track, axis=1)
    return [points[i, : lengths[i]] for i in range(len(start))]
