"""What a backend computes, whatever the arrays lie on."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union

from numpy.typing import DTypeLike, NDArray

from darts_preprocessing.nodes import Nodes

if TYPE_CHECKING:
    import cupy

    from darts_preprocessing.feature import Inputs, Kernels

Array = Union[NDArray, "cupy.ndarray"]
"""What features are computed from: arrays of the host, or of a GPU."""

Features: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class Interior:
    """The part of a DEM for which features are wanted; what lies around it is only looked at.

    Attributes:
        top: First row.
        left: First column.
        shape: Rows and columns.
    """

    top: int
    left: int
    shape: tuple[int, int]

    def cut(self, array: Array) -> Array:
        """Return the interior of an array of the DEM's shape, without a copy."""
        return array[self.top : self.top + self.shape[0], self.left : self.left + self.shape[1]]

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> "Interior":
        """Return the interior that is the whole DEM."""
        return cls(0, 0, shape)


@dataclass(frozen=True)
class Shading:
    """The unit vector to the sun: to true east, to true north, and up."""

    east: float
    north: float
    up: float

    @classmethod
    def from_angles(cls, azimuth: float, elevation: float) -> "Shading":
        """Make it from azimuth (clockwise from true north) and elevation above the horizon, in degrees."""
        azimuth, elevation = math.radians(azimuth), math.radians(elevation)
        flat = math.cos(elevation)
        return cls(flat * math.sin(azimuth), flat * math.cos(azimuth), math.sin(elevation))


@dataclass(frozen=True)
class Sampling:
    """How to resample one grid onto another.

    Attributes:
        nodes: column + i·row of the target's cells on the source, where cell (0, 0) reaches from 0 to 1 in both.
        shape: Rows and columns of the target.
        cubic: Cubic convolution, else the nearest cell.
        stretch: Width of a target cell in source cells, 1 or more.
    """

    nodes: Nodes
    shape: tuple[int, int]
    cubic: bool
    stretch: float


def half_widths(radius: int) -> list[int]:
    """Count the cells left (or right) of the centre line of a disk, for each row from its centre on.

    A cell belongs to the disk if its centre is at most the radius away.

    Examples:
        >>> half_widths(3)
        [3, 2, 2, 0]
    """
    return [math.isqrt(radius * radius - row * row) for row in range(radius + 1)]


class Backend(Protocol):
    """Arrays of one kind of device, and the kernels that work on them."""

    @property
    def xp(self) -> ModuleType:
        """The module of the arrays: numpy, or cupy."""

    def active(self) -> AbstractContextManager[object]:
        """Return a context in which new arrays lie where this backend works."""

    def asarray(self, values: object, dtype: DTypeLike | None = None) -> Array:
        """Return the values as a contiguous array of this backend, copied only where needed."""

    def to_host(self, array: Array) -> NDArray:
        """Return an array of this backend as a numpy array."""

    def run(self, kernels: "Kernels", inputs: "Inputs", names: Sequence[str]) -> Features:
        """Compute features by those kernels (:class:`darts_preprocessing.Kernels`) that work where the inputs lie."""

    def resample(self, source: Array, sampling: Sampling) -> Array:
        """Return a source of (band, y, x) on another grid, in the same dtype.

        Cubic convolution takes float32, and integers of at most 16 bits, which float32 holds.

        Where a cell that cubic convolution needs is missing (NaN, or beyond the border), the result is interpolated
        linearly between those that are there, and where the nearest one is missing, it is NaN (0 for integers).
        """
