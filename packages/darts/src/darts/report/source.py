"""What a report tells of: the table of a run, and what one of its tiles says of models and configuration."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from darts.run.history import read_run
from darts.run.messages import without_places
from darts_utils import ManifestError, ResultFolder

MOST_TILES = 100
"""Tiles up to which each has a page, and QGIS a project."""
_DEPTH = 4
"""Folders below that of the results in which a tile may lie."""


@dataclass(frozen=True)
class RunSource:
    """A run to report on.

    Attributes:
        output: Folder of its results, where it lies now.
        name: Name of the run: its start in UTC.
        table: A row per tile, see `RunRecords`, with `folder` (path of its results below `output` with slashes, empty
            where they are not there) and errors without what names the machine.
        models: Of each its `name`, `file`, `sha256`, and of its card the `description`, `architecture` and `license`.
        configuration: Options on which results depend, by name.
        versions: Versions of the software, by name.
        planned: Tiles that the run had to do; None where that is not known.
    """

    output: Path
    name: str
    table: pd.DataFrame
    models: list[dict[str, str]]
    configuration: dict[str, object]
    versions: dict[str, str]
    planned: int | None


def read_source(output: Path, run: str | None = None) -> RunSource:
    """Read a run that wrote into a folder of results, by default the newest.

    Only the run's own table is read, and the manifest of one finished tile; up to 100 tiles, also the Items of those of
    which the table does not say where they lie.

    Raises:
        ConfigurationError: If there are no records of a run that can be read.
    """
    name, table, planned = read_run(output, run)
    table = table.reset_index(drop=True)
    for column in ("objects", "area_m2", "mean_probability", "reliable", "cloudy"):
        table[column] = _numbers(table.get(column), len(table))
    for column in ("acquired", "footprint", "error"):
        table[column] = table[column].astype(object).where(table[column].notna(), "") if column in table else ""
    table["folder"] = [_folder_now(output, str(path)) for path in table["output_path"]]
    if len(table) <= MOST_TILES:
        table["footprint"] = [
            known or _footprint_of_item(output / folder) if folder else known
            for known, folder in zip(table["footprint"], table["folder"], strict=True)
        ]
    known = _known_places(output / f"{name}.config.toml")
    table["error"] = [without_places(str(text), known) for text in table["error"]]
    metadata = _metadata(output, table)
    versions = metadata.get("versions")
    configuration = metadata.get("configuration")
    return RunSource(
        output,
        name,
        table,
        _models(metadata.get("models")),
        configuration if isinstance(configuration, dict) else {},
        {key: str(value) for key, value in versions.items()} if isinstance(versions, dict) else {},
        planned,
    )


def _numbers(given: pd.Series | None, count: int) -> pd.Series:
    if given is None:
        return pd.Series([float("nan")] * count, dtype="float64")
    return pd.to_numeric(given, errors="coerce").astype("Float64").astype("float64")


def _folder_now(output: Path, then: str) -> str:
    """Find the folder of a tile below that of the results, which may have been moved since."""
    pure = PureWindowsPath(then) if "\\" in then else PurePosixPath(then)
    for depth in range(1, min(_DEPTH, len(pure.parts)) + 1):
        below = Path(*pure.parts[-depth:])
        if not below.is_absolute() and (output / below).is_dir():
            return below.as_posix()
    return ""


def _footprint_of_item(folder: Path) -> str:
    """Return the bounding box of a tile's Item, for results of a release whose records hold no footprint."""
    try:
        west, south, east, north = map(float, json.loads((folder / "item.json").read_text("utf-8"))["bbox"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    east += 360 * (east < west)  # across the antimeridian
    return f"POLYGON (({west} {south}, {east} {south}, {east} {north}, {west} {north}, {west} {south}))"


def _known_places(configuration: Path) -> list[str]:
    """List the folders that a run was configured with."""
    try:
        content = tomllib.loads(configuration.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    texts = _texts(content)
    return [text for text in texts if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if len(value) > 1 else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in _texts(part)]


def _metadata(output: Path, table: pd.DataFrame) -> dict[str, object]:
    """Return the metadata of the first tile whose manifest can be read."""
    finished = table[table["status"].isin(["success", "skipped"]) & (table["folder"] != "")]
    for folder in finished["folder"]:
        try:
            metadata = ResultFolder.open(output / folder).manifest.get("metadata")
        except ManifestError:
            continue
        return metadata if isinstance(metadata, dict) else {}
    return {}


def _models(found: object) -> list[dict[str, str]]:
    models = []
    for name, properties in found.items() if isinstance(found, dict) else ():
        known = properties if isinstance(properties, dict) else {}
        card = known["card"] if isinstance(known.get("card"), dict) else {}
        about = {"name": name, "file": known.get("file"), "sha256": known.get("sha256"), "license": card.get("license")}
        about |= {"description": card.get("description"), "architecture": card.get("mlm:architecture")}
        models.append({what: str(text or "") for what, text in about.items()})
    return models
