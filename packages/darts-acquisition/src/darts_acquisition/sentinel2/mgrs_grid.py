"""The grid of MGRS tiles that Sentinel-2 products are cut into, as ESA publishes it."""

import contextlib
import difflib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from darts_acquisition.errors import AreaError, ServiceError
from darts_acquisition.io.failures import public_url
from darts_acquisition.io.http import HttpClient
from darts_acquisition.io.settings import RequestLimits
from darts_acquisition.scenes.selection import check_tile_id
from darts_utils import ParameterError

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

GRID_URL = (
    "https://sentinels.copernicus.eu/documents/247904/1955685/"
    "S2A_OPER_GIP_TILPAR_MPC__20151209T095117_V20150622T000000_21000101T000000_B00.kml"
)
_FILE = "sentinel2_grid.parquet"


def download_sentinel_2_grid(
    grid_dir: "str | os.PathLike[str]", *, url: str | None = None, limits: RequestLimits | None = None
) -> Path:
    """Fetch ESA's grid of MGRS tiles, unless it is there.

    Args:
        grid_dir: Folder to put it into; created where absent.
        url: Address of the KML file; None for ``DARTS_SENTINEL2_GRID_URL``, else ESA's.
        limits: How many requests are made, and what happens when one fails.

    Returns:
        A GeoParquet file with one row per tile: `tile_id` and its footprint in EPSG:4326.

    Raises:
        ServiceError: If the file cannot be fetched, or is no grid of tiles.
    """
    target = Path(grid_dir) / _FILE
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    source = url or os.environ.get("DARTS_SENTINEL2_GRID_URL") or GRID_URL
    kml = target.with_name(f".{uuid.uuid4().hex}.kml")
    draft = kml.with_suffix(".parquet")
    try:
        kml.write_bytes(_fetch(source, limits or RequestLimits()))
        _read_kml(kml, source).to_parquet(draft)
        draft.replace(target)
    finally:
        for file in (kml, draft):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
    return target


def read_sentinel_2_grid(grid_dir: "str | os.PathLike[str]") -> "gpd.GeoDataFrame | None":
    """Return the grid that `download_sentinel_2_grid` put into a folder.

    Args:
        grid_dir: The folder.

    Returns:
        One row per tile: `tile_id` and its footprint in EPSG:4326; None where there is no grid.
    """
    import geopandas as gpd

    file = Path(grid_dir) / _FILE
    return gpd.read_parquet(file) if file.is_file() else None


def check_tiles_exist(tile_ids: Sequence[str], grid_dir: "str | os.PathLike[str]") -> None:
    """Check that MGRS tiles exist, as far as that can be known: against the grid where it is there, else by their form.

    Args:
        tile_ids: MGRS tiles, for example "33UVP".
        grid_dir: Folder of the grid.

    Raises:
        ParameterError: If one does not. The message names the nearest.
    """
    names = [check_tile_id(name) for name in tile_ids]
    grid = read_sentinel_2_grid(grid_dir)
    if grid is None:
        return
    known = set(grid["tile_id"])
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ParameterError(f"There is no Sentinel-2 tile {name!r}{hint}")


def _fetch(url: str, limits: RequestLimits) -> bytes:
    with contextlib.closing(HttpClient(limits)) as client:
        return client.fetch(url, f"Fetching {public_url(url)}", bytes)


def _read_kml(file: Path, source: str) -> "gpd.GeoDataFrame":
    """Read tiles and footprints; of the shapes that a tile has there (footprint, centre), the footprint is kept."""
    import geopandas as gpd

    from darts_acquisition.scenes.area import read_vector_file

    try:
        content = read_vector_file(file)
    except AreaError as error:
        raise ServiceError(f"{public_url(source)} is no grid of tiles: {error}") from error
    if "Name" not in content or content.empty:
        raise ServiceError(f"{public_url(source)} is no grid of tiles: expected placemarks with names.")
    footprints = [_polygons(shape) for shape in content.geometry]
    table = gpd.GeoDataFrame({"tile_id": list(content["Name"])}, geometry=footprints, crs="EPSG:4326")
    return table[table["tile_id"].str.fullmatch(r"\d{2}[A-Z]{3}")].sort_values("tile_id", ignore_index=True)


def _polygons(shape: "BaseGeometry") -> "BaseGeometry":
    import shapely

    parts = [part for part in shapely.get_parts(shape) if shapely.get_dimensions(part) == 2]
    flat = [shapely.force_2d(part) for part in parts]
    return flat[0] if len(flat) == 1 else shapely.MultiPolygon(flat)
