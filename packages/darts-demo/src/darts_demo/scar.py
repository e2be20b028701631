"""The shape of one thaw slump: where its scar and its debris tongue lie, how deep it is cut, what covers it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from darts_demo.noise import Field, smoothstep


@dataclass(frozen=True)
class Plan:
    """What a slump will be, before it is cut into the ground.

    Attributes:
        row: Middle of the scar, rows from the north edge (cells).
        column: Middle of the scar, columns from the west edge (cells).
        down: Downslope direction as (row, column) parts of a unit vector.
        length: Length of the scar along the slope, metres.
        width: Width of the scar across the slope, metres.
        headwall: Height of the headwall that is aimed at, metres.
        path: (points, 2) way of the debris tongue from the scar's mouth down (row, column in cells).
        fresh: 1 all bare … 0 all grown over.
    """

    row: float
    column: float
    down: tuple[float, float]
    length: float
    width: float
    headwall: float
    path: NDArray[np.float64]
    fresh: float


@dataclass(frozen=True)
class Scar:
    """One slump on a window of the area.

    Attributes:
        window: Rows and columns of the area.
        mask: (rows, columns) of the window, bool, True inside the slump.
        bowl: The same, True in the scar, where the ground was lost.
        inside: Distance to the slump's edge, float32, metres, 0 outside.
        u: Metres downslope of the middle, float32.
        v: Metres across the slope, float32.
        tongue: 1 in the middle of the debris tongue falling to 0 at its edges, float32.
    """

    window: tuple[slice, slice]
    mask: NDArray[np.bool_]
    bowl: NDArray[np.bool_]
    inside: Field
    u: Field
    v: Field
    tongue: Field


def _window(plan: Plan, cell: float, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """The slump's surroundings; None where they reach beyond the area."""
    reach = 0.9 * max(plan.length, plan.width) / cell + 6
    points = np.vstack([plan.path, [[plan.row - reach, plan.column - reach], [plan.row + reach, plan.column + reach]]])
    margin = 0.4 * plan.width / cell + 4
    low, high = np.floor(points.min(0) - margin).astype(int), np.ceil(points.max(0) + margin).astype(int)
    if (low < 0).any() or (high > shape).any():
        return None
    return slice(low[0], high[0]), slice(low[1], high[1])


def _tongue(plan: Plan, rows: NDArray, columns: NDArray, cell: float, wiggle: Field) -> Field:
    """How far inside the debris tongue each cell lies, as a share of its half width; 0 outside."""
    if len(plan.path) < 2:
        return np.zeros(rows.shape, dtype=np.float32)
    along = np.linspace(0, 1, len(plan.path))
    half = plan.width * (0.30 - 0.16 * along + 0.07 * np.exp(-(((along - 0.9) / 0.12) ** 2)))
    best = np.zeros(rows.shape, dtype=np.float32)
    for (row, column), width in zip(plan.path, half, strict=True):
        away = np.hypot(rows - row, columns - column) * cell / (width * (1 + 0.25 * wiggle))
        np.maximum(best, 1 - away, out=best)
    return best


def shape_scar(
    rng: np.random.Generator, plan: Plan, texture: Field, blocked: NDArray[np.bool_], cell: float
) -> Scar | None:
    """Draw the outline of a slump: a scalloped bowl, narrower at its mouth, and the tongue below it.

    Args:
        rng: Where the randomness comes from.
        plan: What to draw.
        texture: Noise over the whole area, mean 0, deviation 1, which frays the outline.
        blocked: Over the whole area, True where no slump may lie (water, other slumps).
        cell: Cell size in metres.

    Returns:
        The slump, in one piece; None where it does not fit.
    """
    window = _window(plan, cell, texture.shape)
    if window is None:
        return None
    rows, columns = (part.astype(np.float32) for part in np.mgrid[window])
    wiggle = texture[window]
    dr, dc = (rows - plan.row) * cell, (columns - plan.column) * cell
    u = dr * plan.down[0] + dc * plan.down[1]
    v = dr * plan.down[1] - dc * plan.down[0]
    narrow = 1 - 0.35 * smoothstep(u, 0, plan.length / 2)
    a, b = u / (plan.length / 2), v / (plan.width / 2 * narrow)
    angle = np.arctan2(b, a)
    radius = 1 + 0.05 * wiggle
    for k in range(2, 9):
        radius = radius + rng.normal(0, 0.16 / k**0.8) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    bowl = np.hypot(a, b) < np.clip(radius, 0.6, 1.5)
    tongue = _tongue(plan, rows, columns, cell, wiggle)
    mask = ndimage.binary_opening(bowl | (tongue > 0), iterations=1) & ~blocked[window]
    labels, count = ndimage.label(mask)
    if count == 0:
        return None
    mask = labels == 1 + np.argmax(ndimage.sum_labels(bowl, labels, np.arange(1, count + 1)))
    inside = (ndimage.distance_transform_edt(np.pad(mask, 1)) * cell)[1:-1, 1:-1]
    return Scar(window, mask, bowl & mask, inside.astype(np.float32), u, v, np.where(mask, tongue, 0))


def carve(plan: Plan, scar: Scar, height: Field, texture: Field, cell: float) -> tuple[Field, float]:
    """Cut a slump into the ground: a scarp at its head and sides, a gently sloping floor, debris laid on the slope.

    Args:
        plan: What was planned.
        scar: Its outline.
        height: (rows, columns) of the whole area, float32, metres. Not changed.
        texture: Noise over the whole area, mean 0, deviation 1.
        cell: Cell size in metres.

    Returns:
        New heights of the slump's window, and the greatest depth of the cut in metres.
    """
    ground = height[scar.window]
    rough = texture[scar.window]
    half = plan.length / 2
    mouth = _height_at(scar, ground, half)
    head = _height_at(scar, ground, -half)
    slope = max((head - mouth - plan.headwall) / plan.length, 0.04)
    floor = mouth - 0.8 + slope * (half - scar.u) + 0.5 * rough
    wall = max(0.45 * plan.headwall, 2 * cell)
    cut = np.where(scar.bowl, np.clip(ground - floor, 0, 1.3 * plan.headwall), 0) * smoothstep(scar.inside, 0, wall)
    debris = (0.5 + 0.05 * plan.headwall) * smoothstep(scar.tongue, 0, 0.6) * (1 + 0.3 * rough)
    debris = np.where(scar.mask & ~scar.bowl, debris, 0)
    return (ground - cut + debris).astype(np.float32), float(cut.max())


def _height_at(scar: Scar, ground: Field, u: float) -> float:
    """Mean height of the ground around a place on the slump's axis."""
    weight = np.exp(-((scar.u - u) ** 2 + scar.v**2) / (2 * 9.0**2))
    return float((ground * weight).sum() / weight.sum())


def cover(plan: Plan, scar: Scar, texture: Field, streaks: Field) -> tuple[Field, Field]:
    """Tell what the slump's surface is made of.

    Args:
        plan: What was planned.
        scar: Its outline.
        texture: Noise over the whole area, mean 0, deviation 1.
        streaks: Another one, finer.

    Returns:
        Share of bare mud and share of fresh scarp, each float32 0…1 on the slump's window; the rest is vegetation.
    """
    rough, fine = texture[scar.window], streaks[scar.window]
    head = smoothstep(-scar.u / (plan.length / 2), -0.4, 0.5) * scar.bowl
    scarp = head * smoothstep(scar.inside, 14, 4) * scar.mask
    age = np.clip(scar.u / (plan.length / 2), -1, 1.2) + 0.6 * rough + 0.5 * fine
    grown = smoothstep(age, 3.0 * plan.fresh - 0.8, 3.0 * plan.fresh + 0.2)
    border = smoothstep(scar.inside, 0, 4)
    mud = (1 - 0.9 * grown) * (0.35 + 0.65 * border) * scar.mask
    return mud.astype(np.float32), scarp.astype(np.float32)
