"""Maps to evaluate: the results of tiles, as their folders hold them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from rasterio.features import shapes

from darts_evaluation.errors import PredictionsError
from darts_evaluation.ground import burn
from darts_utils import ManifestError, ResultFolder, connect_segments, find_segments, segment_pixels, touching_segments
from darts_utils.results import result_folders

_NONE = 255


@dataclass(frozen=True)
class TileMap:
    """The map of one tile.

    Attributes:
        name: Name of the tile.
        crs: CRS of its grid, as text.
        transform: From column and row to coordinates.
        mapped: Where the map says slump, 2-D bool.
        seen: Where the tile is reliable, likewise.
        objects: One row per mapped object, with `mean`, the mean probability (0 to 1, NaN where it is not known).
        probability: Percent, 2-D uint8, 255 where there is none; None where there is no such raster.
    """

    name: str
    crs: str
    transform: Affine
    mapped: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    objects: gpd.GeoDataFrame
    probability: NDArray[np.uint8] | None = None


def find_results(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[ResultFolder]:
    """List the folders of finished results at some places.

    Args:
        paths: Folders of tiles, or folders that hold such folders at any depth.

    Returns:
        The folders by name of the tile; scenes that held no data are left out.

    Raises:
        PredictionsError: If there are none, a path does not exist, or two are of one tile.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: dict[Path, ResultFolder] = {}
    for path in map(Path, given):
        for folder in result_folders(path):
            try:
                result = ResultFolder.open(folder)
            except ManifestError as error:
                raise PredictionsError(f"{error} Make these results again, or remove them.") from error
            if not result.is_empty:
                found[folder.resolve()] = result
    absent = [path for path in given if not Path(path).exists()]
    if absent or not found:
        searched = ", ".join(str(path) for path in absent or given)
        raise PredictionsError(
            f"{searched}: no finished results; expected folders of tiles, each with a manifest.json."
        )
    results = sorted(found.values(), key=lambda result: (result.tile_id, str(result.path)))
    for one, other in pairwise(results):
        if one.tile_id == other.tile_id:
            raise PredictionsError(
                f"{one.path} and {other.path} are both of the tile {one.tile_id}; expected one of them."
            )
    return results


def read_tile_map(folder: ResultFolder, model: str | None = None) -> TileMap:
    """Read the map of one tile.

    Args:
        folder: Its results.
        model: Member of the ensemble, None for the ensemble as a whole.

    Returns:
        The map. Where objects were not exported they are the 8-connected areas of `binarized.tif`; the other way
        round their pixels are those of the objects.

    Raises:
        PredictionsError: If neither raster, or neither map nor objects, are there, or a file cannot be read.
    """
    suffix = "" if model is None else f"-{model}"
    rasters = {name: folder.path / f"{name}{suffix}.tif" for name in ("binarized", "probabilities")}
    present = {name: path for name, path in rasters.items() if path.is_file()}
    if not present:
        raise PredictionsError(
            f"{folder.path} holds neither {' nor '.join(path.name for path in rasters.values())}; export one of them."
        )
    values: dict[str, NDArray] = {}
    try:
        for name, path in present.items():
            with rasterio.open(path) as file:
                values[name] = file.read(1)
                crs, transform, shape = file.crs.to_wkt(), file.transform, file.shape
        segments = folder.segments(model)
        objects = None if segments is None else gpd.read_parquet(segments)
        extent = folder.extent()
        reliable = None if extent is None else gpd.read_parquet(extent)
    except (RasterioIOError, OSError, ValueError) as error:
        raise PredictionsError(f"{folder.path}: a file cannot be read: {error}.") from error
    if "binarized" in values:
        mapped = values["binarized"] == 1
        seen = values["binarized"] != _NONE
    elif objects is not None:
        mapped, seen = burn(objects.to_crs(crs).geometry, transform, shape), np.ones(shape, bool)
    else:
        raise PredictionsError(f"{folder.path} holds neither {rasters['binarized'].name} nor objects; export one.")
    if reliable is not None:
        seen &= burn(reliable.to_crs(crs).geometry, transform, shape)
    probability = values.get("probabilities")
    if probability is not None:
        seen &= probability != _NONE
    if objects is None:
        objects = mapped_objects(mapped, transform, crs)
    mean = objects["mean"].to_numpy() if "mean" in objects else np.full(len(objects), np.nan)
    table = gpd.GeoDataFrame({"mean": mean}, geometry=objects.geometry.to_crs(crs).to_numpy(), crs=crs)
    return TileMap(folder.tile_id, crs, transform, mapped & seen, seen, table, probability)


def mapped_objects(mapped: NDArray[np.bool_], transform: Affine, crs: str) -> gpd.GeoDataFrame:
    """Return the 8-connected areas of a map as objects.

    Args:
        mapped: 2-D bool.
        transform: From column and row to coordinates.
        crs: CRS of the grid.

    Returns:
        One row per area, with `mean`, which is NaN.
    """
    starts, ends = find_segments(mapped)
    objects, _ = connect_segments(touching_segments(starts, ends, mapped.shape[1] + 1), starts.size)
    numbers = np.zeros(mapped.shape, np.int32)
    numbers.reshape(-1)[segment_pixels(starts, ends, mapped.shape[1])] = np.repeat(objects + 1, ends - starts)
    parts: dict[int, list] = {}
    # Of an 8-connected area, GDAL makes a polygon for each 4-connected part.
    for shape, number in shapes(numbers, mask=mapped, transform=transform):
        parts.setdefault(int(number), []).append(shapely.geometry.shape(shape))
    made = [each[0] if len(each) == 1 else shapely.MultiPolygon(each) for each in parts.values()]
    return gpd.GeoDataFrame({"mean": np.full(len(made), np.nan)}, geometry=made, crs=crs)
