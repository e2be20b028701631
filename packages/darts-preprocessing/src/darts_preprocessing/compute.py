"""Features computed from what they need: for a whole Dataset, or for a tile within a DEM that has a margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from darts_preprocessing.backends import Backend, Interior, backend_of
from darts_preprocessing.backends.interface import Array
from darts_preprocessing.feature import Feature, Inputs, Request
from darts_preprocessing.grid import check_metric_grid, get_geobox, read_band
from darts_preprocessing.north import get_north
from darts_preprocessing.registry import FEATURES, Needs, needs_of
from darts_utils import MissingBandError, check_dataset, check_north_up, spatial_dims, step

if TYPE_CHECKING:
    import xarray as xr


def calculate(wanted: str | Feature, ds: xr.Dataset, **options: object) -> xr.Dataset:
    """Add a feature to a Dataset that holds what it needs.

    Args:
        wanted: The feature, or its name.
        ds: Dataset with the bands, and the variables of auxiliary data, that the feature is computed from; with ``dem``
            on a grid projected in metres, north-up, with square cells. Not changed.
        **options: What the feature's settings are made of.

    Returns:
        A new Dataset with the feature, (y, x), besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        MissingBandError: If it lacks what the feature needs.
        ValueRangeError: If a band holds values that cannot be in its unit.
        GridError: If the grid is not as described.
        ParameterError: If an option is malformed.
    """
    check_dataset(ds)
    feature = FEATURES[wanted] if isinstance(wanted, str) else wanted
    needs, name = needs_of([feature]), feature.name
    if missing := [band for band in needs.given if band not in ds]:
        raise MissingBandError(
            f"{name} needs {', '.join(missing)}; the Dataset holds {', '.join(map(str, ds.data_vars)) or 'nothing'}."
        )
    geobox = get_geobox(ds, "The Dataset") if "dem" in needs.given else None
    if geobox is not None:
        check_north_up(ds, "The Dataset")
    cell = float("nan") if geobox is None else check_metric_grid(geobox, "The Dataset")
    request = Request(ds.attrs, options, cell)
    settings = prepare(needs, request)
    backend = backend_of(ds[needs.given[0]].data, needs.kernels)
    with backend.active():
        arrays = {band: read_band(ds, band, backend) for band in needs.given}
        interior = Interior.whole(arrays[needs.given[0]].shape)
        north = None if geobox is None else partial(get_north, geobox)
        values = compute(needs, Inputs(backend.xp, arrays, interior, cell, settings, north), backend)
    return add_variables(ds, {name: values[name]}, needs, request, settings)


def prepare(needs: Needs, request: Request) -> dict[str, object]:
    """Return the settings of each feature.

    Raises:
        ParameterError: If an option is malformed.
    """
    settings = {}
    for name, feature in needs.features.items():
        settings[name] = None if feature.prepare is None else feature.prepare(request)
    return settings


def compute(needs: Needs, inputs: Inputs, backend: Backend) -> dict[str, Array]:
    """Compute features, those with the same kernels in one pass.

    Args:
        needs: What to compute.
        inputs: What that is computed from; what is resampled is among its arrays.
        backend: Where they lie.

    Returns:
        (y, x) arrays of the interior's shape by name: what `needs` names and `inputs` does not hold.
    """
    arrays = dict(inputs.arrays)
    computed: dict[str, Array] = {}
    pending = [feature for name, feature in needs.features.items() if name not in arrays]
    while pending:
        kernels = pending[0].kernels
        if kernels is None:
            raise TypeError(f"The feature {pending[0].name} has no kernels.")
        group = [each.name for each in pending if each.kernels is kernels and arrays.keys() >= set(each.needs)]
        with step(", ".join(group)):
            values = backend.run(kernels, replace(inputs, arrays=arrays), group)
        arrays |= values
        computed |= values
        pending = [each for each in pending if each.name not in arrays]
    return computed


def add_variables(
    ds: xr.Dataset,
    values: Mapping[str, Array],
    needs: Needs,
    request: Request,
    settings: Mapping[str, object],
    sources: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> xr.Dataset:
    """Return the Dataset with features on its own grid; their attributes are those of their bands.

    Args:
        ds: The Dataset.
        values: (y, x) arrays by name.
        needs: Holds the features.
        request: What the features were asked for with.
        settings: What that was made of, by name.
        sources: More attributes, by name.
    """
    import xarray as xr

    added = {}
    for name, array in values.items():
        feature = needs.features[name]
        described = {} if feature.describe is None else feature.describe(request, settings[name])
        attrs = {**feature.band.attrs, **sources.get(name, {}), **described}
        added[name] = xr.Variable(spatial_dims(ds), array, attrs, encoding={"grid_mapping": "spatial_ref"})
    return ds.assign(added)
