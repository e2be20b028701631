"""Fold the journal of a run into its three Parquet files."""

import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from darts.run.journal import JOURNAL, STAGES, Entry, journals, read_entries, read_header
from darts_utils import atomic_path

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

KINDS = ("stopwatch.parquet", "timer.parquet", "results.parquet")
"""The files in the order in which they are replaced; where the last one is new, all are."""

_ROWS = 8192
_RUN_KEY = b"darts_run"
_FURTHER = {
    "host": "string",
    "device": "string",
    "attempt": "int64",
    "objects": "Int64",
    "area_m2": "float64",
    "reliable": "float64",
    "cloudy": "float64",
    "retryable": "bool",
    "mean_probability": "float64",
    "acquired": "string",
    "footprint": "string",
}
_DEFAULTS = {"attempt": 1, "retryable": False}


def fold(folder: Path, name: str, *, killed: bool = False) -> None:
    """Write the three Parquet files of a run out of its journal.

    Each file is replaced in one step, and folding once more gives the same. Of several lines about one tile the last
    one counts. Memory holds the names of the tiles and some thousand rows, however many there are.

    Args:
        folder: Folder of the results.
        name: Name of the run.
        killed: Whether to write down that the run was killed, and could not do it itself.

    Raises:
        OSError: If the journal cannot be read or a file cannot be written; the journal is left as it is.
        ValueError: If a later release wrote the journal.
    """
    journal = folder / f"{name}{JOURNAL}"
    size = journal.stat().st_size
    about = {"journal_bytes": size, "killed": killed, **read_header(journal)}
    rows, steps = _survey(journal, size)
    shapes = _shapes(steps)
    with ExitStack() as files:
        writers = {
            kind: files.enter_context(_replacing(folder / f"{name}.{kind}", _schema(shapes[kind], about)))
            for kind in reversed(KINDS)  # They are left, and so replaced, in reverse.
        }
        for batch in _batches(journal, size, rows):
            for kind, write in writers.items():
                write([_row(entry, kind) for entry in batch])


def fold_ended(folder: Path, running: Collection[str] = ()) -> list[str]:
    """Fold the journals of runs that ended without doing so, because they were killed or had no space.

    One that cannot be read or folded, or that was damaged after it had been folded, is left as it is, with a warning in
    the log that names it.

    Args:
        folder: Folder of the results.
        running: Names of runs that go on now and are left alone.

    Returns:
        The names of the runs whose journals were folded.
    """
    folded = []
    for name, journal in journals(folder).items():
        try:
            if name in running or is_folded(folder, name):
                continue
            if has_lost_lines(folder, name):
                logger.warning(
                    "The journal %s tells of fewer tiles than the Parquet files that were made of it: it was damaged "
                    "since, and they are kept as they are. Remove the journal if you do not need it.",
                    journal,
                )
                continue
            fold(folder, name, killed=True)
            folded.append(name)
        except (OSError, ValueError) as error:
            logger.warning(
                "The journal %s cannot be folded into Parquet files (%s). It is left as it is; "
                "remove it if you do not need it.",
                journal,
                error,
            )
    return folded


def is_folded(folder: Path, name: str) -> bool:
    """Say whether the Parquet files of a run hold all that its journal does.

    The size of the journal decides, which the files note; times would not survive a copy to another disk.

    Raises:
        OSError: If there is no journal.
    """
    size = (folder / f"{name}{JOURNAL}").stat().st_size
    paths = [folder / f"{name}.{kind}" for kind in KINDS]
    return all(path.is_file() for path in paths) and read_about(paths[-1]).get("journal_bytes") == size


def was_killed(folder: Path, name: str) -> bool:
    """Say of a run that does not go on whether it was killed: then its journal is not folded, or others did that."""
    results = folder / f"{name}.{KINDS[-1]}"
    return not results.is_file() or bool(read_about(results).get("killed"))


def has_lost_lines(folder: Path, name: str) -> bool:
    """Say whether a journal tells of fewer tiles than the Parquet files that were made of it before.

    Raises:
        OSError: If there is no journal.
    """
    results, journal = folder / f"{name}.{KINDS[-1]}", folder / f"{name}{JOURNAL}"
    if not results.is_file() or "journal_bytes" not in read_about(results):
        return False
    try:
        rows = pq.read_metadata(results).num_rows
    except Exception:  # noqa: BLE001 - a damaged file may make the reader raise anything
        return False
    tiles = {entry["output_path"] for entry in read_entries(journal, journal.stat().st_size, warn=False)}
    return len(tiles) < rows


def read_about(results: Path) -> dict[str, object]:
    """Read what the results of a run say about the run as a whole: the header of its journal, and the journal's size.

    Returns:
        The header; empty for records of release 0.1, and where the file is damaged.
    """
    try:
        about = json.loads((pq.read_schema(results).metadata or {}).get(_RUN_KEY, b"{}"))
    except Exception:  # noqa: BLE001 - a damaged file may make the reader raise anything
        return {}
    return about if isinstance(about, dict) else {}


def journal_table(entries: list[Entry], kind: str) -> "pd.DataFrame":
    """Return lines of a journal as rows of "results.parquet" or "timer.parquet"."""
    schema = _schema(_shapes([])[kind], {})
    table: pd.DataFrame = pa.Table.from_pylist([_row(entry, kind) for entry in entries], schema=schema).to_pandas()
    return table


def _survey(journal: Path, size: int) -> tuple[set[int], list[str]]:
    """Find the last line about each tile, by its number among the lines, and the steps in the order of these lines."""
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for number, entry in enumerate(read_entries(journal, size)):
        steps = tuple(entry["steps"])
        found.pop(entry["output_path"], None)
        found[entry["output_path"]] = number, known.setdefault(steps, steps)
    names = dict.fromkeys(name for steps in dict.fromkeys(steps for _, steps in found.values()) for name in steps)
    names.pop("tile_id", None)
    return {number for number, _ in found.values()}, list(names)


def _batches(journal: Path, size: int, rows: set[int]) -> Iterator[list[Entry]]:
    chosen = (entry for number, entry in enumerate(read_entries(journal, size, warn=False)) if number in rows)
    while batch := list(islice(chosen, _ROWS)):
        yield batch


def _shapes(steps: list[str]) -> dict[str, dict[str, str]]:
    """Return the columns of each file with their types, as pandas names them."""
    keys = {"tile_id": "string"}
    texts = dict.fromkeys(("output_path", "status", "error"), "string")
    return {
        "results.parquet": keys | texts | {_seconds(stage): "float64" for stage in STAGES} | _FURTHER,
        "timer.parquet": keys | dict.fromkeys(STAGES, "float64"),
        "stopwatch.parquet": keys | dict.fromkeys(steps, "float64"),
    }


def _row(entry: Entry, kind: str) -> dict[str, object]:
    """Return what a file says of a tile, by column; what is no column of it does not count."""
    if kind == "results.parquet":
        seconds = {_seconds(stage): value for stage, value in entry["stages"].items()}
        return {name: _readable(value) for name, value in (_DEFAULTS | entry | seconds).items()}
    return {**entry["stages" if kind == "timer.parquet" else "steps"], "tile_id": _readable(entry["tile_id"])}


def _readable(value: object) -> object:
    """Return a text so that UTF-8 can hold it, which names of files need not be, and anything else as it is."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def _seconds(stage: str) -> str:
    return "seconds_" + stage.lower().replace(" ", "_")


def _schema(columns: dict[str, str], about: dict[str, object]) -> pa.Schema:
    import pandas as pd

    empty = pd.DataFrame(columns=list(columns)).astype(columns)
    schema = pa.Schema.from_pandas(empty, preserve_index=False)
    return schema.with_metadata({**schema.metadata, _RUN_KEY: json.dumps(about).encode()})


@contextmanager
def _replacing(target: Path, schema: pa.Schema) -> Iterator[Callable[[list[dict[str, object]]], None]]:
    """Write a Parquet file under another name, which takes the place of the target at the end."""
    with atomic_path(target) as draft, pq.ParquetWriter(draft, schema) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, schema=schema))
