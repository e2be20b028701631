"""Thaw slumps on valley sides and lake shores, and the healed scars of old ones that look a little like them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from darts_demo.noise import Field, fractal, smoothstep
from darts_demo.scar import Plan, Scar, carve, cover, shape_scar
from darts_demo.sites import plan_slumps
from darts_demo.terrain import Terrain

_GAP_PX = 6  # slumps keep this distance from one another, so that each stays an object of its own
_SMALLEST_M2 = 1500.0
_SHALLOWEST_M = 2.5


@dataclass(frozen=True)
class Slump:
    """One slump of the truth.

    Attributes:
        number: Its value in :attr:`Slumps.label`, from 1.
        kind: "valley" or "lake".
        center: Row and column (cells) of the middle of its scar.
        down: Downslope direction as (row, column) parts of a unit vector.
        length: Length of the scar along the slope, metres.
        headwall: Greatest depth of the cut, metres.
    """

    number: int
    kind: str
    center: tuple[float, float]
    down: tuple[float, float]
    length: float
    headwall: float

    def moved(self, cells: int) -> "Slump":
        """The same slump on a grid that starts `cells` cells further north-west (or south-east where negative)."""
        return replace(self, center=(self.center[0] + cells, self.center[1] + cells))


class Slumps:
    """All slumps of an area, which are cut into it one after the other.

    Args:
        rng: Where the randomness comes from.
        terrain: The ground. Not changed.

    Attributes:
        label: 0 outside, else the slump's number, int32.
        height: Elevation with slumps, float32, metres.
        mud: Share of bare mud, float32, 0…1.
        scarp: Share of fresh scarp, float32, 0…1.
        healed: Share of the dense growth on old scars, float32, 0…1.
        slumps: One entry per slump, in the order of their numbers.
        scars: Number of healed scars.
    """

    def __init__(self, rng: np.random.Generator, terrain: Terrain) -> None:
        self._rng, self._cell, shape = rng, terrain.cell, terrain.height.shape
        self._texture = fractal(rng, shape, 60 / self._cell, 9 / self._cell, 0.7)
        self._streaks = fractal(rng, shape, 18 / self._cell, 3 / self._cell, 0.5)
        self._water = terrain.water > 0
        self._taken = np.zeros(shape, dtype=bool)
        self.height = terrain.height.copy()
        self.label: NDArray[np.int32] = np.zeros(shape, dtype=np.int32)
        self.mud, self.scarp, self.healed = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        self.slumps: list[Slump] = []
        self.scars = 0

    def _site_for(self, plan: Plan, least_m: float) -> tuple[Scar, Field, float] | None:
        """Outline, new heights and depth of a slump; None where it does not fit or cuts too little."""
        scar = shape_scar(self._rng, plan, self._texture, self._water, self._cell)
        if scar is None or scar.mask.sum() * self._cell**2 < _SMALLEST_M2:
            return None
        if (self._taken[scar.window] & scar.mask).any():
            return None
        new, depth = carve(plan, scar, self.height, self._texture, self._cell)
        return None if depth < least_m else (scar, new, depth)

    def add(self, kind: str, plan: Plan) -> None:
        """Cut an active slump."""
        placed = self._site_for(plan, _SHALLOWEST_M)
        if placed is None:
            return
        scar, new, depth = placed
        mud, scarp = cover(plan, scar, self._texture, self._streaks)
        number = len(self.slumps) + 1
        self.height[scar.window] = new
        self.mud[scar.window] += mud
        self.scarp[scar.window] += scarp
        self.label[scar.window] += number * scar.mask
        self.slumps.append(Slump(number, kind, (plan.row, plan.column), plan.down, plan.length, depth))
        self._block(scar)

    def add_healed(self, plan: Plan) -> None:
        """Leave the shallow, smooth, overgrown scar of a slump that came to rest."""
        placed = self._site_for(replace(plan, headwall=0.5 * plan.headwall), 1.0)
        if placed is None:
            return
        scar, new, _ = placed
        change = ndimage.gaussian_filter(new - self.height[scar.window], 7.5 / self._cell, mode="constant")
        self.height[scar.window] += change
        self.healed[scar.window] += smoothstep(scar.inside, 0, 9)
        self.scars += 1
        self._block(scar)

    def _block(self, scar: Scar) -> None:
        """Keep the slump and its surroundings free of further ones."""
        wide = tuple(slice(max(part.start - _GAP_PX, 0), part.stop + _GAP_PX) for part in scar.window)
        around = np.zeros(self._taken[wide].shape, dtype=bool)
        around[tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(scar.window, wide, strict=True))] = (
            scar.mask
        )
        self._taken[wide] |= ndimage.binary_dilation(around, np.ones((3, 3)), iterations=_GAP_PX)


def add_slumps(rng: np.random.Generator, terrain: Terrain, per_km2: float, inner: tuple[slice, slice]) -> Slumps:
    """Let slumps eat into the ground where they do in nature: on ice-rich slopes above streams and on lake shores.

    Args:
        rng: Where the randomness comes from.
        terrain: The ground. Not changed.
        per_km2: Slumps to aim at per square kilometre, at least four in all; healed scars come on top, one for two.
        inner: Rows and columns where the first slumps are looked for.

    Returns:
        The slumps and the ground with them. No two slumps touch, and none lies in water.
    """
    ground = Slumps(rng, terrain)
    wanted = max(4, round(per_km2 * terrain.height.size * terrain.cell**2 / 1e6))
    for kind, plan in plan_slumps(rng, terrain, 15 * wanted, inner):
        if ground.scars < len(ground.slumps) // 2:
            ground.add_healed(plan)
        elif len(ground.slumps) < wanted:
            ground.add(kind, plan)
        else:
            break
    return ground
