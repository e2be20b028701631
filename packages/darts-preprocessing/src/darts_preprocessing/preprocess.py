"""A tile and its auxiliary data become a tile with features."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import xarray as xr
from darts_utils import DeviceLike, MissingBandError, ParameterError, resolve_device, step
from odc.geo.geobox import GeoBox

from darts_preprocessing.backends import Backend, Core, backend_for
from darts_preprocessing.grid import Length, check_metric_grid, get_geobox
from darts_preprocessing.north import get_north
from darts_preprocessing.reproject import reproject
from darts_preprocessing.terrain import add_variables, resolve_sun, to_radii

OPTICAL_FEATURES = ("ndvi",)
TCVIS_FEATURES = ("tc_brightness", "tc_greenness", "tc_wetness")
GRADIENT_FEATURES = ("slope", "aspect", "hillshade", "curvature")
DEM_FEATURES = ("dem", "arcticdem_data_mask", "relative_elevation", *GRADIENT_FEATURES)
FEATURES = (*OPTICAL_FEATURES, *TCVIS_FEATURES, *DEM_FEATURES)


def preprocess_v2(
    ds_optical: xr.Dataset,
    ds_arcticdem: xr.Dataset | None,
    ds_tcvis: xr.Dataset | None,
    tpi_outer_radius: Length = 100,
    tpi_inner_radius: Length = 0,
    device: DeviceLike = None,
    features: Collection[str] | None = None,
) -> xr.Dataset:
    """Add to a tile the features that the models see: vegetation index, land-change trend and terrain.

    Args:
        ds_optical: Tile with ``red`` and ``nir``, (y, x) float32 reflectance, NaN where there is none, on a grid
            projected in metres, north-up, with square cells; the sun in its attributes ``azimuth`` and ``elevation``.
        ds_arcticdem: ``dem``, (y, x) float32, metres, NaN where there is none, and ``arcticdem_data_mask``, uint8,
            1 where measured, in any CRS, with a margin around the tile as wide as `tpi_outer_radius`; or None.
        ds_tcvis: ``tc_brightness``, ``tc_greenness`` and ``tc_wetness``, (y, x) uint8, in any CRS; or None.
        tpi_outer_radius: Radius of the topographic position index: metres (100 or "100m") or cells ("10px").
        tpi_inner_radius: Likewise; above 0, the index is taken over a ring.
        device: "cuda", "cpu", "auto", a GPU index, or None for the GPU where one works, else the CPU.
        features: Names of the variables to compute. None means all that the given data allows.

    Returns:
        A new tile: the variables of `ds_optical` (the same arrays), and the features on its grid.

    Raises:
        MissingBandError: If a variable that a feature needs is absent.
        GridError: If a Dataset has no grid, or the tile's is not as described.
        ParameterError: If a radius is malformed, or a feature is unknown or needs data that is not given.

    Warns:
        SunAngleWarning: If the sun's angles are unknown; the hillshade then assumes 225° and 25°.
        DeviceFallbackWarning: If the GPU asked for does not work here.
    """
    wanted = _resolve_features(features, ds_arcticdem is not None, ds_tcvis is not None)
    geobox = get_geobox(ds_optical, "The tile")
    cell = check_metric_grid(geobox, "The tile")
    radii = to_radii(tpi_outer_radius, tpi_inner_radius, cell)
    _require(ds_optical, ("red", "nir") if "ndvi" in wanted else (), "ds_optical")
    _require(ds_tcvis, (name for name in TCVIS_FEATURES if name in wanted), "ds_tcvis")
    _require(ds_arcticdem, _dem_inputs(wanted), "ds_arcticdem")
    backend = backend_for(resolve_device(device, needs=("cupy",), install=_INSTALL, fallback=True))

    added: dict[str, Any] = {}
    if "ndvi" in wanted:
        with step("ndvi"):
            added["ndvi"] = backend.ndvi(
                backend.asarray(ds_optical["nir"].data), backend.asarray(ds_optical["red"].data)
            )
    if ds_tcvis is not None:
        added |= _trends(ds_tcvis, [name for name in TCVIS_FEATURES if name in wanted], geobox)
    if ds_arcticdem is not None:
        added |= _terrain(ds_arcticdem, ds_optical.attrs, geobox, radii, wanted, backend)
    return add_variables(ds_optical, {name: added[name] for name in FEATURES if name in added})


_INSTALL = 'pip install "darts-preprocessing[cuda12]" or "darts-preprocessing[cuda13]", as the driver has it'


def _resolve_features(features: Collection[str] | None, has_dem: bool, has_tcvis: bool) -> set[str]:
    possible = {*OPTICAL_FEATURES, *(TCVIS_FEATURES if has_tcvis else ()), *(DEM_FEATURES if has_dem else ())}
    if features is None:
        return possible
    wanted = {features} if isinstance(features, str) else set(features)
    if unknown := wanted - set(FEATURES):
        raise ParameterError(f"features names {sorted(unknown)}; known features: {', '.join(FEATURES)}.")
    if lacking := wanted - possible:
        source = "ds_arcticdem" if lacking & set(DEM_FEATURES) else "ds_tcvis"
        raise ParameterError(
            f"features names {sorted(lacking)}, but {source} is None; give it, or do not ask for them."
        )
    return wanted


def _dem_inputs(wanted: Collection[str]) -> Iterable[str]:
    if set(DEM_FEATURES) & set(wanted) - {"arcticdem_data_mask"}:
        yield "dem"
    if "arcticdem_data_mask" in wanted:
        yield "arcticdem_data_mask"


def _require(ds: xr.Dataset | None, names: Iterable[str], what: str) -> None:
    if ds is None:
        return
    if missing := [name for name in names if name not in ds]:
        raise MissingBandError(f"{what} lacks {', '.join(missing)}; it holds {', '.join(map(str, ds.data_vars))}.")


def _trends(ds: xr.Dataset, names: list[str], geobox: GeoBox) -> dict[str, Any]:
    if not names:
        return {}
    source = np.stack([np.asarray(ds[name].data, dtype=np.uint8) for name in names])
    with step("reproject TCVIS"):
        result = reproject(source, get_geobox(ds, "ds_tcvis"), geobox, "cubic")
    return dict(zip(names, result, strict=True))


def _terrain(
    ds: xr.Dataset, attrs: dict[Any, Any], geobox: GeoBox, radii: tuple[int, int], wanted: set[str], backend: Backend
) -> dict[str, Any]:
    source_grid = get_geobox(ds, "ds_arcticdem")
    added: dict[str, Any] = {}
    if "arcticdem_data_mask" in wanted:
        with step("reproject the ArcticDEM mask"):
            mask = np.asarray(ds["arcticdem_data_mask"].data).astype(np.uint8, copy=False)
            added["arcticdem_data_mask"] = reproject(mask, source_grid, geobox, "nearest")
    if not set(wanted) & set(DEM_FEATURES) - {"arcticdem_data_mask"}:
        return added
    margin = radii[0] if "relative_elevation" in wanted else 1
    with step("reproject ArcticDEM"):
        source = np.asarray(ds["dem"].data).astype(np.float32, copy=False)
        dem = reproject(source, source_grid, geobox.pad(margin), "cubic", np.nan)
    top, left = margin, margin
    core = Core(top, left, tuple(geobox.shape))
    dem = backend.asarray(dem)
    names = [name for name in GRADIENT_FEATURES if name in wanted]
    if names:
        shading = resolve_sun(attrs) if "hillshade" in names else None
        with step("slope, aspect, hillshade, curvature"):
            north = get_north(geobox)
            added |= backend.gradient_features(dem, core, float(geobox.resolution.x), names, shading, north)
    if "relative_elevation" in wanted:
        with step("relative_elevation"):
            added["relative_elevation"] = backend.relative_elevation(dem, core, *radii)
    if "dem" in wanted:
        rows, cols = core.shape
        added["dem"] = dem[top : top + rows, left : left + cols].copy()
    return added
