"""A tile and its auxiliary data become a tile with features."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_preprocessing.backends import TRIAL, Backend, Core, Shading, backend_for
from darts_preprocessing.grid import Length, check_dataset, check_metric_grid, get_array, get_geobox, pad, read_band
from darts_preprocessing.north import get_north
from darts_preprocessing.terrain import add_variables, describe_radii, resolve_sun, to_radii
from darts_preprocessing.warp import get_sampling
from darts_utils import DeviceLike, MissingBandError, ParameterError, resolve_device, step

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

OPTICAL_FEATURES = ("ndvi",)
TCVIS_FEATURES = ("tc_brightness", "tc_greenness", "tc_wetness")
GRADIENT_FEATURES = ("slope", "aspect", "hillshade", "curvature")
FROM_DEM = ("dem", "relative_elevation", *GRADIENT_FEATURES)
ARCTICDEM_FEATURES = ("arcticdem_data_mask", *FROM_DEM)
FEATURES = (*OPTICAL_FEATURES, *TCVIS_FEATURES, *ARCTICDEM_FEATURES)
"""Every variable that :func:`preprocess_v2` can compute."""


def preprocess_v2(
    ds_optical: xr.Dataset,
    ds_arcticdem: xr.Dataset | None,
    ds_tcvis: xr.Dataset | None,
    tpi_outer_radius: Length = 100,
    tpi_inner_radius: Length = 0,
    device: DeviceLike = None,
    features: Collection[str] | None = None,
    *,
    keep_on_device: bool = False,
) -> xr.Dataset:
    """Add to a tile the features that the models see: vegetation index, land-change trend and terrain.

    Auxiliary data is brought onto the tile's grid by cubic convolution, the mask by its nearest cell. Terrain features
    are computed on the tile's grid with a margin, so that the tile's rim is as good as its middle, where `ds_arcticdem`
    reaches that far.

    Args:
        ds_optical: Tile with ``red`` and ``nir``, (y, x) float32 reflectance, NaN where there is none, on a grid
            projected in metres, north-up, with square cells; the sun in its attributes ``azimuth`` and ``elevation``.
            Not changed.
        ds_arcticdem: ``dem``, (y, x) float32, metres, NaN where there is none, and ``arcticdem_data_mask``, uint8,
            1 where measured, in any CRS, with a margin around the tile as wide as `tpi_outer_radius`; or None.
        ds_tcvis: ``tc_brightness``, ``tc_greenness`` and ``tc_wetness``, (y, x) uint8, in any CRS; or None.
        tpi_outer_radius: Radius of the topographic position index: metres (100 or "100m") or cells ("10px").
        tpi_inner_radius: Likewise; above 0, the index is taken over a ring.
        device: "cuda", "cpu", "auto", a GPU index, or None for the GPU where one works, else the CPU.
        features: Names of the variables to compute. None means all that the given data allows.
        keep_on_device: Where the work is done on a GPU, leave every variable of the result there (cupy arrays).

    Returns:
        A new tile: the variables and the coordinates of `ds_optical`, and the features.

    Raises:
        InputTypeError: If an argument that should be a Dataset is something else.
        ValueRangeError: If reflectance or elevation cannot be in the unit of the band table.
        MissingBandError: If a variable that a feature needs is absent.
        GridError: If a Dataset has no grid, or the tile's is not as described.
        ParameterError: If a radius is malformed, or a feature is unknown or needs data that is not given.

    Warns:
        SunAngleWarning: If one of the sun's angles is unknown and needed; 225° or 25° then takes its place.
        DeviceFallbackWarning: If the GPU asked for does not work here; the CPU does the work.
        KernelCacheWarning: Once, if the compiled kernels of the CPU cannot be kept on disk.
    """
    wanted = _resolve_features(features, ds_arcticdem is not None, ds_tcvis is not None)
    for given in (ds_optical, ds_arcticdem, ds_tcvis):
        if given is not None:
            check_dataset(given)
    geobox = get_geobox(ds_optical, "The tile")
    cell = check_metric_grid(geobox, "The tile")
    radii = to_radii(tpi_outer_radius, tpi_inner_radius, cell)
    _require(ds_optical, ("red", "nir") if "ndvi" in wanted else (), "ds_optical")
    _require(ds_tcvis, wanted & set(TCVIS_FEATURES), "ds_tcvis")
    _require(ds_arcticdem, _arcticdem_inputs(wanted), "ds_arcticdem")
    shading = resolve_sun(ds_optical.attrs) if "hillshade" in wanted else None
    chosen = resolve_device(device, trial=TRIAL, work="features are computed", fallback=True)
    backend, stays = backend_for(chosen, wanted), keep_on_device and chosen.type == "cuda"

    added: dict[str, Any] = {}
    with backend.active():
        if "ndvi" in wanted:
            with step("ndvi"):
                nir, red = (read_band(ds_optical, name, backend) for name in ("nir", "red"))
                added["ndvi"] = backend.ndvi(nir, red)
                del nir, red
        if ds_tcvis is not None and wanted & set(TCVIS_FEATURES):
            with step("resample TCVIS"):
                added |= _trends(ds_tcvis, [name for name in TCVIS_FEATURES if name in wanted], geobox, backend)
        if ds_arcticdem is not None and "arcticdem_data_mask" in wanted:
            with step("resample the mask of ArcticDEM"):
                added["arcticdem_data_mask"] = _mask(ds_arcticdem, geobox, backend)
        if ds_arcticdem is not None and wanted & set(FROM_DEM):
            added |= _terrain(ds_arcticdem, geobox, radii, shading, wanted, backend)
        if not stays:
            added = {name: backend.to_host(array) for name, array in added.items()}
        about = _sources(ds_tcvis) | _sources(ds_arcticdem) | {"relative_elevation": describe_radii(radii, cell)}
        tile = add_variables(ds_optical, {name: added[name] for name in FEATURES if name in added}, about)
        return _moved(tile, backend) if stays else tile


def _resolve_features(features: Collection[str] | None, has_dem: bool, has_tcvis: bool) -> set[str]:
    possible = {*OPTICAL_FEATURES, *(TCVIS_FEATURES if has_tcvis else ()), *(ARCTICDEM_FEATURES if has_dem else ())}
    if features is None:
        return possible
    wanted = {features} if isinstance(features, str) else set(features)
    if unknown := wanted - set(FEATURES):
        raise ParameterError(f"features names {', '.join(sorted(unknown))}; known features: {', '.join(FEATURES)}.")
    if lacking := wanted - possible:
        source = "ds_arcticdem" if lacking & set(ARCTICDEM_FEATURES) else "ds_tcvis"
        raise ParameterError(
            f"features names {', '.join(sorted(lacking))}, but {source} is None; give it, or do not ask for them."
        )
    return wanted


def _arcticdem_inputs(wanted: set[str]) -> Iterable[str]:
    if wanted & set(FROM_DEM):
        yield "dem"
    if "arcticdem_data_mask" in wanted:
        yield "arcticdem_data_mask"


def _require(ds: xr.Dataset | None, names: Iterable[str], what: str) -> None:
    if ds is not None and (missing := sorted(name for name in names if name not in ds)):
        raise MissingBandError(f"{what} lacks {', '.join(missing)}; it holds {', '.join(map(str, ds.data_vars))}.")


def _sources(ds: xr.Dataset | None) -> dict[str, dict[str, Any]]:
    """Return the attribute ``data_source`` of each variable that has one."""
    if ds is None:
        return {}
    attribute = "data_source"
    return {str(name): {attribute: ds[name].attrs[attribute]} for name in ds.data_vars if attribute in ds[name].attrs}


def _moved(tile: xr.Dataset, backend: Backend) -> xr.Dataset:
    return tile.assign(
        {
            name: variable.copy(data=backend.asarray(variable.data))
            for name, variable in tile.variables.items()
            if name in tile.data_vars
        }
    )


def _trends(ds: xr.Dataset, names: list[str], geobox: GeoBox, backend: Backend) -> dict[str, Any]:
    source = backend.asarray(np.stack([np.asarray(get_array(ds, name)) for name in names]), np.uint8)
    sampling = get_sampling(geobox, get_geobox(ds, "ds_tcvis"), cubic=True)
    return dict(zip(names, backend.resample(source, sampling), strict=True))


def _mask(ds: xr.Dataset, geobox: GeoBox, backend: Backend) -> Any:
    source = backend.asarray(get_array(ds, "arcticdem_data_mask"), np.uint8)
    sampling = get_sampling(geobox, get_geobox(ds, "ds_arcticdem"), cubic=False)
    return backend.resample(source[None], sampling)[0]


def _terrain(
    ds: xr.Dataset,
    geobox: GeoBox,
    radii: tuple[int, int],
    shading: Shading | None,
    wanted: set[str],
    backend: Backend,
) -> dict[str, Any]:
    margin = radii[0] if "relative_elevation" in wanted else 1
    with step("resample ArcticDEM"):
        dem = _resample_dem(ds, pad(geobox, margin), backend)
    dem, core = _trim(dem, margin, backend)
    names = [name for name in GRADIENT_FEATURES if name in wanted]
    added: dict[str, Any] = {}
    if names:
        with step("slope, aspect, hillshade, curvature"):
            north = get_north(geobox) if {"aspect", "hillshade"} & set(names) else None
            added |= backend.gradient_features(dem, core, abs(geobox.resolution.x), names, shading, north)
    if "relative_elevation" in wanted:
        with step("relative_elevation"):
            added["relative_elevation"] = backend.relative_elevation(dem, core, *radii)
    if "dem" in wanted:
        added["dem"] = dem[core.top : core.top + core.shape[0], core.left : core.left + core.shape[1]].copy()
    return added


def _resample_dem(ds: xr.Dataset, geobox: GeoBox, backend: Backend) -> Any:
    source = read_band(ds, "dem", backend)
    sampling = get_sampling(geobox, get_geobox(ds, "ds_arcticdem"), cubic=True)
    return backend.resample(source[None], sampling)[0]


def _trim(dem: Any, margin: int, backend: Backend) -> tuple[Any, Core]:
    """Cut off the rows and columns of the margin that hold no elevation, and say where the tile then lies.

    What lies beyond is then the rim of the DEM, where features use the cells there are, rather than a hole in it.
    """
    rows, cols = (size - 2 * margin for size in dem.shape)
    top, bottom, left, right = 0, dem.shape[0], 0, dem.shape[1]
    while top < margin and not _has_value(dem[top]):
        top += 1
    while bottom > margin + rows and not _has_value(dem[bottom - 1]):
        bottom -= 1
    while left < margin and not _has_value(dem[:, left]):
        left += 1
    while right > margin + cols and not _has_value(dem[:, right - 1]):
        right -= 1
    return backend.asarray(dem[top:bottom, left:right]), Core(margin - top, margin - left, (rows, cols))


def _has_value(cells: Any) -> bool:
    return bool((cells == cells).any())
