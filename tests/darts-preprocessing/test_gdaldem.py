"""Slope, aspect and hillshade of a real Arctic DEM against gdaldem, its border included.

The four corners are left out: gdaldem goes on linearly along one axis there, this package along both.
"""

import shutil
import subprocess

import numpy as np
import pytest
import rasterio

from darts_preprocessing.backends import Shading
from support import preprocessing as oracle

pytestmark = pytest.mark.skipif(shutil.which("gdaldem") is None, reason="gdaldem (Debian's gdal-bin) is not installed")

AZIMUTH, ELEVATION = 225.0, 25.0


@pytest.fixture(scope="module")
def svalbard(shared_data):
    path = shared_data / "svalbard_dem" / "DEM_1995.tif"
    with rasterio.open(path) as file:
        return path, file.read(1), file.res[0]


@pytest.fixture(scope="module")
def gdaldem(svalbard, tmp_path_factory):
    """Runs gdaldem over the DEM, with its border computed too, and returns the result."""
    folder = tmp_path_factory.mktemp("gdaldem")

    def run(mode, *options):
        out = folder / f"{mode}.tif"
        command = ["gdaldem", mode, str(svalbard[0]), str(out), "-compute_edges", "-q", *options]
        subprocess.run(command, check=True, timeout=120)
        with rasterio.open(out) as file:
            return file.read(1).astype(np.float64)

    return run


@pytest.fixture(scope="module")
def ours(backend, svalbard):
    _, dem, cell = svalbard
    names = ["slope", "aspect", "hillshade"]
    sun = {"hillshade": Shading.from_angles(AZIMUTH, ELEVATION)}
    return oracle.run_kernels(backend, names, {"dem": dem}, cell=cell, settings=sun)


def no_corners(values):
    values = np.array(values, dtype=np.float64)
    values[:: len(values) - 1, :: values.shape[1] - 1] = 0
    return values


def test_slope(ours, gdaldem):
    np.testing.assert_allclose(no_corners(ours["slope"]), no_corners(gdaldem("slope")), atol=0.01, rtol=0)


def test_aspect_on_the_grid(ours, gdaldem):
    theirs = gdaldem("aspect")
    np.testing.assert_array_equal(ours["aspect"] == -1, theirs == -9999)
    steep = ours["slope"] > 1
    assert steep.mean() > 0.8
    difference = no_corners((ours["aspect"] - theirs + 180) % 360 - 180)
    np.testing.assert_allclose(difference[steep], 0, atol=0.1)


def test_hillshade(ours, gdaldem):
    theirs = gdaldem("hillshade", "-az", str(AZIMUTH), "-alt", str(ELEVATION))
    np.testing.assert_allclose(no_corners(ours["hillshade"]), no_corners((theirs - 1) / 254), atol=1.5 / 255)


def test_ruggedness(backend, svalbard, gdaldem):
    _, dem, _ = svalbard
    theirs = gdaldem("TRI", "-alg", "Riley")
    window = {"terrain_ruggedness_index": 3}
    (values,) = oracle.run_kernels(backend, [*window], {"dem": dem}, settings=window).values()
    np.testing.assert_allclose(values[1:-1, 1:-1], theirs[1:-1, 1:-1], rtol=1e-4, atol=1e-3)
