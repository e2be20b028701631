"""Run where smart-geocubes is installed: fill a cube of its own with five tiles, of which the last one breaks off.

Arguments: the folder of the cube.
"""

import sys

import odc.geo.xr  # noqa: F401
import xarray as xr
from odc.geo.geobox import GeoBox
from smart_geocubes.core import PatchIndex
from smart_geocubes.datasets import arcticdem

LOADED = ["72_09_32m_v4.1", "72_10_32m_v4.1", "73_09_32m_v4.1", "73_10_32m_v4.1"]
BROKEN = "73_11_32m_v4.1"


class ArcticDEM32m(arcticdem.ArcticDEM32m):
    """The real accessor; only what would come from the provider is made here."""

    def post_init(self) -> None:
        """Fetch no index."""

    def post_create(self) -> None:
        """Fetch no index."""

    def adjacent_patches(self, roi, toi):
        return [PatchIndex(name, None) for name in [*LOADED, BROKEN]]

    def download_patch(self, idx):
        row, col = map(int, idx.id.split("_")[:2])
        left, bottom = -4e6 + (col - 1) * 1e5, -4e6 + (row - 1) * 1e5
        grid = GeoBox.from_bbox((left - 96, bottom - 96, left + 100_096, bottom + 100_096), "epsg:3413", resolution=32)
        y, x = (grid.coordinates[axis].values for axis in ("y", "x"))
        down, right = ((y - 16) / 32).astype(int)[:, None], ((x - 16) / 32).astype(int)[None, :]
        dem = (down % 211 + (right % 307) / 512).astype("float32")
        mask = (down % 5 + right % 3) > 0
        variables = {"dem": (("y", "x"), dem), "datamask": (("y", "x"), mask)}
        return xr.Dataset(variables, coords={"y": y, "x": x}).odc.assign_crs("epsg:3413")


if __name__ == "__main__":
    cube = ArcticDEM32m(sys.argv[1], backend="simple")
    write = cube.backend._write_patch_variable

    def break_off(zcube, data, var, target, patch_id):
        if (var, patch_id) == ("datamask", BROKEN):
            raise SystemExit(7)
        write(zcube, data, var, target, patch_id)

    cube.backend._write_patch_variable = break_off
    cube.create()
    cube.procedural_download(cube.extent.extent, None)
