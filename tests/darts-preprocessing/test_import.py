"""Importing the package costs little and brings nothing heavy; the first call brings what it needs."""

import subprocess
import sys

HEAVY = ("numba", "scipy", "xarray", "pandas", "odc", "pyproj", "rasterio", "spyndex", "torch", "cupy")


def _loaded_after(code):
    command = f"{code}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=300)
    return set(done.stdout.split())


def test_import_is_light():
    assert _loaded_after("import darts_preprocessing") == set()


def test_ndvi_needs_no_torch_and_no_spyndex():
    code = (
        "import numpy as np, xarray as xr, darts_preprocessing as dp\n"
        "ds = xr.Dataset({n: (('y', 'x'), np.ones((2, 2), 'f4')) for n in ('red', 'nir')})\n"
        "assert (dp.calculate_ndvi(ds).ndvi == 0).all()"
    )
    loaded = _loaded_after(code)
    assert "numba" in loaded
    assert not loaded & {"torch", "spyndex", "rasterio", "cupy"}
