"""Build a dataset out of the results of many scenes, or update one."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from darts_dataset.catalog import write_catalog
from darts_dataset.changes import Changes, find_changes
from darts_dataset.coverage import write_coverage
from darts_dataset.detections import Year, read_year
from darts_dataset.dictionary import FILE as DICTIONARY
from darts_dataset.dictionary import LINKS, render_dictionary, schema_of
from darts_dataset.errors import CloudyGroundWarning, DatasetError, LeftOutWarning, MixedResultsWarning
from darts_dataset.former import Former, latitudes_of, read_release
from darts_dataset.known import KnownScene, Survey, read_scenes, read_surveys, unchanged, write_scenes
from darts_dataset.level1 import TABLE as DETECTIONS
from darts_dataset.level1 import Kept, partition, positions_of, write_detections
from darts_dataset.level2 import History, write_links, write_objects
from darts_dataset.looks import Look, checked_season, divide_of, find_looks, parted
from darts_dataset.memory import FILE as MEMORY_FILE
from darts_dataset.memory import Memory, StartOverError, digest_of, write_memory
from darts_dataset.parallel import in_order
from darts_dataset.scenes import Scene, describe_clouds, find_scenes
from darts_dataset.scratch import Scratch, scratch_folder
from darts_dataset.tables import cells_along, read_attributes, table_bounds, write_copy
from darts_utils import ParameterError
from darts_utils.results import describe_mixture
from darts_utils.staging import replaced_folder

_Beside = tuple[Callable[..., None], Path, str, Any]
"""What is written while the next tables are made: by which function, in which dataset, and what."""
_LINKS = "links.parquet"
VERSION = 6
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
        written: Parts of which something was made.
        reused: Parts that were taken along from the dataset before as a whole, since nothing changed.
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
    results: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    previous: str | os.PathLike[str] | None = None,
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
        What was made. Scenes with damaged or incomplete results, and folders without any, are left out.

    Raises:
        DatasetError: If there are no results, a place of them does not exist, there are none of the season, several are
            of one scene and nothing says which counts, something else is at `out`, or no dataset at `previous`.
        ParameterError: If a number is out of its range.
        OSError: If a file cannot be written.

    Warns:
        LeftOutWarning: For each scene or folder that is left out.
        CloudyGroundWarning: If ground under clouds counts as seen in some results.
        MixedResultsWarning: If the results are those of several models or settings, by their manifests.
    """
    if not 0 <= keep_share <= 1:
        raise ParameterError(f"keep_share is {keep_share}; expected a share of the looks, from 0 to 1.")
    if not cell_km > 0:
        raise ParameterError(f"cell_km is {cell_km}; expected a length in kilometres above 0.")
    months = checked_season(season)
    target = Path(out)
    former = _before(target)
    release = None if previous is None else Memory.read(Path(previous))
    given = [results] if isinstance(results, str | os.PathLike) else list(results)
    found = find_scenes(given, prefer)
    left_out = dict(found.left_out)
    scenes, surveys = read_surveys(found.scenes, former[1], left_out)
    for path, reason in left_out.items():
        warnings.warn(f"{path} is left out: {reason}", LeftOutWarning, stacklevel=2)
    if not scenes:
        why = next((f" {text if path in text else f'{path}: {text}'}" for path, text in left_out.items()), "")
        more = f" {len(left_out) - 1} more are left out." if len(left_out) > 1 else ""
        raise DatasetError(f"{', '.join(map(str, given))}: none of the results can be used.{why}{more}")
    if mixture := describe_mixture(scene.folder.manifest for scene in scenes):
        warnings.warn(
            "The results were not made alike, so that what differs between looks and years may be due to that: "
            f"{mixture}.",
            MixedResultsWarning,
            stacklevel=2,
        )
    if clouds := describe_clouds(scenes):
        warnings.warn(
            f"Clouds, their shadows and snow count as seen in {clouds}, and slumps below look gone. Map with "
            '`quality_level="high_quality"` (--quality-level) to leave such ground out.',
            CloudyGroundWarning,
            stacklevel=2,
        )
    footprints = [each.footprint for each in surveys]
    divide = divide_of(np.concatenate([[[each.south, each.north] for each in footprints], latitudes_of(release)]))
    if divide:  # Planes of scenes hang on those of others.
        former, footprints = (None, {}), parted(footprints, divide)
        surveys = [replace(survey, footprint=each) for survey, each in zip(surveys, footprints, strict=True)]
    looks = find_looks(scenes, footprints)
    if months and not any(look.month in months for look in looks):
        found_months = sorted({look.month for look in looks})
        raise DatasetError(f"No look is of the season {months}; there are looks of the months {found_months}.")

    def made(before: Memory | None, known: Mapping[str, KnownScene]) -> Built:
        # Beside the new dataset, so that the next build of the dataset removes what a kill leaves of both.
        with replaced_folder(target, DatasetError) as new, scratch_folder(new.parent) as scratch:
            about = {
                "keep_share": keep_share,
                "divide": divide,
                "season": months,
                "previous": None if release is None else digest_of(release.checksums),
                "version": VERSION,
            }
            work = _Work(new, scratch, before, known, scenes, surveys, looks, about)
            work.write_years([] if release is None else read_release(release, divide), 1000 * cell_km)
            return work.finish(target, left_out)

    try:
        return made(*former)
    except StartOverError:
        return made(None, {})


class _Work:
    """A dataset that is being made."""

    def __init__(
        self,
        new: Path,
        scratch: Scratch,
        before: Memory | None,
        known: Mapping[str, KnownScene],
        scenes: Sequence[Scene],
        surveys: Sequence[Survey],
        looks: Sequence[Look],
        about: Mapping[str, Any],
    ) -> None:
        self._new, self._scratch, self._about = new, scratch, about
        self._before, self._known = before, known
        self._scenes, self._surveys, self._looks = scenes, surveys, looks
        season = about["season"]
        self._merged = [look for look in looks if season is None or look.month in season]
        self._names = {scenes[number].tile_id: look.name for look in looks for number in look.scenes}
        self._positions = positions_of([each.footprint for each in surveys])
        self._parts: dict[str, str] = {}
        """Digests of what parts are made from."""
        self._years: dict[str, int] = {}
        """Folders of tables."""
        self._reused: dict[str, str] = {}
        """SHA-256 of files that were taken along."""

    def write_years(self, release: Sequence[Former], cell_m: float) -> None:
        """Write the parts of all years, and the links; copies are written meanwhile."""
        history, changes = History(self._scratch, cell_m), self._changes(release)
        first = min(look.year for look in self._merged)
        for number, former in enumerate(release):
            rows = np.arange(len(former)) if changes is None else changes.release[number]
            history.add_previous(former, rows, first)
        with ThreadPoolExecutor(1, thread_name_prefix="darts-dataset") as pool:
            copies: list[Future[None]] = []
            for year in sorted({look.year for look in self._looks}):
                copies += [pool.submit(write, *what) for write, *what in self._write_year(year, history, changes)]
            if changes is None or len(changes.ids) or history.links or not self._take_along("links"):
                write_links(self._new / _LINKS, history.links, self._carried(changes))
            for copy in copies:
                copy.result()

    def _write_year(self, year: int, history: History, changes: Changes | None) -> Iterator[_Beside]:
        """Write what has changed of a year, and yield what is to be copied."""
        tables = self._tables_of(year)
        self._years |= {_folder(name): year for name in tables}
        stale = [
            name
            for name, scenes in tables.items()
            if not self._reuse(name, [[scene.tile_id, scene.digest, self._names[scene.tile_id]] for scene in scenes])
        ]
        looks = [look for look in self._merged if look.year == year]
        again = None if changes is None else changes.years.get(year)
        if looks:
            coverage = f"coverage/year={year}"
            if not self._reuse(coverage, [[look.plane, shapely.to_wkb(look.extent, hex=True)] for look in looks]):
                yield write_coverage, self._new, coverage, looks
            self._years |= {coverage: year, f"level2/year={year}": year}
        idle = changes is not None and year in changes.idle and self._take_along(f"level2/year={year}")
        merged = bool(looks) and not idle
        kept = {name: Kept(self._before, name, unchanged(self._known, tables[name], self._names)) for name in stale}
        fresh = {name: [each for each in tables[name] if each.tile_id not in kept[name].scenes] for name in stale}
        needed = {scene.tile_id: scene for some in fresh.values() for scene in some}
        for scene in (scene for scenes in tables.values() for scene in scenes) if merged else ():
            if again is None or scene.tile_id in again.scenes:
                needed[scene.tile_id] = scene
        with scratch_folder(self._scratch.folder) as scratch:
            found = None
            if needed:
                scenes = [needed[name] for name in sorted(needed)]
                found = read_year(scratch, scenes, self._names, {name: some for name, some in fresh.items() if some})
            for name in self._write_tables(kept, found):
                yield write_copy, self._new, name, {"source": tables[_table(name)][0].source, "year": year}
            if merged:
                detections, share = None if found is None else found.detections, self._about["keep_share"]
                new, same = write_objects(self._new, year, detections, looks, history, share, again)
                for name in same:
                    self._take_along(_table(name))
                for name in new:
                    yield write_copy, self._new, name, {"year": year}

    def _write_tables(self, kept: Mapping[str, Kept], found: Year | None) -> Iterator[str]:
        """Write the tables of level 1 that have changed, and yield their names."""

        def write(name: str) -> str:
            new = None
            if found is not None and name in found.parts:
                new = (found.detections, *found.parts.pop(name))
            write_detections(self._new / f"{name}.parquet", kept[name], new)
            return f"{name}.parquet"

        return in_order(write, kept)

    def _changes(self, release: Sequence[Former]) -> Changes | None:
        """Return what is done again of the objects; None for all."""
        before = self._before
        if before is None or any(before.about[name] != self._about[name] for name in ("keep_share", "season")):
            return None
        if not before.is_whole(_LINKS) or not all(before.has(f"level2/year={year}") for year in before.years()):
            return None
        names = before.about["previous"] != self._about["previous"]
        # What is older than the first year is known from the beginning.
        names |= bool(release) and before.years()[0] != min(look.year for look in self._merged)
        partial = bool(self._about["keep_share"])
        scenes, surveys = self._scenes, self._surveys
        return find_changes(before, release, self._known, self._looks, scenes, surveys, names or partial, partial)

    def _carried(self, changes: Changes | None) -> pa.Table:
        """Return the links of the dataset before that stay."""
        if changes is None or self._before is None:
            return schema_of(LINKS).empty_table()
        links = read_attributes(self._before.file(_LINKS))
        ids = pc.coalesce(links["object_id_from"], links["object_id_to"])
        return links.filter(pc.invert(pc.is_in(ids, value_set=changes.ids)))

    def _tables_of(self, year: int) -> dict[str, list[Scene]]:
        """Return the scenes of the looks of a year, by table of level 1, each sorted by name.

        Those without detections are in no table, but where their part has none at all.
        """
        parts: dict[str, list[int]] = {}
        for number in sorted(number for look in self._looks if look.year == year for number in look.scenes):
            parts.setdefault(partition(self._scenes[number], year), []).append(number)
        tables = {}
        for part, numbers in sorted(parts.items()):
            some = np.array([number for number in numbers if self._surveys[number].rows] or numbers)
            some = some[np.argsort(self._positions[some], kind="stable")]
            rows = np.array([self._surveys[number].rows for number in some])
            for name, cell in cells_along(self._positions[some], rows, DETECTIONS):
                tables[f"{part}/{name}"] = [self._scenes[number] for number in sorted(some[cell])]
        return tables

    def finish(self, target: Path, left_out: dict[str, str]) -> Built:
        files = {part: sorted((self._new / part).glob("*.parquet")) for part in self._years}
        found = {part: [table_bounds(path) for path in paths] for part, paths in files.items()}
        boxes = {part: [box for _, box in each if box is not None] for part, each in found.items()}
        write_catalog(self._new, {part: (self._years[part], _around(each)) for part, each in boxes.items() if each})
        (self._new / DICTIONARY).write_text(render_dictionary(), "utf-8")
        write_scenes(self._new, self._known_scenes())
        counts = {
            level: sum(count for part, each in found.items() for count, _ in each if part.startswith(level))
            for level in ("level1/", "level2/")
        }
        about = {
            "scenes": {scene.tile_id: scene.digest for scene in self._scenes},
            "looks": len(self._looks),
            "detections": counts["level1/"],
            "objects": counts["level2/"],
            **self._about,
        }
        write_memory(self._new, self._parts, about, self._reused)
        written = {
            part
            for part, paths in files.items()
            if any(path.relative_to(self._new).as_posix() not in self._reused for path in paths)
        }
        return Built(
            target,
            len(self._scenes),
            len(self._looks),
            counts["level1/"],
            counts["level2/"],
            tuple(sorted(written)),
            tuple(sorted(set(files) - written)),
            left_out,
        )

    def _known_scenes(self) -> dict[str, KnownScene]:
        """Return what is to be remembered of all scenes."""
        known = {
            self._scenes[number].tile_id: KnownScene(self._surveys[number], look.name, look.year)
            for look in self._looks
            for number in look.scenes
        }
        return dict(sorted(known.items()))

    def _reuse(self, part: str, made_from: object) -> bool:
        """Take a part along if it was made from the same, and remember what it is made from."""
        digest = self._parts[part] = digest_of([VERSION, made_from])
        return self._take_along(part, digest)

    def _take_along(self, part: str, inputs: str | None = None) -> bool:
        taken = None if self._before is None else self._before.reuse(part, self._new, inputs)
        self._reused |= taken or {}
        return taken is not None


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _table(name: str) -> str:
    return name.removesuffix(".parquet")


def _around(boxes: Sequence[Sequence[float]]) -> list[float]:
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    return [*low.tolist(), *high.tolist()]


def _before(target: Path) -> tuple[Memory | None, dict[str, KnownScene]]:
    """Return what the dataset at the target remembers, and its scenes; nothing where that is not as it was written."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None, {}
    if not (target / MEMORY_FILE).is_file():
        raise DatasetError(f"{target} holds something that is no dataset; choose a new folder, or one of a dataset.")
    memory = Memory.read(target)
    if [memory.about.get(name) for name in ("version", "divide")] != [VERSION, 0] or not memory.verify():
        return None, {}
    try:
        return memory, read_scenes(memory)
    except StartOverError:
        return None, {}
