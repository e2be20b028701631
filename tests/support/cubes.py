"""Auxiliary datacubes around a grid, made of smooth formulas."""

from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from darts_acquisition import create_arcticdem_cube, create_tcvis_cube


def build_cubes(folder: Path, geobox: GeoBox, resolution: int = 2, margin_m: float = 500) -> tuple[Path, Path]:
    """Create an ArcticDEM and a TCVIS cube that cover a tile and a margin around it.

    Args:
        folder: Where the cubes go.
        geobox: Grid of the tile.
        resolution: Pixel size of the DEM in metres.
        margin_m: Width of the margin in metres.

    Returns:
        Paths of the ArcticDEM and the TCVIS cube.
    """
    area = geobox.pad(int(np.ceil(margin_m / geobox.resolution.x)))
    dem_path, tcvis_path = folder / f"arcticdem_{resolution}m.icechunk", folder / "tcvis.icechunk"
    cube = create_arcticdem_cube(dem_path, resolution)
    window = cube.geobox[cube.window(area)]
    row, column = np.mgrid[: window.shape[0], : window.shape[1]].astype(np.float32) * resolution
    dem = 200 + 0.1 * column + 30 * np.sin(row / 150) * np.cos(column / 210)
    cube.write(
        window,
        {"dem": dem.astype(np.float32), "arcticdem_data_mask": np.ones(window.shape, np.uint8)},
        complete=True,
    )
    trends = create_tcvis_cube(tcvis_path)
    window = trends.geobox[trends.window(area, 2)]
    row, column = np.mgrid[: window.shape[0], : window.shape[1]]
    trends.write(
        window,
        {
            "tc_brightness": (row % 200 + 20).astype(np.uint8),
            "tc_greenness": (column % 200 + 20).astype(np.uint8),
            "tc_wetness": ((row + column) % 200 + 20).astype(np.uint8),
        },
        complete=True,
    )
    return dem_path, tcvis_path
