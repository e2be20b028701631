"""Check a dataset: files, columns, geometries, and what must hold between tables."""

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely

from darts_dataset.dictionary import COLUMNS, DETECTIONS, LINKS, OBJECTS, SEEN, schema_of
from darts_dataset.geometry import NORTH, SOUTH, are_valid, to_plane
from darts_dataset.memory import CHECKSUMS, Memory, file_digest
from darts_dataset.tables import geometry_columns, read_attributes, read_links, read_wkb

_AREAS = ("area_m2", "majority_area_m2")
_AREA_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        path: The dataset.
        failures: What is wrong, a sentence each that names the file.
        notes: What is worth a word: files that do not belong to it.
    """

    path: Path
    failures: tuple[str, ...]
    notes: tuple[str, ...]


def check(folder: str | os.PathLike[str]) -> Checked:
    """Check a dataset.

    Every file has the checksum that was written for it, and no checksum is lost; every table has the columns of the
    data dictionary; outlines are valid, and areas are theirs; ids are unique within a year; no object has more hits
    than looks, and its detections are in level 1; links lead from and to objects that are there.

    Args:
        folder: The dataset.

    Returns:
        What was found.

    Raises:
        DatasetError: If the folder holds no dataset.
    """
    root = Path(folder)
    memory = Memory.read(root)
    failures = list(_wrong_files(root, memory))
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    others = present - set(memory.checksums) - {CHECKSUMS}
    notes = [f"{name} does not belong to the dataset." for name in sorted(others)]
    if not failures:
        failures = list(_wrong_content(root, memory.about.get("divide", 0)))
    return Checked(root, tuple(failures), tuple(notes))


def info(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Say what is in a dataset.

    Args:
        folder: The dataset.

    Returns:
        ``scenes``, ``looks``, ``detections``, ``objects``: numbers; ``years``: by year, ``objects``, ``area_km2`` that
        any look has, ``majority_area_km2`` that at least half of those have which saw it, ``seen_km2`` and the number
        of links by relation; ``season``: the months whose looks were merged, None for all.

    Raises:
        DatasetError: If the folder holds no dataset.
    """
    root = Path(folder)
    about = Memory.read(root).about
    links = read_links(root / "links.parquet")
    years: dict[str, dict[str, object]] = {}
    for part in sorted(root.glob("level2/year=*")):
        year = part.name.partition("=")[2]
        tables = [read_attributes(path) for path in sorted(part.glob("*.parquet"))]
        areas = {name: np.concatenate([table[name].to_numpy() for table in tables]) for name in _AREAS}
        seen = read_attributes(root / "coverage" / part.name / "seen.parquet")
        relations = links.loc[links["year_to"] == int(year), "relation"].value_counts()
        years[year] = {
            "objects": sum(map(len, tables)),
            "area_km2": float(np.sum(areas["area_m2"])) / 1e6,
            "majority_area_km2": float(np.sum(areas["majority_area_m2"])) / 1e6,
            "seen_km2": float(np.sum(seen["area_km2"].to_numpy())),
            "links": {name: int(relations.get(name, 0)) for name in ("same", "merged", "split", "new", "gone")},
        }
    numbers = {name: about[name] for name in ("looks", "detections", "objects")}
    return {"scenes": len(about["scenes"]), **numbers, "season": about.get("season"), "years": years}


def _wrong_files(root: Path, memory: Memory) -> Iterator[str]:
    if "files" in memory.about and not memory.lists_written():  # older datasets do not tell
        yield f"{CHECKSUMS} was changed: it does not list the files that were written, as dataset.json tells them."
    for name, digest in memory.checksums.items():
        path = root / name
        if not path.is_file():
            yield f"{name} is missing."
        elif file_digest(path) != digest:
            yield f"{name} was changed: its SHA-256 differs from the one in {CHECKSUMS}."


def _wrong_content(root: Path, divide: float) -> Iterator[str]:
    detections: set[str] = set()
    for path in sorted(root.glob("level1/*/*/*.parquet")):
        frame = yield from _checked_table(root, path, DETECTIONS, divide)
        if frame is None:
            return
        detections |= set(frame["object_uid"])
    ids: set[str] = set()
    for part in sorted(root.glob("level2/*")):
        frames, paths = [], sorted(part.glob("*.parquet"))
        for path in paths:
            frame = yield from _checked_table(root, path, OBJECTS, divide)
            if frame is None:
                return
            frames.append(frame)
        whole = pd.concat(frames, ignore_index=True)
        name = (paths[0] if len(paths) == 1 else part).relative_to(root).as_posix()
        yield from _wrong_objects(name, whole, detections)
        ids |= set(whole["object_id"])
    for path in sorted(root.glob("coverage/*/seen.parquet")):
        yield from _checked_table(root, path, SEEN, divide)
    links = read_links(root / "links.parquet")
    if list(links.columns) != list(COLUMNS[LINKS]):
        yield f"links.parquet has the columns {', '.join(links.columns)}; expected {', '.join(COLUMNS[LINKS])}."
    elif unknown := set(links["object_id_to"].dropna()) - ids:
        yield f"links.parquet leads to {len(unknown)} objects that are nowhere in level 2, {min(unknown)} for example."


def _checked_table(root: Path, path: Path, table: str, divide: float) -> Generator[str, None, pd.DataFrame | None]:
    name = path.relative_to(root).as_posix()
    attributes = read_attributes(path)
    expected = schema_of(table)
    if [(field.name, field.type) for field in attributes.schema] != [(field.name, field.type) for field in expected]:
        present, wanted = (
            ", ".join(f"{each.name} ({each.type})" for each in fields) for fields in (attributes.schema, expected)
        )
        yield f"{name} has the columns {present}; expected {wanted}. What follows it was not checked."
        return None
    frame: pd.DataFrame = attributes.to_pandas()
    for column in geometry_columns(pq.read_schema(path)):
        first = 0
        for wkb in read_wkb(path, column):
            geometries = np.asarray(shapely.from_wkb(wkb.to_numpy(zero_copy_only=False)), object)
            bad = int((~are_valid(geometries)).sum())
            if bad:
                yield f"{name}: {bad} geometries in {column} are not valid."
            areas = dict(zip(("geometry", "majority"), _AREAS, strict=True)) if table == OBJECTS else {}
            if column in areas:
                rows = frame.iloc[first : first + len(geometries)]
                found = np.where(
                    rows["lat"] >= divide,
                    shapely.area(to_plane(geometries, NORTH)),
                    shapely.area(to_plane(geometries, SOUTH)),
                )
                wrong = ~np.isclose(found, rows[areas[column]], rtol=_AREA_TOLERANCE, atol=1e-3)
                if wrong.any():
                    yield f"{name}: {int(wrong.sum())} areas in {areas[column]} are not those of {column}."
            first += len(geometries)
    return frame


def _wrong_objects(name: str, frame: pd.DataFrame, detections: set[str]) -> Iterator[str]:
    twice = frame["object_id"][frame["object_id"].duplicated()]
    if len(twice):
        yield f"{name}: {len(twice)} ids are there more than once, {twice.iloc[0]} for example."
    if (frame["n_hits"] > frame["n_looks"]).any():
        yield f"{name}: objects have more hits than looks."
    listed = [each for row in frame["detections"] for each in row]
    if len(listed) != len(set(listed)):
        yield f"{name}: a detection belongs to several objects."
    if lost := set(listed) - detections:
        yield f"{name}: {len(lost)} detections are not in level 1, {min(lost)} for example."
