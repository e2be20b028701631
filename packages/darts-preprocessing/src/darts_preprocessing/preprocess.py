"""A tile and its auxiliary data become a tile with features."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from darts_preprocessing.backends import TRIAL, Backend, Interior, backend_for
from darts_preprocessing.backends.interface import Array
from darts_preprocessing.compute import add_variables, compute, prepare
from darts_preprocessing.errors import ShortMarginWarning
from darts_preprocessing.feature import Feature, Inputs, Request
from darts_preprocessing.grid import (
    Length,
    check_metric_grid,
    get_geobox,
    pad,
    read_band,
    read_classes,
    to_radii,
)
from darts_preprocessing.north import get_north
from darts_preprocessing.registry import Needs, default_features, find_features, needs_of
from darts_preprocessing.warp import check_overlap, get_sampling, reaches_beyond
from darts_utils import (
    Device,
    DeviceLike,
    MissingBandError,
    ParameterError,
    check_dataset,
    check_north_up,
    resolve_device,
    step,
    within_gpu_memory,
)

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

_WORK = "features are computed"


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
    are computed on the tile's grid with a margin, so that the tile's border is as good as its middle, where
    `ds_arcticdem` reaches that far.

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
        features: Names of the variables to compute: those in :data:`FEATURES`, and indices of spyndex in lower case.
            None means the variables of the data model that the given data allows.
        keep_on_device: Where the work is done on a GPU, leave every variable of the result there (cupy arrays).

    Returns:
        A new tile: the variables and the coordinates of `ds_optical`, and the features.

    Raises:
        InputTypeError: If an argument that should be a Dataset is something else.
        ValueRangeError: If reflectance or elevation cannot be in the unit of the band table, or declares another one,
            or a layer of whole numbers holds what uint8 does not.
        MissingBandError: If a variable that a feature needs is absent.
        GridError: If a Dataset has no grid, the tile's is not as described, or auxiliary data lies elsewhere.
        ParameterError: If a radius is malformed, an angle of the sun cannot be one, or a feature is unknown or needs
            data that is not given.

    Warns:
        SunAngleWarning: If one of the sun's angles is unknown and needed; 225° or 25° then takes its place.
        DeviceFallbackWarning: If the GPU asked for does not work here; the CPU does the work.
        ShortMarginWarning: If `ds_arcticdem` ends before a feature has what it looks at around the tile.
        KernelCacheWarning: Once, if the compiled kernels of the CPU cannot be kept on disk.
    """
    auxiliary = {source: ds for source, ds in (("arcticdem", ds_arcticdem), ("tcvis", ds_tcvis)) if ds is not None}
    wanted = _resolve_features(features, set(auxiliary))
    needs = needs_of(wanted.values())
    for given in (ds_optical, *auxiliary.values()):
        check_dataset(given)
    geobox = get_geobox(ds_optical, "The tile")
    check_north_up(ds_optical, "The tile")
    cell = check_metric_grid(geobox, "The tile")
    to_radii(tpi_outer_radius, tpi_inner_radius, cell)
    _require(ds_optical, needs.bands, "ds_optical")
    for source, ds in auxiliary.items():
        _require(ds, [each.name for each in needs.resampled if each.auxiliary == source], f"ds_{source}")
        if any(each.auxiliary == source for each in needs.resampled):
            check_overlap(geobox, get_geobox(ds, f"ds_{source}"), f"ds_{source}")
    request = Request(ds_optical.attrs, {"outer_radius": tpi_outer_radius, "inner_radius": tpi_inner_radius}, cell)
    settings = prepare(needs, request)
    if "dem" in needs.features:
        _check_margin(geobox, get_geobox(auxiliary["arcticdem"], "ds_arcticdem"), needs, request)

    def compute_on(chosen: Device) -> xr.Dataset:
        backend = backend_for(chosen, needs.every_kernel)
        with backend.active():
            added = _features(wanted, ds_optical, auxiliary, geobox, needs, request, settings, backend)
            sources = {name: attrs for ds in auxiliary.values() for name, attrs in _sources(ds).items()}
            stays = keep_on_device and chosen.type == "cuda"
            added = added if stays else {name: backend.to_host(values) for name, values in added.items()}
            tile = add_variables(ds_optical, added, needs, request, settings, sources)
            return _moved(tile, backend) if stays else tile

    chosen = resolve_device(device, trial=TRIAL, work=_WORK, fallback=True)
    return within_gpu_memory(chosen, compute_on, _WORK)


def _check_margin(geobox: GeoBox, source: GeoBox, needs: Needs, request: Request) -> None:
    """Warn where elevations end before features have what they look at; those that are missing there are no reason."""
    reach = {name: each.reach(request) for name, each in needs.features.items()}
    short = {name: cells for name, cells in reach.items() if cells and not reaches_beyond(geobox, source, cells)}
    if short:
        cells = max(short.values())
        warnings.warn(
            f"ds_arcticdem ends less than {cells * request.cell:g} m ({cells} cells) from the tile; near that border "
            f"{', '.join(short)} come from the elevations that there are. Load it with a margin that wide.",
            ShortMarginWarning,
            stacklevel=3,
        )


def _features(
    wanted: Collection[str],
    ds_optical: xr.Dataset,
    auxiliary: Mapping[str, xr.Dataset],
    geobox: GeoBox,
    needs: Needs,
    request: Request,
    settings: Mapping[str, object],
    backend: Backend,
) -> dict[str, Array]:
    """Return the wanted features by name, where the backend computes."""
    arrays = {band: read_band(ds_optical, band, backend) for band in needs.bands}
    interior = Interior.whole((geobox.shape.y, geobox.shape.x))
    for source, names, is_cubic in _layers(needs):
        with step(f"resample {', '.join(names)}"):
            arrays |= _resample(auxiliary[source], f"ds_{source}", names, geobox, backend, is_cubic=is_cubic)
    if "dem" in needs.features:
        margin = max(1, needs.margin(request))
        with step("resample dem"):
            dem = _resample_dem(auxiliary["arcticdem"], pad(geobox, margin), backend)
        arrays["dem"], interior = _trim(dem, margin, backend)
    inputs = Inputs(backend.xp, arrays, interior, request.cell, settings, partial(get_north, geobox))
    added = arrays | compute(needs, inputs, backend)
    if "dem" in wanted:
        added["dem"] = interior.cut(added["dem"]).copy()
    return {name: added[name] for name in wanted}


def _resolve_features(features: Collection[str] | None, given: set[str]) -> dict[str, Feature]:
    """Return what to compute, by name, in the order of the registry.

    Raises:
        ParameterError: If a feature is unknown or needs data that is not given.
    """
    if features is None:
        defaults = default_features()
        return {name: each for name, each in defaults.items() if needs_of([each]).auxiliary <= given}
    wanted = find_features(features)
    lacking = {name: needs_of([each]).auxiliary - given for name, each in wanted.items()}
    if names := sorted(name for name, sources in lacking.items() if sources):
        source = min(lacking[names[0]])
        raise ParameterError(
            f"features names {', '.join(names)}, but ds_{source} is None; give it, or do not ask for them."
        )
    return wanted


def _require(ds: xr.Dataset, names: Iterable[str], what: str) -> None:
    if missing := sorted(name for name in names if name not in ds):
        raise MissingBandError(f"{what} lacks {', '.join(missing)}; it holds {', '.join(map(str, ds.data_vars))}.")


def _layers(needs: Needs) -> Iterator[tuple[str, list[str], bool]]:
    """Yield what is resampled to the tile's very grid: from which data, the names of the variables, and how."""
    layers = [each for each in needs.resampled if each.name != "dem"]
    for source, is_cubic in dict.fromkeys((str(each.auxiliary), each.is_cubic) for each in layers):
        yield source, [each.name for each in layers if (each.auxiliary, each.is_cubic) == (source, is_cubic)], is_cubic


def _sources(ds: xr.Dataset) -> dict[str, dict[str, object]]:
    """Return the attribute ``data_source`` of each variable that has one."""
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


def _resample(
    ds: xr.Dataset, what: str, names: list[str], geobox: GeoBox, backend: Backend, *, is_cubic: bool
) -> dict[str, Array]:
    """Bring layers of uint8 onto a grid."""
    source = backend.xp.stack([read_classes(ds, name, backend) for name in names])
    sampling = get_sampling(geobox, get_geobox(ds, what), cubic=is_cubic)
    return dict(zip(names, backend.resample(source, sampling), strict=True))


def _resample_dem(ds: xr.Dataset, geobox: GeoBox, backend: Backend) -> Array:
    source = read_band(ds, "dem", backend)
    sampling = get_sampling(geobox, get_geobox(ds, "ds_arcticdem"), cubic=True)
    return backend.resample(source[None], sampling)[0]


def _trim(dem: Array, margin: int, backend: Backend) -> tuple[Array, Interior]:
    """Cut off the rows and columns of the margin that hold no elevation, and say where the tile then lies.

    What lies beyond is then the border of the DEM, where features use the cells there are, rather than a hole in it.
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
    return backend.asarray(dem[top:bottom, left:right]), Interior(margin - top, margin - left, (rows, cols))


def _has_value(cells: Array) -> bool:
    return bool((cells == cells).any())
