"""Show where data lie, and what this machine has."""

import os
import platform
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import typer

import darts_utils
from darts.cli.tables import print_table
from darts.run.checks import cube_note
from darts.run.fingerprint import STAGE_PACKAGES
from darts.run.trends import last_year
from darts_acquisition import TRENDS
from darts_segmentation.device import try_torch

_PACKAGES = (
    *("darts-nextgen", *STAGE_PACKAGES, "darts-evaluation", "darts-training", "darts-dataset", "darts-demo"),
    *("torch", "segmentation-models-pytorch", "openvino", "xarray", "rasterio", "pyproj", "geopandas", "icechunk"),
    *("zarr", "numpy", "dask", "distributed", "dask-jobqueue"),
)


def show_paths() -> None:
    """Print the default folders and whether they exist, and after them what lies where an earlier release put it."""
    defaults = darts_utils.DefaultPaths()
    with warnings.catch_warnings(record=True) as moved:
        warnings.simplefilter("always", darts_utils.MovedFolderWarning)
        folders = _folders(defaults)
    rows = ((what, where, "yes" if os.path.exists(str(where)) else "no") for what, where in folders.items())  # noqa: PTH110
    print_table(rows, "what", "where", "there")
    cubes = [defaults.find_arcticdem(2), defaults.find_arcticdem(10)]
    cubes += [defaults.find_tctrend(last_year(trend)) for trend in TRENDS]
    notes = [str(warning.message) for warning in moved] + [cube_note(cube.path) for cube in cubes if cube.original]
    for note in notes:
        typer.echo(note)


def _folders(defaults: darts_utils.DefaultPaths) -> dict[str, object]:
    return {
        "darts folder": defaults.darts_dir,
        "fast folder": defaults.fast_dir,
        "large folder": defaults.large_dir,
        "models": defaults.models,
        "training": defaults.training,
        "PlanetScope orthotiles": defaults.planet_orthotiles,
        "PlanetScope scenes": defaults.planet_scenes,
        "Sentinel-2 scenes, Copernicus": defaults.sentinel2_raw("cdse"),
        "Sentinel-2 mosaics, Copernicus": defaults.sentinel2_raw("cdse-mosaic"),
        "Sentinel-2 scenes, Earth Engine": defaults.sentinel2_raw("gee"),
        "Sentinel-2 grid": defaults.sentinel2_grid,
        "ArcticDEM, 2 m": defaults.arcticdem(2),
        "ArcticDEM, 10 m": defaults.arcticdem(10),
        **{f"TCVIS, {trend}": defaults.tctrend(last_year(trend)) for trend in TRENDS},
        "results, PlanetScope": defaults.results("planet"),
        "results, Sentinel-2, Copernicus": defaults.results("sentinel2-cdse"),
        "results, Sentinel-2 mosaics": defaults.results("sentinel2-cdse-mosaic"),
        "results, Sentinel-2, Earth Engine": defaults.results("sentinel2-gee"),
        "cache": defaults.cache,
        "logs": defaults.logs,
        "archive": defaults.archive,
    }


def show_environment() -> None:
    """Print versions, processor, memory, and whether a GPU can be used."""
    rows = {"Python": f"{platform.python_version()} on {platform.platform()}"}
    rows |= {name: _version(name) for name in _PACKAGES}
    from rasterio import __gdal_version__  # which `darts paths` does without

    rows["GDAL (in rasterio)"] = __gdal_version__
    rows["CPU cores"] = f"{darts_utils.usable_cpus()} usable of {os.cpu_count()}"  # noqa: TID251
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows["memory"] = f"{darts_utils.available_memory() / 2**30:.1f} GiB usable of {memory / 2**30:.1f} GiB"
    rows["GPU for networks"] = _gpu(try_torch)
    rows["GPU for features and objects"] = _gpu(
        darts_utils.try_cupy('pip install "darts-nextgen[cuda12]", or [cuda13]')
    )
    print_table(rows.items(), "what", "value")


def _gpu(trial: Callable[[darts_utils.Device], str]) -> str:
    """Return the GPU on which something was computed just now, or why there is none."""
    try:
        device = darts_utils.resolve_device("cuda", trial=trial)
    except darts_utils.DeviceError as error:
        reason = str(error).removeprefix("Device cuda:0 was asked for, but ")
        return "none: " + reason.removesuffix(" Choose another device, or 'cpu'.")
    return str(device)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
