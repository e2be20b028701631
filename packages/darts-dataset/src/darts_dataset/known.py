"""What a dataset remembers of its scenes, so that an update reads only those that changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from shapely.geometry.base import BaseGeometry

from darts_dataset.errors import DatasetError
from darts_dataset.geometry import hull_around
from darts_dataset.looks import Footprint, footprint_of
from darts_dataset.memory import REMEMBERED, Memory
from darts_dataset.parallel import in_order
from darts_dataset.readings import check_files, measure_detections, read_extent
from darts_dataset.scenes import Scene

SCENES = f"{REMEMBERED}/scenes.parquet"
_SIDES = ("south", "north")


@dataclass(frozen=True)
class Survey:
    """What the files of a scene hold.

    Attributes:
        digest: SHA-256 of its manifest.
        footprint: What it saw reliably.
        rows: Number of its detections.
        hull: Convex polygon around footprint and detections on the plane of the footprint; empty for nothing.
    """

    digest: str
    footprint: Footprint
    rows: int
    hull: BaseGeometry


@dataclass(frozen=True)
class KnownScene:
    """A scene of a dataset: what its files hold, and name and year of the look that it belongs to."""

    survey: Survey
    look: str
    year: int


def write_scenes(folder: Path, scenes: Mapping[str, KnownScene]) -> None:
    """Write what a dataset remembers of its scenes, by name."""
    known = list(scenes.values())
    surveys = [each.survey for each in known]
    columns = {
        "tile_id": pa.array(scenes, pa.string()),
        "digest": pa.array([each.digest for each in surveys], pa.string()),
        "look": pa.array([each.look for each in known], pa.string()),
        "year": pa.array([each.year for each in known], pa.int16()),
        "plane": pa.array([each.footprint.plane for each in surveys], pa.string()),
        **{side: pa.array([getattr(each.footprint, side) for each in surveys], pa.float64()) for side in _SIDES},
        "extent": pa.array([shapely.to_wkb(each.footprint.extent) for each in surveys], pa.binary()),
        "rows": pa.array([each.rows for each in surveys], pa.int64()),
        "hull": pa.array([shapely.to_wkb(each.hull) for each in surveys], pa.binary()),
    }
    (folder / SCENES).parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / SCENES, compression="zstd")


def read_scenes(memory: Memory) -> dict[str, KnownScene]:
    """Read what a dataset remembers of its scenes, by name.

    Raises:
        StartOverError: If that is not as it was written.
    """
    table = pq.read_table(memory.file(SCENES), partitioning=None)
    extents, hulls = (shapely.from_wkb(table[name].to_numpy()) for name in ("extent", "hull"))
    columns = ("tile_id", "digest", "look", "year", "plane", *_SIDES, "rows")
    found = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return {
        tile: KnownScene(Survey(digest, Footprint(plane, extent, south, north), rows, hull), look, year)
        for (tile, digest, look, year, plane, south, north, rows), extent, hull in zip(
            found, extents, hulls, strict=True
        )
    }


def read_surveys(
    scenes: Sequence[Scene], known: Mapping[str, KnownScene], left_out: dict[str, str]
) -> tuple[list[Scene], list[Survey]]:
    """Return the scenes whose files are whole, and what they hold; say of the others why not.

    The files of scenes that are known by the same manifest are only compared with it.
    """

    def read(scene: Scene) -> Survey | str:
        same = known.get(scene.tile_id)
        try:
            if same is not None and same.survey.digest == scene.digest:
                check_files(scene)
                return same.survey
            footprint = footprint_of(read_extent(scene))
            bounds, crs = measure_detections(scene)
        except DatasetError as error:
            return str(error)
        whole = np.array([[*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0)]] if len(bounds) else []).reshape(
            -1, 4
        )
        hull = hull_around(footprint.extent, whole, crs, footprint.plane)
        return Survey(scene.digest, footprint, len(bounds), hull)

    fine: list[Scene] = []
    surveys: list[Survey] = []
    for scene, survey in zip(scenes, in_order(read, scenes), strict=True):
        if isinstance(survey, str):
            left_out[str(scene.folder.path)] = survey
        else:
            fine.append(scene)
            surveys.append(survey)
    return fine, surveys


def unchanged(known: Mapping[str, KnownScene], scenes: Iterable[Scene], looks: Mapping[str, str]) -> frozenset[str]:
    """Name the scenes that are known by the same manifest, in the look of that name."""
    found = ((scene, known.get(scene.tile_id)) for scene in scenes)
    return frozenset(
        scene.tile_id
        for scene, each in found
        if each is not None and (each.survey.digest, each.look) == (scene.digest, looks[scene.tile_id])
    )
