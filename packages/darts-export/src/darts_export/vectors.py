"""Tables of objects and of the reliable area, with their polygons."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darts_export.context import TileContext
from darts_export.layers import check_shares
from darts_export.object_statistics import object_means, object_statistics
from darts_export.places import InnerPoints, find_inner_points, ground_area, object_uids, touches_edge
from darts_export.products import MEANS
from darts_utils import step
from darts_utils.objects import Objects
from darts_utils.outlines import object_polygons

STATISTICS_UNIT = {"darts:statistics_unit": "1"}
"""Says in the files that statistics of probabilities are shares, 0…1; the original DARTS writes percent."""

_ROWS = 10_000
"""Objects of one table: 2.5 kB of memory each, and no faster with more."""


def objects_frames(
    objects: Objects,
    probabilities: NDArray,
    context: TileContext,
    model: str | None,
    *,
    extent: NDArray | None = None,
    features: Mapping[str, NDArray] = MappingProxyType({}),
) -> Iterator[gpd.GeoDataFrame]:
    """Make the table of objects, some rows at a time: one row per 8-connected object.

    Args:
        objects: The objects.
        probabilities: Array (y, x), float, 0…1, NaN where unknown, of the same layer as the objects. Not changed.
        context: What the columns that are equal in all rows come from.
        model: Member of the ensemble, None for the ensemble as a whole.
        extent: Array (y, x), above 0 where results are reliable; None where all of the tile is. Not changed.
        features: Arrays (y, x), float, NaN where unknown, by name; those of `MEANS` become means. Not changed.

    Yields:
        Parts of the table, at least one, in the order in which the raster meets the objects, with the tile's CRS; the
        schema does not depend on the number of objects.
    """
    if not objects.count:
        yield _objects_frame(objects, 0, probabilities, context, model, extent, features)
    for number, group in enumerate(objects.groups(_ROWS)):
        yield _objects_frame(group, number * _ROWS, probabilities, context, model, extent, features)


def _objects_frame(
    objects: Objects,
    before: int,
    probabilities: NDArray,
    context: TileContext,
    model: str | None,
    extent: NDArray | None,
    features: Mapping[str, NDArray],
) -> gpd.GeoDataFrame:
    with step("object statistics"):
        statistics = object_statistics(objects, probabilities)
        name = "probabilities" if model is None else f"probabilities-{model}"
        check_shares(np.fmin.reduce(statistics.min, initial=0), np.fmax.reduce(statistics.max, initial=0), name)
        means = {f"mean_{name}": object_means(objects, features[name]) for name in MEANS if name in features}
    with step("places of objects"):
        inner = find_inner_points(objects, context)
    columns: dict[str, NDArray] = {
        "Region_ID": np.arange(before + 1, before + objects.count + 1, dtype=np.int32),
        "min": statistics.min,
        "max": statistics.max,
        "mean": statistics.mean,
        "median": statistics.median,
        "std": statistics.std,
        "npixel": objects.pixels,
        "area_m2": _areas(objects, inner, context),
        "lon": inner.lon,
        "lat": inner.lat,
        "touches_edge": touches_edge(objects, extent),
        **means,
    }
    frame = _frame(columns, objects, context, model)
    # Lengths change by the root of what areas change by: exactly where the projection is conformal.
    outline = frame.geometry.length.to_numpy(np.float64) / np.sqrt(inner.areal_scale)
    frame.insert(frame.columns.get_loc("area_m2") + 1, "perimeter_m", outline)
    frame.insert(0, "object_uid", _texts(object_uids(inner, context, model)))
    frame.attrs.update(STATISTICS_UNIT)
    return frame


def object_areas(objects: Objects, context: TileContext) -> NDArray[np.float64]:
    """Return the area of each object on the ellipsoid in m², (count,) float64.

    Its number of pixels × the area of a pixel on the grid ÷ the areal scale of the projection at a point of the object.
    """
    return _areas(objects, find_inner_points(objects, context), context)


def _areas(objects: Objects, inner: InnerPoints, context: TileContext) -> NDArray[np.float64]:
    return objects.pixels * context.pixel_area / inner.areal_scale


def extent_frame(extent: Objects, context: TileContext) -> gpd.GeoDataFrame:
    """Make the table of the reliable area: one row, or none where nothing is reliable.

    Args:
        extent: Objects of the mask of the reliable area.
        context: What the other columns come from.

    Returns:
        The table; its one MultiPolygon holds all parts.
    """
    whole = Objects(**(vars(extent) | {"label": np.zeros_like(extent.label), "count": min(extent.count, 1)}))
    area = np.full(whole.count, ground_area(extent, context))
    columns = {"npixel": whole.pixels, "area_m2": area}
    return _frame(columns, whole, context, None)


def layer_name(tile_id: str) -> str:
    """Return what the layer of a tile in a GeoPackage is called: like the tile, so that programs tell tiles apart.

    Names that SQLite or the format keep for themselves get a word before them.

    Examples:
        >>> layer_name("20210821_210019_08_2405"), layer_name("gpkg 1")
        ('20210821_210019_08_2405', 'tile gpkg 1')
    """
    taken = tile_id.casefold().startswith(("gpkg", "rtree_", "sqlite_", "layer_styles"))
    return f"tile {tile_id}" if taken else tile_id


def _frame(columns: dict[str, NDArray], objects: Objects, context: TileContext, model: str | None) -> gpd.GeoDataFrame:
    with step("outlines"):
        polygons = object_polygons(objects, context.transform)
    count = objects.count
    timestamp = np.datetime64(None if context.time is None else context.time.replace(tzinfo=None), "ms")
    constant = {
        "tile_id": _text(context.tile_id, count),
        "source": _text(context.source, count),
        "acquisition_time": pd.DatetimeIndex(np.full(count, timestamp), tz="UTC"),
        "model_names": _text(context.model_names(model), count),
    }
    return gpd.GeoDataFrame(columns | constant, geometry=polygons, crs=context.wkt)


def _text(value: str, count: int) -> pd.api.extensions.ExtensionArray:
    return _texts([value] * count)


def _texts(values: Sequence[str] | NDArray) -> pd.api.extensions.ExtensionArray:
    # A dtype of its own, since an empty column of objects would have none in the files.
    return pd.array(values, dtype="string")
