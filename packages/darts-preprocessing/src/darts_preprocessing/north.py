"""Where true north is: the meridian convergence of a grid, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.grid import to_pyproj
from darts_preprocessing.nodes import Nodes, sample_nodes

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_TOLERANCE = 1e-5  # of sine and cosine, 0.0006°


def get_north(geobox: GeoBox) -> Nodes:
    """Compute where true north is on a grid, to within 0.001°.

    The meridian convergence γ, the angle from true north to grid north, clockwise, comes from PROJ
    (``pyproj.Proj.get_factors``), for any projection, and is interpolated. At a pole, where true north is not defined,
    it is 0.

    Args:
        geobox: Grid in a projected CRS, north-up.

    Returns:
        cos γ + i sin γ.
    """
    import pyproj

    crs = to_pyproj(geobox)
    to_geographic = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    projection = pyproj.Proj(crs)

    def convergence(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.complex128]:
        lon, lat = to_geographic.transform(x, y)
        angle = np.asarray(projection.get_factors(lon, lat).meridian_convergence)
        return np.exp(1j * np.radians(np.where(np.isfinite(angle), angle, 0.0)))

    return sample_nodes(convergence, geobox, _TOLERANCE)
