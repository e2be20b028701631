"""What a run writes down about itself, up to date after every tile and whole after a kill."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

STAGES = (
    "Loading Optical",
    "Loading ArcticDEM",
    "Loading TCVis",
    "Preprocessing",
    "Segmenting",
    "Postprocessing",
    "Exporting",
)
"""The stages of a tile in their order: the columns of the timer's record."""

_RESERVED_BYTES = 2**21
"""Set aside for the records, so that a run that fills the disk can still say so."""

Status = Literal["success", "skipped", "failed"]


@dataclass
class TileRecord:
    """What happened to one tile.

    Attributes:
        tile_id: Name of the tile.
        output_path: Folder of its results.
        status: "success", "failed", or "skipped" (its finished results match the configuration).
        error: Stage, class and message of what went wrong; empty otherwise.
        stages: Seconds by stage, see :data:`STAGES`.
        steps: Seconds by inner step of the stages.
        is_transient: Whether the same tile may succeed later. Not written.
        ends_run: Whether no other tile can succeed either. Not written.
    """

    tile_id: str
    output_path: Path
    status: Status = "success"
    error: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    is_transient: bool = False
    ends_run: bool = False


class RunRecords:
    """The records of one run: three Parquet files beside the results.

    ``<time>.results.parquet`` has a row per tile: tile_id, output_path, status, error and the seconds of each stage.
    ``<time>.timer.parquet`` has a row per tile and a column per stage. ``<time>.stopwatch.parquet`` has a row per tile
    and a column per inner step. Times are seconds; a stage that did not run is missing, not 0.

    Args:
        folder: Folder of the results. It must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = _new_name(folder)
        self.tiles: list[TileRecord] = []
        self._reserve = folder / f".{self.name}.reserve"
        self._reserve.write_bytes(b"\0" * _RESERVED_BYTES)

    def path(self, kind: str) -> Path:
        """Return the path of one of the run's files, for example ``path("results.parquet")``."""
        return self.folder / f"{self.name}.{kind}"

    def add(self, tile: TileRecord) -> None:
        """Add a tile, in place of what an earlier try left of it, and bring the files up to date."""
        self.tiles = [other for other in self.tiles if other.output_path != tile.output_path]
        self.tiles.append(tile)
        self.write()

    def write(self) -> None:
        """Write the three files; each is replaced in one step, so that a reader never sees half of one.

        On a full disk the space set aside at the start of the run is used.
        """
        try:
            self._write()
        except OSError:
            if not self._reserve.exists():
                raise
            self._reserve.unlink()
            self._write()

    def close(self) -> None:
        """Write the files a last time and give the reserved space back."""
        self.write()
        self._reserve.unlink(missing_ok=True)

    def _write(self) -> None:
        import pandas as pd

        keys = pd.DataFrame({"tile_id": [tile.tile_id for tile in self.tiles]}, dtype="string")
        results = keys.assign(
            output_path=pd.array([str(tile.output_path) for tile in self.tiles], dtype="string"),
            status=pd.array([tile.status for tile in self.tiles], dtype="string"),
            error=pd.array([tile.error for tile in self.tiles], dtype="string"),
        )
        timer = pd.DataFrame([tile.stages for tile in self.tiles], columns=list(STAGES), dtype="float64")
        columns = {name: "seconds_" + name.lower().replace(" ", "_") for name in STAGES}
        self._replace("results.parquet", pd.concat([results, timer.rename(columns=columns)], axis="columns"))
        self._replace("timer.parquet", pd.concat([keys, timer], axis="columns"))
        steps = pd.DataFrame([tile.steps for tile in self.tiles], dtype="float64")
        self._replace("stopwatch.parquet", pd.concat([keys, steps], axis="columns"))

    def _replace(self, kind: str, table: "pd.DataFrame") -> None:
        target = self.path(kind)
        fresh = target.with_name(f".{target.name}.new")
        try:
            table.to_parquet(fresh, index=False)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)

    def count(self, status: Status) -> int:
        """Count the tiles that ended so."""
        return Counter(tile.status for tile in self.tiles)[status]

    def seconds(self) -> dict[str, float]:
        """Add up the seconds of each stage over all tiles."""
        return {stage: sum(tile.stages.get(stage, 0.0) for tile in self.tiles) for stage in STAGES}


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run left beside its records: files half-written, and reserved space.

    Args:
        folder: Folder of results that no other run holds.
    """
    for pattern in (".*.parquet.new", ".*.reserve"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _new_name(folder: Path) -> str:
    """Name a run by its start in UTC; a number follows where another run started in the same second."""
    start = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
    names = [start, *(f"{start}-{number}" for number in range(2, 1000))]
    return next(name for name in names if not list(folder.glob(f"{name}.*")))
