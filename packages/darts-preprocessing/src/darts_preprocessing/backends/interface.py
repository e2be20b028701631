"""What a backend computes, whatever the arrays lie on."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from darts_preprocessing.nodes import Nodes

Features: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Core:
    """The part of a DEM for which features are wanted; what lies around it is only looked at.

    Attributes:
        top: First row.
        left: First column.
        shape: Rows and columns.
    """

    top: int
    left: int
    shape: tuple[int, int]

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> "Core":
        """Return the core that is the whole DEM."""
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
    """Kernels on the arrays of one kind of device. Every `dem` is (y, x) float32, metres, NaN where there is none."""

    def active(self) -> AbstractContextManager[Any]:
        """Return a context in which new arrays lie where this backend works."""

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """Return the values as a contiguous array of this backend, copied only where needed."""

    def to_host(self, array: Any) -> Any:
        """Return an array of this backend as a numpy array."""

    def ndvi(self, nir: Any, red: Any) -> Any:
        """Return (nir − red) / (nir + red) of float32 reflectances clipped to 0…1, NaN where both are 0 or one NaN."""

    def gradient_features(
        self, dem: Any, core: Core, cell: float, names: Sequence[str], shading: Shading | None, north: Nodes | None
    ) -> Features:
        """Return the features of `names` (slope, aspect, hillshade, curvature) for the core, float32.

        `shading` is needed for the hillshade; `north` None takes grid north for true north.
        """

    def relative_elevation(self, dem: Any, core: Core, outer: int, inner: int) -> Any:
        """Return elevation minus mean over the valid cells at a distance up to `outer` and above `inner` (if not 0)."""

    def ruggedness(self, dem: Any, window: int) -> Any:
        """Return Riley's ruggedness over square windows of `window` cells, float32, metres."""

    def vector_ruggedness(self, dem: Any, cell: float, window: int) -> Any:
        """Return the dispersion of the surface normals over square windows of `window` cells, float32."""

    def dissection(self, dem: Any, window: int) -> Any:
        """Return relief over highest elevation in square windows of `window` cells, float32."""

    def resample(self, source: Any, sampling: Sampling) -> Any:
        """Return a source of (band, y, x) on another grid, in the same dtype.

        Cubic convolution takes float32, and integers of at most 16 bits, which float32 holds.

        Where a cell that cubic convolution needs is missing (NaN, or beyond the rim), the result is interpolated
        linearly between those that are there, and where the nearest one is missing, it is NaN (0 for integers).
        """
