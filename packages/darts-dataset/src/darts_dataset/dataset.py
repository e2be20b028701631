"""Build a dataset out of the results of many scenes, or update one."""

import os
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darts_dataset.catalog import write_catalog
from darts_dataset.coverage import write_coverage
from darts_dataset.dictionary import FILE as DICTIONARY
from darts_dataset.dictionary import render_dictionary
from darts_dataset.errors import DatasetError, LeftOutWarning
from darts_dataset.geometry import Geometries
from darts_dataset.level1 import FILE as DETECTIONS_FILE
from darts_dataset.level1 import partition, write_detections
from darts_dataset.level2 import FILE as OBJECTS_FILE
from darts_dataset.level2 import History, write_links, write_objects
from darts_dataset.looks import Look, checked_season, find_looks
from darts_dataset.memory import FILE as MEMORY_FILE
from darts_dataset.memory import Memory, digest_of, write_memory
from darts_dataset.scenes import Scene, check_detections, find_scenes, read_extent
from darts_dataset.tables import read_links, table_bounds
from darts_utils import ParameterError
from darts_utils.staging import replaced_folder

if TYPE_CHECKING:
    import pandas as pd

_LINKS = "links.parquet"
VERSION = 1
"""Raised where the same inputs give another dataset."""


@dataclass(frozen=True)
class Built:
    """What a build made.

    Attributes:
        path: The dataset.
        scenes: Number of scenes in it.
        looks: Number of looks.
        detections: Number of rows of level 1.
        objects: Number of rows of level 2.
        written: Parts that were made.
        reused: Parts that were taken along from the dataset before, since nothing changed.
        left_out: Why scenes are not in it, by the path of their results.
    """

    path: Path
    scenes: int
    looks: int
    detections: int
    objects: int
    written: tuple[str, ...]
    reused: tuple[str, ...]
    left_out: dict[str, str]


def build(
    results: "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]",
    out: "str | os.PathLike[str]",
    previous: "str | os.PathLike[str] | None" = None,
    keep_share: float = 0.0,
    cell_km: float = 50,
    *,
    prefer: str | None = None,
    season: Iterable[int] | None = None,
) -> Built:
    """Make one dataset out of the results of many scenes.

    Level 1 has every detection of every scene, level 2 one row per object and year, with ids that stay over years and
    releases, and with what the looks say of it; the links say what became of each. A dataset that is there is replaced
    as a whole or stays as it is; what nothing changed for is taken along, and the bytes are those of a build from
    nothing.

    Args:
        results: Folders of results, or folders that hold such folders at any depth.
        out: Folder of the dataset.
        previous: Folder of the release before, whose ids are kept. None for none; the dataset at `out` is not used.
        keep_share: Objects that a smaller share of their looks has are not in level 2, 0 to 1.
        cell_km: Edge of the cells in which overlaps are searched: smaller ones need less memory. The dataset does not
            depend on it.
        prefer: "newest", or the name of a model: which results count where there are several of one scene.
        season: Months of the year, 1 to 12 (UTC). Looks of other months are in level 1 only: objects, links and
            coverage are those of the season of each year. None for the whole year.

    Returns:
        What was made. Scenes with damaged or incomplete results are left out, with a `LeftOutWarning`.

    Raises:
        DatasetError: If there are no results, or none of the season, several of one scene and nothing says which
            counts, something else at `out`, or no dataset at `previous`.
        ParameterError: If a number is out of its range.
        OSError: If a file cannot be written.
    """
    if not 0 <= keep_share <= 1:
        raise ParameterError(f"keep_share is {keep_share}; expected a share of the looks, from 0 to 1.")
    if not cell_km > 0:
        raise ParameterError(f"cell_km is {cell_km}; expected a length in kilometres above 0.")
    months = checked_season(season)
    target = Path(out)
    before = _before(target)
    release = None if previous is None else Memory.read(Path(previous))
    given = [results] if isinstance(results, str | os.PathLike) else list(results)
    found = find_scenes(given, prefer)
    left_out = dict(found.left_out)
    scenes, extents = _readable(found.scenes, before, left_out)
    for path, reason in left_out.items():
        warnings.warn(f"{path} is left out: {reason}", LeftOutWarning, stacklevel=2)
    if not scenes:
        raise DatasetError(f"{', '.join(map(str, given))}: none of the results can be used.")
    looks = find_looks(scenes, extents)
    if months and not any(look.month in months for look in looks):
        found_months = sorted({look.month for look in looks})
        raise DatasetError(f"No look is of the season {months}; there are looks of the months {found_months}.")
    # Beside the new dataset, so that the next build of the dataset removes what a kill leaves of both.
    with replaced_folder(target, DatasetError) as new, tempfile.TemporaryDirectory(dir=new.parent) as scratch:
        work = _Work(new, Path(scratch), before, scenes, looks, months)
        work.write_level1()
        work.write_coverage()
        work.write_level2(release, keep_share, 1000 * cell_km)
        return work.finish(target, keep_share, left_out)


class _Work:
    """A dataset that is being made."""

    def __init__(
        self,
        new: Path,
        scratch: Path,
        before: Memory | None,
        scenes: Sequence[Scene],
        looks: Sequence[Look],
        season: Sequence[int] | None,
    ) -> None:
        self._new, self._scratch, self._before = new, scratch, before
        self._scenes, self._looks = scenes, looks
        self._parts: dict[str, str] = {}
        self._years: dict[str, int] = {}
        self._reused: list[str] = []
        self._season = season
        self._merged = [look for look in looks if season is None or look.month in season]
        self._all_years = sorted({look.year for look in self._merged})

    def write_level1(self) -> None:
        looks = {self._scenes[number].tile_id: look for look in self._looks for number in look.scenes}
        names = {tile_id: look.name for tile_id, look in looks.items()}
        partitions: dict[tuple[str, int], list[Scene]] = {}
        for scene in self._scenes:
            year = looks[scene.tile_id].year
            partitions.setdefault((partition(scene, year), year), []).append(scene)
        for (part, year), scenes in sorted(partitions.items()):
            made_from = [[scene.tile_id, scene.digest, names[scene.tile_id]] for scene in scenes]
            if not self._reuse(part, made_from, year):
                write_detections(self._new, part, scenes, year, names, self._scratch)

    def write_coverage(self) -> None:
        for year in self._all_years:
            looks = self._looks_of(year)
            made_from = [[look.name, [self._scenes[number].digest for number in look.scenes]] for look in looks]
            part = f"coverage/year={year}"
            if not self._reuse(part, made_from, year):
                write_coverage(self._new, part, looks)

    def write_level2(self, release: Memory | None, keep_share: float, cell_m: float) -> None:
        history = History(self._scratch, cell_m)
        if release is not None:
            history.read_previous(release.folder, self._all_years[0])
        links = self._former_links()
        chain = digest_of([keep_share, None if release is None else release.checksums])
        for year in self._all_years:
            partitions = sorted(
                part for part in self._parts if part.startswith("level1/") and self._years[part] == year
            )
            inputs = [self._parts[part] for part in (*partitions, f"coverage/year={year}")]
            part = f"level2/year={year}"
            chain = digest_of([chain, *inputs])
            if self._reuse(part, chain, year, possible=links is not None) and links is not None:
                history.resume(self._new / part / OBJECTS_FILE, links)
                continue
            files = [self._new / name / DETECTIONS_FILE for name in partitions]
            write_objects(self._new, part, year, files, self._looks_of(year), history, keep_share)
        write_links(self._new / _LINKS, history.links)

    def finish(self, target: Path, keep_share: float, left_out: dict[str, str]) -> Built:
        files = {part: next((self._new / part).glob("*.parquet")) for part in self._parts}
        found = {part: table_bounds(path) for part, path in files.items()}
        write_catalog(
            self._new, {part: (self._years[part], box) for part, (_, box) in found.items() if box is not None}
        )
        (self._new / DICTIONARY).write_text(render_dictionary(), "utf-8")
        counts = {
            level: sum(count for part, (count, _) in found.items() if part.startswith(level))
            for level in ("level1/", "level2/")
        }
        about = {
            "scenes": {scene.tile_id: scene.digest for scene in self._scenes},
            "looks": len(self._looks),
            "detections": counts["level1/"],
            "objects": counts["level2/"],
            "keep_share": keep_share,
            "season": self._season,
            "version": VERSION,
        }
        write_memory(self._new, self._parts, about)
        written = tuple(part for part in self._parts if part not in self._reused)
        return Built(
            target,
            len(self._scenes),
            len(self._looks),
            counts["level1/"],
            counts["level2/"],
            written,
            tuple(self._reused),
            left_out,
        )

    def _looks_of(self, year: int) -> list[Look]:
        """Return the looks of a year whose detections are merged."""
        return [look for look in self._merged if look.year == year]

    def _former_links(self) -> "pd.DataFrame | None":
        """Return the links of the dataset before; None where there are none that are as they were written."""
        if self._before is None or not self._before.is_whole(_LINKS):
            return None
        return read_links(self._before.folder / _LINKS)

    def _reuse(self, part: str, made_from: object, year: int, possible: bool = True) -> bool:
        digest = digest_of([VERSION, made_from])
        self._parts[part], self._years[part] = digest, year
        if possible and self._before is not None and self._before.reuse(part, digest, self._new):
            self._reused.append(part)
            return True
        return False


def _before(target: Path) -> Memory | None:
    """Return what the dataset at the target remembers; None where nothing is there."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    if not (target / MEMORY_FILE).is_file():
        raise DatasetError(f"{target} holds something that is no dataset; choose a new folder, or one of a dataset.")
    return Memory.read(target)


def _readable(
    scenes: Sequence[Scene], before: Memory | None, left_out: dict[str, str]
) -> tuple[list[Scene], list[Geometries]]:
    """Return the scenes whose files are whole, and what each saw; say of the others why not.

    The detections of scenes that the dataset before was made from are not read again to be compared.
    """
    known = {} if before is None else before.about.get("scenes", {})
    fine: list[Scene] = []
    extents: list[Geometries] = []
    for scene in scenes:
        try:
            extent = read_extent(scene)
            if known.get(scene.tile_id) != scene.digest:
                check_detections(scene)
        except DatasetError as error:
            left_out[str(scene.folder.path)] = str(error)
            continue
        fine.append(scene)
        extents.append(extent)
    return fine, extents
