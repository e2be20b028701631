"""Build a dataset out of the results of many scenes, or update one."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_dataset.catalog import write_catalog
from darts_dataset.coverage import write_coverage
from darts_dataset.detections import read_year
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
from darts_dataset.parallel import in_order
from darts_dataset.readings import check_detections, read_extent
from darts_dataset.scenes import Scene, find_scenes
from darts_dataset.scratch import Scratch, scratch_folder
from darts_dataset.tables import read_links, table_bounds, write_copy
from darts_utils import ParameterError
from darts_utils.staging import replaced_folder

if TYPE_CHECKING:
    import pandas as pd

_Copy = tuple[Path, str, Mapping[str, Any]]
"""Dataset, name of a table within it, and what its copy has beside its columns: what a copy is made from."""
_LINKS = "links.parquet"
VERSION = 2
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
    with replaced_folder(target, DatasetError) as new, scratch_folder(new.parent) as scratch:
        work = _Work(new, scratch, before, scenes, looks, months)
        work.write_years(release, keep_share, 1000 * cell_km)
        return work.finish(target, keep_share, left_out)


class _Work:
    """A dataset that is being made."""

    def __init__(
        self,
        new: Path,
        scratch: Scratch,
        before: Memory | None,
        scenes: Sequence[Scene],
        looks: Sequence[Look],
        season: Sequence[int] | None,
    ) -> None:
        self._new, self._scratch, self._before = new, scratch, before
        self._scenes, self._looks, self._season = scenes, looks, season
        self._merged = [look for look in looks if season is None or look.month in season]
        self._names = {scenes[number].tile_id: look.name for look in looks for number in look.scenes}
        self._links = self._former_links()
        self._chain = ""
        """Digest of all that the objects of the years so far were made from."""
        self._parts: dict[str, str] = {}
        self._years: dict[str, int] = {}
        self._reused: dict[str, str] = {}
        """SHA-256 of files that were taken along."""

    def write_years(self, release: Memory | None, keep_share: float, cell_m: float) -> None:
        """Write the parts of all years, and the links; copies are written meanwhile."""
        history = History(self._scratch, cell_m)
        if release is not None:
            history.read_previous(release.folder, min(look.year for look in self._merged))
        self._chain = digest_of([keep_share, None if release is None else release.checksums])
        with ThreadPoolExecutor(1, thread_name_prefix="darts-dataset") as pool:
            copies: list[Future[None]] = []
            for year in sorted({look.year for look in self._looks}):
                for root, name, constant in self._write_year(year, history, keep_share):
                    copies.append(pool.submit(write_copy, root, name, constant))
            write_links(self._new / _LINKS, history.links)
            for copy in copies:
                copy.result()

    def _write_year(self, year: int, history: History, keep_share: float) -> Iterator[_Copy]:
        """Write what has changed of a year, and yield what is to be copied."""
        parts = self._scenes_of(year)
        made_from = {
            part: [[scene.tile_id, scene.digest, self._names[scene.tile_id]] for scene in scenes]
            for part, scenes in parts.items()
        }
        stale = [part for part in parts if not self._reuse(part, made_from[part], year)]
        looks = [look for look in self._merged if look.year == year]
        objects = f"level2/year={year}"
        merged = bool(looks) and self._objects_change(parts, objects, looks, history)
        needed = parts if merged else {part: parts[part] for part in stale}
        if not needed:
            return
        with scratch_folder(self._scratch.folder) as scratch:
            found = read_year(scratch, needed, self._names)
            for part in stale:
                rows, table = found.parts[part]
                name = f"{part}/{DETECTIONS_FILE}"
                write_detections(self._new / name, found.detections, rows, table)
                yield self._new, name, {"source": parts[part][0].source, "year": year}
            found.parts.clear()
            if merged:
                name = f"{objects}/{OBJECTS_FILE}"
                write_objects(self._new / name, year, found.detections, looks, history, keep_share)
                yield self._new, name, {"year": year}

    def _objects_change(self, parts: Iterable[str], objects: str, looks: Sequence[Look], history: History) -> bool:
        """Write the coverage of a year if that changed, and tell whether its objects do; if not, take them along."""
        year = looks[0].year
        coverage = f"coverage/year={year}"
        made_from = [[look.name, [self._scenes[number].digest for number in look.scenes]] for look in looks]
        if not self._reuse(coverage, made_from, year):
            write_coverage(self._new, coverage, looks)
        self._chain = digest_of([self._chain, *(self._parts[part] for part in (*parts, coverage))])
        if self._reuse(objects, self._chain, year, possible=self._links is not None) and self._links is not None:
            history.resume(self._new / objects / OBJECTS_FILE, self._links)
            return False
        return True

    def _scenes_of(self, year: int) -> dict[str, list[Scene]]:
        """Return the scenes of the looks of a year, by part of level 1, each sorted by name."""
        numbers = sorted(number for look in self._looks if look.year == year for number in look.scenes)
        parts: dict[str, list[Scene]] = {}
        for number in numbers:
            parts.setdefault(partition(self._scenes[number], year), []).append(self._scenes[number])
        return dict(sorted(parts.items()))

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
        write_memory(self._new, self._parts, about, self._reused)
        reused = {part for part in self._parts for name in self._reused if name.startswith(f"{part}/")}
        return Built(
            target,
            len(self._scenes),
            len(self._looks),
            counts["level1/"],
            counts["level2/"],
            tuple(sorted(set(self._parts) - reused)),
            tuple(sorted(reused)),
            left_out,
        )

    def _former_links(self) -> "pd.DataFrame | None":
        """Return the links of the dataset before; None where there are none that are as they were written."""
        if self._before is None or not self._before.is_whole(_LINKS):
            return None
        return read_links(self._before.folder / _LINKS)

    def _reuse(self, part: str, made_from: object, year: int, possible: bool = True) -> bool:
        digest = digest_of([VERSION, made_from])
        self._parts[part], self._years[part] = digest, year
        taken = self._before.reuse(part, digest, self._new) if possible and self._before is not None else {}
        self._reused |= taken
        return bool(taken)


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

    def read(scene: Scene) -> Geometries | str:
        try:
            extent = read_extent(scene)
            if known.get(scene.tile_id) != scene.digest:
                check_detections(scene)
        except DatasetError as error:
            return str(error)
        return extent

    fine: list[Scene] = []
    extents: list[Geometries] = []
    for scene, extent in zip(scenes, in_order(read, scenes), strict=True):
        if isinstance(extent, str):
            left_out[str(scene.folder.path)] = extent
        else:
            fine.append(scene)
            extents.append(extent)
    return fine, extents
