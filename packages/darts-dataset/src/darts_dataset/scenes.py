"""Results of scenes: found, compared with their manifests, and read as rows of the first level."""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from darts_dataset.errors import DatasetError
from darts_dataset.geometry import Geometries, to_lonlat
from darts_utils import ManifestError, ResultFolder
from darts_utils.results import MANIFEST_FILE, parse_manifest

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

_TEXTS = ("object_uid", "tile_id", "source", "model_names")
_NUMBERS = ("min", "max", "mean", "median", "std", "area_m2", "perimeter_m", "lon", "lat")
_MEANS = ("mean_slope", "mean_relative_elevation", "mean_ndvi")
"""Means of features, absent where a tile lacks the feature."""
_FIRST_RELEASE = ("object_uid", "lon", "lat", "perimeter_m", "touches_edge")
"""Columns that results of release 0.1 lack."""
_NEEDED = ("model_names", "min", "max", "mean", "median", "std", "area_m2", "npixel", "Region_ID")


@dataclass(frozen=True)
class Scene:
    """The results of one scene.

    Attributes:
        folder: Where they are.
        digest: SHA-256 of the manifest, which holds the digests of all files.
        time: When the scene was taken.
        source: What took it.
        created: When the results were made, as the manifest has it.
    """

    folder: ResultFolder
    digest: str
    time: datetime
    source: str
    created: str

    @property
    def tile_id(self) -> str:
        """Name of the scene."""
        return self.folder.tile_id


@dataclass(frozen=True)
class Found:
    """Scenes that can be used, and why others cannot, by the path of their folder as it was given."""

    scenes: list[Scene]
    left_out: dict[str, str]


def find_scenes(results: Iterable["str | os.PathLike[str]"], prefer: str | None = None) -> Found:
    """Find the finished results at some places.

    Args:
        results: Folders of tiles, or folders that hold such folders at any depth.
        prefer: "newest" or the name of a model: which results of a scene count where there are several.

    Returns:
        Scenes by name, whatever the order of `results`; those that held no data are not among them.

    Raises:
        DatasetError: If there are none, or several of one scene and nothing says which counts.
    """
    given = [Path(path) for path in results]
    scenes: dict[str, list[Scene]] = {}
    left_out: dict[str, str] = {}
    for root in given:
        for path in sorted(root.rglob(MANIFEST_FILE)):
            inside = path.parent.relative_to(root)
            if any(part.startswith(".") for part in inside.parts):  # what an export is working on
                continue
            try:
                scene = _read_scene(path.parent)
            except (ManifestError, DatasetError, OSError) as error:
                left_out[(root / inside).as_posix()] = str(error)
                continue
            if scene is not None:
                scenes.setdefault(scene.tile_id, []).append(scene)
    if not scenes and not left_out:
        places = ", ".join(map(str, given)) or "no folder"
        raise DatasetError(f"{places}: no finished results; expected folders of tiles, each with a {MANIFEST_FILE}.")
    chosen = [_chosen(scenes[tile], prefer, left_out) for tile in sorted(scenes)]
    return Found([scene for scene in chosen if scene is not None], left_out)


def read_extent(scene: Scene) -> Geometries:
    """Read the reliable area of a scene.

    Args:
        scene: The scene.

    Returns:
        Polygons in OGC:CRS84, none where nothing was reliable.

    Raises:
        DatasetError: If the file differs from its manifest, or cannot be read.
    """
    return _stored(_read(scene, scene.folder.extent(), "extent"))


def check_detections(scene: Scene) -> None:
    """Compare the objects of a scene with its manifest, and read them.

    Raises:
        DatasetError: If the file differs from its manifest, cannot be read, or lacks a column.
    """
    _read(scene, scene.folder.segments(), "polygonized", _NEEDED)


def read_detections(scene: Scene, look: str) -> "gpd.GeoDataFrame":
    """Read the objects of a scene as rows of the first level.

    Args:
        scene: The scene.
        look: Name of the look that it belongs to.

    Returns:
        One row per object with the columns of the data dictionary, geometries in OGC:CRS84.

    Raises:
        DatasetError: If the file differs from its manifest, or cannot be read.
    """
    import geopandas as gpd
    import pandas as pd

    found = _read(scene, scene.folder.segments(), "polygonized", _NEEDED)
    if missing := [name for name in _FIRST_RELEASE if name not in found]:
        found = _completed(found, scene, missing)
    count = len(found)
    columns: dict[str, Any] = {name: found[name].astype("string") for name in _TEXTS if name in found}
    columns["tile_id"] = pd.array([scene.tile_id] * count, dtype="string")
    columns["look"] = pd.array([look] * count, dtype="string")
    columns["acquisition_time"] = pd.DatetimeIndex([scene.time] * count, tz="UTC").as_unit("ms")
    columns |= {name: found[name].to_numpy(np.float64) for name in _NUMBERS}
    columns["npixel"] = found["npixel"].to_numpy(np.int64)
    columns["Region_ID"] = found["Region_ID"].to_numpy(np.int32)
    columns["touches_edge"] = found["touches_edge"].to_numpy(np.bool_)
    nothing = np.full(count, np.nan)
    columns |= {name: found[name].to_numpy(np.float64) if name in found else nothing for name in _MEANS}
    columns["crs"] = pd.array([_crs_name(found)] * count, dtype="string")
    columns["pixel_m"] = np.full(count, _pixel(found))
    return gpd.GeoDataFrame(pd.DataFrame(columns), geometry=_stored(found), crs="OGC:CRS84")


def _read_scene(path: Path) -> Scene | None:
    content = (path / MANIFEST_FILE).read_bytes()
    folder = ResultFolder(path, parse_manifest(content, path / MANIFEST_FILE))
    if folder.is_empty:
        return None
    manifest = folder.manifest
    for band, file in (("polygonized", folder.segments()), ("extent", folder.extent())):
        if file is None:
            raise DatasetError(f"{path} holds no {band} as GeoParquet; export the tile with {band!r} among the bands.")
    if not manifest.get("time"):
        raise DatasetError(f"{path} does not say when the scene was taken; a dataset needs the year.")
    time = datetime.fromisoformat(str(manifest["time"]).replace("Z", "+00:00"))
    time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    return Scene(
        folder,
        hashlib.sha256(content).hexdigest(),
        time,
        str(manifest.get("source") or "unknown"),
        str(manifest.get("created", "")),
    )


def _chosen(scenes: Sequence[Scene], prefer: str | None, left_out: dict[str, str]) -> Scene | None:
    """Return which of the results of one scene counts; None where one that may be meant is damaged, which is noted."""
    by_digest = {scene.digest: scene for scene in sorted(scenes, key=lambda scene: str(scene.folder.path))}
    if len(by_digest) == 1:  # Copies of one folder.
        return next(iter(by_digest.values()))
    if prefer == "newest":
        return max(by_digest.values(), key=lambda scene: (scene.created, scene.digest))
    if prefer is not None:
        wanted, damaged = [], {}
        for scene in by_digest.values():
            try:
                wanted += [scene] if prefer in _model_names(scene) else []
            except DatasetError as error:
                damaged[str(scene.folder.path)] = str(error)
        left_out |= damaged
        if len(wanted) == 1:
            return wanted[0]
        if damaged:
            return None
    paths = " and ".join(str(scene.folder.path) for scene in by_digest.values())
    raise DatasetError(
        f"There are several results of the scene {scenes[0].tile_id}: {paths}. Give one of them, or say which count: "
        "prefer='newest', or the name of a model that only one of them was made with."
    )


def _model_names(scene: Scene) -> set[str]:
    column = _read(scene, scene.folder.segments(), "polygonized", ("model_names",))["model_names"]
    return {name.strip() for text in column.dropna().unique() for name in str(text).split(",")}


def _read(scene: Scene, path: Path | None, band: str, columns: Sequence[str] = ()) -> "gpd.GeoDataFrame":
    """Read a table of a scene, in which some columns are needed."""
    import geopandas as gpd
    import pyarrow as pa

    content = _content(scene, path, band)
    try:
        found = gpd.read_parquet(io.BytesIO(content))
    except (pa.ArrowException, shapely.GEOSException, OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is no whole GeoParquet file: {error}. Export the tile again.") from error
    if missing := [name for name in columns if name not in found]:
        raise DatasetError(f"{path} lacks the columns {', '.join(missing)}; export the tile again.")
    return found


def _content(scene: Scene, path: Path | None, band: str) -> bytes:
    if path is None:
        raise DatasetError(f"{scene.folder.path} holds no {band}.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error
    entry = scene.folder.manifest["files"][path.name]
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise DatasetError(f"{path} was changed: its SHA-256 differs from the one in {MANIFEST_FILE}.")
    return content


def _crs_name(frame: "gpd.GeoDataFrame") -> str:
    """Return a short name of a CRS where there is one that says the same."""
    authority = frame.crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else str(frame.crs.to_wkt())


def _pixel(frame: "gpd.GeoDataFrame") -> float:
    """Return the edge of the pixels that outlines follow, NaN if there are no outlines."""
    area = frame.geometry.area.to_numpy() / frame["npixel"].to_numpy()
    return float(np.round(np.sqrt(np.median(area)), 6)) if len(area) else float("nan")


def _stored(frame: "gpd.GeoDataFrame") -> Geometries:
    if not len(frame):
        return np.empty(0, object)
    if frame.crs is None:
        raise DatasetError("The outlines of a tile have no CRS.")
    return to_lonlat(frame.geometry.to_numpy(), frame.crs.to_wkt())


def _completed(found: "gpd.GeoDataFrame", scene: Scene, missing: Sequence[str]) -> "gpd.GeoDataFrame":
    """Add to objects of release 0.1 what later ones have; whether they were cut was not kept, and counts as no."""
    import uuid

    import geopandas as gpd

    points = gpd.GeoSeries(found.geometry.representative_point(), crs=found.crs).to_crs("OGC:CRS84")
    names = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"{scene.tile_id}|{scene.digest}|{n}")) for n in found["Region_ID"]]
    added: dict[str, pd.Series | Any] = {
        "object_uid": names,
        "lon": points.x,
        "lat": points.y,
        "perimeter_m": found.geometry.length,
        "touches_edge": np.zeros(len(found), np.bool_),
    }
    return found.assign(**{name: added[name] for name in missing})
