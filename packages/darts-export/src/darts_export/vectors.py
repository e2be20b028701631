"""Polygons of objects and of the reliable area, as GeoPackage and GeoParquet."""

import io
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_export.context import TileContext
from darts_export.object_statistics import object_means, object_statistics
from darts_export.places import Places, find_places, ground_area, object_uids, touches_edge
from darts_export.products import MEANS
from darts_export.styles import STYLE_TABLE, style_row
from darts_utils import step
from darts_utils.geopackage import write_geopackage
from darts_utils.objects import Objects
from darts_utils.outlines import object_polygons

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

STATISTICS_UNIT = {"darts:statistics_unit": "1"}
"""Says in the files that statistics of probabilities are shares, 0…1; the original DARTS writes percent."""

_TRACED_AT_A_TIME = 30_000
"""Objects whose outlines are traced together: 2.5 kB of memory each, and no faster with more."""


def objects_frame(
    objects: Objects,
    probabilities: NDArray[Any],
    context: TileContext,
    model: str | None,
    *,
    extent: NDArray[Any] | None = None,
    features: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> "gpd.GeoDataFrame":
    """Make the table of objects: one row per 8-connected object.

    Args:
        objects: The objects.
        probabilities: Array (y, x), float, 0…1, NaN where unknown, of the same layer as the objects. Not changed.
        context: What the columns that are equal in all rows come from.
        model: Member of the ensemble, None for the ensemble as a whole.
        extent: Array (y, x), above 0 where results are reliable; None where all of the tile is. Not changed.
        features: Arrays (y, x), float, NaN where unknown, by name; those of `MEANS` become means. Not changed.

    Returns:
        The table, in the order in which the raster meets the objects, with the tile's CRS; its schema does not depend
        on the number of objects.
    """
    with step("object statistics"):
        statistics = object_statistics(objects, probabilities)
        means = {f"mean_{name}": object_means(objects, features[name]) for name in MEANS if name in features}
    with step("places of objects"):
        places = find_places(objects, context)
    columns: dict[str, NDArray[Any]] = {
        "Region_ID": np.arange(1, objects.count + 1, dtype=np.int32),
        "min": statistics.min,
        "max": statistics.max,
        "mean": statistics.mean,
        "median": statistics.median,
        "std": statistics.std,
        "npixel": objects.pixels,
        "area_m2": _areas(objects, places, context),
        "lon": places.lon,
        "lat": places.lat,
        "touches_edge": touches_edge(objects, extent),
        **means,
    }
    frame = _frame(columns, objects, context, model)
    # Lengths change by the root of what areas change by: exactly where the projection is conformal.
    outline = frame.geometry.length.to_numpy(np.float64) / np.sqrt(places.areal_scale)
    frame.insert(frame.columns.get_loc("area_m2") + 1, "perimeter_m", outline)
    frame.insert(0, "object_uid", _texts(object_uids(places, context, model)))
    frame.attrs.update(STATISTICS_UNIT)
    return frame


def object_areas(objects: Objects, context: TileContext) -> NDArray[np.float64]:
    """Return the area of each object on the ellipsoid in m², (count,) float64.

    Its number of pixels × the area of a pixel on the grid ÷ the areal scale of the projection at a point of the object.
    """
    return _areas(objects, find_places(objects, context), context)


def _areas(objects: Objects, places: Places, context: TileContext) -> NDArray[np.float64]:
    return objects.pixels * context.pixel_area / places.areal_scale


def extent_frame(extent: Objects, context: TileContext) -> "gpd.GeoDataFrame":
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


def write_vectors(frame: "gpd.GeoDataFrame", geopackage: Path, parquet: Path, style: str, layer: str) -> None:
    """Write a table as GeoPackage, with a default style for QGIS, and as GeoParquet 1.1 with bounding boxes.

    Args:
        frame: The table; its `attrs` become metadata of the layer and of the table in the other file.
        geopackage: The GeoPackage.
        parquet: The GeoParquet file.
        style: "objects" or "extent".
        layer: Name of the layer in the GeoPackage.

    Raises:
        OSError: If a file cannot be written.
    """
    import pyogrio
    from pyogrio.errors import DataSourceError

    with step("writing GeoPackage"):
        try:
            content = io.BytesIO()
            pyogrio.write_dataframe(
                frame,
                content,
                layer=layer,
                driver="GPKG",
                geometry_type="MultiPolygon",
                dataset_options={"VERSION": "1.3"},
                layer_metadata=dict(frame.attrs) or None,
            )
        except (DataSourceError, RuntimeError) as error:
            raise OSError(f"{geopackage.name}: {error}") from error
        write_geopackage(geopackage, content, partial(_complete, style=style, layer=layer))
    # Arrow leaves a file that it opened itself open where the disk is full.
    with step("writing GeoParquet"), parquet.open("wb") as file:
        frame.to_parquet(file, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)


def layer_name(tile_id: str) -> str:
    """Return what the layer of a tile in a GeoPackage is called: like the tile, so that programs tell tiles apart.

    Names that SQLite or the format keep for themselves get a word before them.

    Examples:
        >>> layer_name("20210821_210019_08_2405"), layer_name("gpkg 1")
        ('20210821_210019_08_2405', 'tile gpkg 1')
    """
    taken = tile_id.casefold().startswith(("gpkg", "rtree_", "sqlite_", "layer_styles"))
    return f"tile {tile_id}" if taken else tile_id


def _frame(
    columns: dict[str, NDArray[Any]], objects: Objects, context: TileContext, model: str | None
) -> "gpd.GeoDataFrame":
    import geopandas as gpd
    import pandas as pd

    with step("outlines"):
        traced = [object_polygons(group, context.transform) for group in objects.groups(_TRACED_AT_A_TIME)]
        polygons = np.concatenate([np.zeros(0, object), *traced])
    count = objects.count
    timestamp = np.datetime64(None if context.time is None else context.time.replace(tzinfo=None), "ms")
    constant = {
        "tile_id": _text(context.tile_id, count),
        "source": _text(context.source, count),
        "acquisition_time": pd.DatetimeIndex(np.full(count, timestamp), tz="UTC"),
        "model_names": _text(context.model_names(model), count),
    }
    return gpd.GeoDataFrame(columns | constant, geometry=polygons, crs=context.wkt)


def _text(value: str, count: int) -> "pd.api.extensions.ExtensionArray":
    return _texts([value] * count)


def _texts(values: Sequence[str] | NDArray[Any]) -> "pd.api.extensions.ExtensionArray":
    import pandas as pd

    # A dtype of its own, since an empty column of objects would have none in the files.
    return pd.array(values, dtype="string")


def _complete(connection: sqlite3.Connection, style: str, layer: str) -> None:
    """Add the style, and write the names of metadata whole, in which GDAL takes the first colon for the end."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_metadata'").fetchone():
        for name, value in STATISTICS_UNIT.items():
            wrong = '<MDI key="{}">{}={}<'.format(*name.split(":"), value)
            whole = f'<MDI key="{name}">{value}<'
            connection.execute("UPDATE gpkg_metadata SET metadata = replace(metadata, ?, ?)", [wrong, whole])
    connection.execute(STYLE_TABLE)
    connection.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0)"
    )
    row = style_row(layer, style)
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO layer_styles ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
