"""Importing the package costs next to nothing."""

import subprocess
import sys

import darts_acquisition

HEAVY = ("icechunk", "odc", "pandas", "pyproj", "rasterio", "rioxarray", "shapely", "xarray", "zarr")


def test_import_brings_no_heavy_library():
    script = f"import sys, darts_acquisition; print(sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_public_names_are_sorted_and_there():
    names = darts_acquisition.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name))  # constants first, as ruff has it
    assert all(getattr(darts_acquisition, name).__doc__ for name in names)


CLOUD = ("boto3", "botocore", "ee", "google", "httplib2", "icechunk", "odc.stac", "pystac", "pystac_client", "requests")


def test_a_planet_scene_is_loaded_without_cloud_libraries(delivery):
    folder = delivery().complete().folder
    script = (
        "import sys; sys.modules['boto3'] = None; "  # rasterio loads it where somebody has installed it
        "from darts_acquisition import load_planet_scene, load_planet_masks; "
        f"load_planet_masks({str(folder)!r}, load_planet_scene({str(folder)!r})); "
        f"print([name for name in {CLOUD} if sys.modules.get(name)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
