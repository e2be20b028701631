"""Erosion by a disk: exact, at a cost that grows with the logarithm of the radius.

In a row ``d`` rows away from an unusable pixel, the pixels up to ``isqrt(size² − d²)`` columns away go. So: spread
each unusable pixel along its column, turn the vertical distance into a horizontal reach, spread the reach along the
row. These are the two passes of the separable distance transform (Meijster, Roerdink and Hesselink 2000, "A general
algorithm for computing distance transforms in linear time"), cut off at the radius. All numbers are whole: nothing is
rounded.
"""

from math import isqrt
from types import ModuleType

import numpy as np

from darts_postprocessing.backends.base import Array, usable


class Disk:
    """A disk of pixels: every (dx, dy) with ``dx² + dy² <= size²``.

    Attributes:
        halo: Rows above and below a block that can matter for it.
    """

    def __init__(self, size: int, shape: tuple[int, int]) -> None:
        """Prepare the erosion of an image.

        Args:
            size: Radius in pixels.
            shape: Rows and columns of the whole image; no distance in it is larger, however large the disk.
        """
        rows, columns = shape
        self.halo = max(min(size, rows - 1), 0)
        self._width = max(min(size, columns - 1), 0)
        # Signed, since a value may fall below 0 by one step on the way, and no step is larger than the distances.
        self._dtype = np.min_scalar_type(-max(self.halo, self._width) - 2)
        # Indexed by halo + 1 - d, or 0 where no unusable pixel is near. A reach of 1 is the pixel alone, 0 not even it.
        reach = [min(isqrt(size * size - d * d), self._width) + 1 for d in range(self.halo, -1, -1)]
        self._reach = np.array([0, *reach], self._dtype)

    def erode(self, xp: ModuleType, mask: Array, skip: int, out: Array) -> None:
        """Erode a block of rows.

        Args:
            xp: numpy or cupy, whose arrays `mask` and `out` are.
            mask: Rows of the mask, usable where above 0, with those above and below the block that can matter.
            skip: Rows of `mask` above the block.
            out: uint8 of the shape of the block; becomes 1 where a pixel stays, 0 elsewhere.
        """
        near = xp.multiply(xp.logical_not(usable(mask)), self._dtype.type(self.halo + 1), dtype=self._dtype)
        _spread(xp, near, 0, self.halo)
        reach = xp.take(xp.asarray(self._reach), near[skip : skip + out.shape[0]])
        _spread(xp, reach, 1, self._width)
        xp.equal(reach, 0, out=out.view(np.bool_))


def _spread(xp: ModuleType, values: Array, axis: int, distance: int) -> None:
    """Replace each value by the largest ``values[i + j] − |j|`` with ``|j| <= distance`` along an axis, in place.

    Steps of 1, 2, 4 … pixels add up to every distance; a detour only ever gives a lower value.
    """
    lowered = xp.empty_like(values)
    here, lowered_along = (values, lowered) if axis == 0 else (values.T, lowered.T)
    step, covered = 1, 0
    while covered < distance:
        step = min(step, distance - covered)
        xp.subtract(values, values.dtype.type(step), out=lowered)
        for target, source in ((here[step:], lowered_along[:-step]), (here[:-step], lowered_along[step:])):
            xp.maximum(target, source, out=target)
        covered += step
        step *= 2


def clear_border(mask: Array, width: int) -> None:
    """Set the outermost `width` pixels of a mask to 0, in place."""
    if width:
        mask[:width] = 0
        mask[-width:] = 0
        mask[:, :width] = 0
        mask[:, -width:] = 0
