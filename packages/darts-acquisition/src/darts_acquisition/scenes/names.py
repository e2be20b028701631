"""What names say: of scenes of Sentinel-2, how they were processed; of MGRS tiles, where they lie."""

import contextlib
import difflib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from darts_acquisition.errors import AreaError, SceneNameError, ServiceError, public_url
from darts_acquisition.io.http import HttpClient
from darts_acquisition.io.settings import RequestLimits
from darts_acquisition.scenes.geometry import read_layers
from darts_acquisition.scenes.raw import TILE_RESOLUTION
from darts_acquisition.tile import AnyPath
from darts_utils import ParameterError, atomic_path

if TYPE_CHECKING:
    import geopandas as gpd

Source = Literal["cdse", "gee"]

_CDSE_NAME = re.compile(r"S2[A-D]_MSIL2A_\d{8}T\d{6}_N\d{4}_R\d{3}_T\d{2}[A-Z]{3}_\d{8}T\d{6}")
_GEE_NAME = re.compile(r"\d{8}T\d{6}_\d{8}T\d{6}_T\d{2}[A-Z]{3}")
_TILE = re.compile(r"(?P<zone>\d{1,2})(?P<square>[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])")
_BASELINE = re.compile(r"N?(?:(\d{1,2})\.(\d{1,2})(?:\..*)?|(\d{2})(\d{2}))")
_OWN_MAJORS = range(1, 20)
"""First numbers of ESA's own processing baselines. Others mark runs of a toolbox, such as 99.99 of Sen2Cor."""
_EXAMPLES = {
    "cdse": "S2A_MSIL2A_20220217T183431_N0510_R027_T13VEK_20240516T022440",
    "gee": "20220217T183431_20220217T183428_T13VEK",
}
_PROVIDERS = {"cdse": "the Copernicus Data Space", "gee": "Earth Engine"}


def check_scene_id(scene_id: str, source: Source) -> str:
    """Return the name of a scene as the source writes it, without a ``.SAFE`` at its end.

    SceneNameError if it is none, or that of the other source.
    """
    given = as_text(scene_id).strip()
    name = given.removesuffix(".SAFE") if source == "cdse" else given.rpartition("/")[2]
    patterns = {"cdse": _CDSE_NAME, "gee": _GEE_NAME}
    if patterns[source].fullmatch(name):
        return name
    other: Source = "gee" if source == "cdse" else "cdse"
    if patterns[other].fullmatch(name):
        found = f"is a scene of {_PROVIDERS[other]} (raw_data_source {other!r})"
    else:
        found = "is no name of a Sentinel-2 L2A scene"
    raise SceneNameError(f"{scene_id!r} {found}; expected one of {_PROVIDERS[source]}, such as {_EXAMPLES[source]}.")


def as_text(name: object) -> str:
    """Return a name as it is, and of anything else what messages show of it."""
    return name if isinstance(name, str) else repr(name)


def check_tile_id(tile_id: str) -> str:
    """Return an MGRS tile's plain name ("08WMA"), also of "T08WMA" or "MGRS-8wma"; ParameterError if it is none."""
    name = as_text(tile_id).strip().upper().removeprefix("MGRS-").removeprefix("T")
    match = _TILE.fullmatch(name)
    if match is None or not 1 <= int(match["zone"]) <= 60:
        raise ParameterError(
            f"{tile_id!r} is no MGRS tile; expected a zone from 01 to 60 and three letters, never I or O, such as "
            "'33UVP'."
        )
    return f"{int(match['zone']):02}{match['square']}"


def tile_of_scene(scene_id: str) -> str:
    """Return the MGRS tile that a scene's name holds."""
    return next(part[1:] for part in scene_id.split("_") if re.fullmatch(r"T\d{2}[A-Z]{3}", part))


def tile_of_item(properties: Mapping[str, object]) -> str:
    """Return the MGRS tile of an item, for example "08WMA"; empty where it names none."""
    name = str(properties.get("grid:code") or "").removeprefix("MGRS-")
    return name.zfill(5) if name else ""


def parse_baseline(text: str) -> tuple[int, int] | None:
    """Read a processing baseline as names ("N0500") and catalogues ("05.00") write it; None where it is none.

    Examples:
        >>> parse_baseline("N0511"), parse_baseline("05.11"), parse_baseline("5.11"), parse_baseline("")
        ((5, 11), (5, 11), (5, 11), None)
    """
    match = _BASELINE.fullmatch(text.strip())
    if match is None:
        return None
    major, minor = (number for number in match.groups() if number is not None)
    return int(major), int(minor)


def is_official(baseline: tuple[int, int]) -> bool:
    """Say whether a processing baseline is one of ESA's own, which have an order; a toolbox's 99.99 is none."""
    return baseline[0] in _OWN_MAJORS


def newest_baselines(scene_ids: Iterable[str]) -> list[str]:
    """Leave out scenes of the Copernicus Data Space of which there is a newer processing baseline, or not ESA's own.

    Scenes that share satellite, time, orbit and tile show the same ground at once. Where several of them have the
    newest baseline, they are parts of one overpass, and all stay. Products of toolbox runs (N9999) never stay: their
    number says nothing of when or how they were made. Names of Earth Engine do not say how a scene was processed; all
    of them stay.
    """
    scenes = {name: _overpass(name) for name in scene_ids}
    official = {name: scene for name, scene in scenes.items() if scene[1] is None or is_official(scene[1])}
    newest: dict[tuple[str, ...], tuple[int, int]] = {}
    for overpass, baseline in official.values():
        newest[overpass] = max(baseline or (0, 0), newest.get(overpass, (0, 0)))
    return [name for name, (overpass, baseline) in official.items() if newest[overpass] == (baseline or (0, 0))]


def _overpass(name: str) -> tuple[tuple[str, ...], tuple[int, int] | None]:
    """Return what tells which ground a scene shows and when, and its processing baseline."""
    if not _CDSE_NAME.fullmatch(name):
        return (name,), None
    satellite, _, time, baseline, orbit, tile, _ = name.split("_")
    return (satellite, time, orbit, tile), parse_baseline(baseline)


_SQUARE_M = 100_000
"""Edge of an MGRS square, which a tile begins with and reaches beyond."""
_EDGE_PX = 10_980
"""Edge of a tile in pixels of 10 m."""
_SNAP_M = 60
"""Corners of tiles are multiples of it, so that pixels of 10, 20 and 60 m share them."""
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
"""Letters of the squares of a zone from west to east; zones repeat them by threes. The first begins at 100 km."""
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
"""Letters of the squares from south to north; they begin again every 2000 km, in even zones with F."""
_FIRST_ROWS = dict(zip("CDEFGHJKLM", (11, 20, 28, 37, 46, 55, 64, 73, 82, 91), strict=True)) | dict(
    zip("NPQRSTUVWX", (0, 8, 17, 26, 35, 44, 53, 62, 70, 79), strict=True)
)
"""Northing in squares at which a latitude band begins, south of the equator with a false northing of 10,000 km."""
_FIRST_NORTHERN = "N"


def mgrs_tile_geobox(tile_id: str) -> GeoBox:
    """Return the grid of 10 m that all Sentinel-2 scenes of an MGRS tile share, whether the tile exists or not.

    A tile begins at the north-western corner of its square of 100 km, moved outwards to a multiple of 60 m, and is
    109.8 km wide and high; it lies in the UTM zone that its name begins with. Letters: NGA.STND.0037, "Universal Grids
    and Grid Reference Systems". ParameterError if the name is none of a tile.
    """
    name = check_tile_id(tile_id)
    zone, band, column, row = int(name[:2]), name[2], name[3], name[4]
    easting = (1 + _COLUMNS[(zone - 1) % 3].find(column)) * _SQUARE_M
    first, at = _FIRST_ROWS[band], _ROWS.index(row) - (5 if zone % 2 == 0 else 0)
    northing = (first + (at - first) % len(_ROWS)) * _SQUARE_M  # the first row with that letter from `first` on
    left = easting // _SNAP_M * _SNAP_M
    top = -(-(northing + _SQUARE_M) // _SNAP_M) * _SNAP_M
    epsg = (32600 if band >= _FIRST_NORTHERN else 32700) + zone
    affine = Affine(TILE_RESOLUTION, 0, left, 0, -TILE_RESOLUTION, top)
    return GeoBox((_EDGE_PX, _EDGE_PX), affine, f"EPSG:{epsg}")


GRID_URL = (
    "https://sentinels.copernicus.eu/documents/247904/1955685/"
    "S2A_OPER_GIP_TILPAR_MPC__20151209T095117_V20150622T000000_21000101T000000_B00.kml"
)
_FILE = "sentinel2_grid.parquet"


def download_sentinel_2_grid(grid_dir: AnyPath, *, url: str | None = None, limits: RequestLimits | None = None) -> Path:
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
    with tempfile.TemporaryDirectory() as folder, atomic_path(target) as draft:
        kml = Path(folder) / "grid.kml"
        with contextlib.closing(HttpClient(limits or RequestLimits())) as client:
            kml.write_bytes(client.fetch(source, f"Fetching {public_url(source)}", bytes))
        _read_kml(kml, source).to_parquet(draft)
    return target


def read_sentinel_2_grid(grid_dir: AnyPath) -> "gpd.GeoDataFrame | None":
    """Return the grid that `download_sentinel_2_grid` put into a folder.

    Args:
        grid_dir: The folder.

    Returns:
        One row per tile: `tile_id` and its footprint in EPSG:4326; None where there is no grid.
    """
    import geopandas as gpd

    file = Path(grid_dir) / _FILE
    return gpd.read_parquet(file) if file.is_file() else None


def check_tiles_exist(tile_ids: Sequence[str], grid_dir: AnyPath) -> None:
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


def _read_kml(file: Path, source: str) -> "gpd.GeoDataFrame":
    """Read tiles and footprints; of the shapes that a tile has there (footprint, centre), the footprint is kept."""
    import geopandas as gpd

    try:
        layers = read_layers(file)
    except AreaError as error:
        raise ServiceError(f"{public_url(source)} is no grid of tiles: {error}") from error
    named = [layer for layer in layers.values() if "Name" in layer and not layer.empty]
    if not named:
        raise ServiceError(f"{public_url(source)} is no grid of tiles: expected placemarks with names.")
    tile_ids = [name for layer in named for name in layer["Name"]]
    footprints = [_polygons(shape) for layer in named for shape in layer.geometry]
    table = gpd.GeoDataFrame({"tile_id": tile_ids}, geometry=footprints, crs="EPSG:4326")
    return table[table["tile_id"].str.fullmatch(r"\d{2}[A-Z]{3}")].sort_values("tile_id", ignore_index=True)


def _polygons(shape: BaseGeometry) -> BaseGeometry:
    flat = [shapely.force_2d(part) for part in shapely.get_parts(shape) if shapely.get_dimensions(part) == 2]
    return flat[0] if len(flat) == 1 else shapely.MultiPolygon(flat)
