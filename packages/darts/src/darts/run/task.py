"""What goes through the stages of a run: a tile, its job, its record."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from darts.run.records import TileRecord

if TYPE_CHECKING:
    import xarray as xr

Lane: TypeAlias = Literal["before", "network", "after"]
"""What a stage does for the network, the slowest part of a tile: prepare its input, be it, or use its output."""


@dataclass(frozen=True)
class TileJob:
    """One tile to process.

    Attributes:
        tile_id: Its name.
        source: Folder (or name) that the optical data comes from.
        output: Folder of its results.
        inputs: Files that the optical data is read from.
    """

    tile_id: str
    source: Path
    output: Path
    inputs: Sequence[Path] = ()


class Work:
    """A tile on its way through the stages.

    Args:
        job: What to process.
        fingerprint: What the results depend on, hashed.
        depends_on: The same in plain words, for the manifest.

    Attributes:
        record: What happened so far.
        tile: The tile, once it is loaded.
        arcticdem: Elevation around the tile, between loading and preprocessing.
        tcvis: Trends around the tile, likewise.
    """

    def __init__(self, job: TileJob, fingerprint: str = "", depends_on: dict[str, Any] | None = None) -> None:
        self.job = job
        self.fingerprint = fingerprint
        self.depends_on = depends_on or {}
        self.record = TileRecord(job.tile_id, job.output)
        self.drop()

    def drop(self) -> None:
        """Let go of all data."""
        self.tile: xr.Dataset | None = None
        self.arcticdem: xr.Dataset | None = None
        self.tcvis: xr.Dataset | None = None

    @property
    def nbytes(self) -> int:
        """Size of the tile in memory."""
        return 0 if self.tile is None else int(self.tile.nbytes)

    def peek(self) -> "xr.Dataset":
        """Return the tile."""
        if self.tile is None:
            raise RuntimeError(f"Tile {self.job.tile_id} is asked for before it is loaded.")
        return self.tile

    def take(self) -> "xr.Dataset":
        """Hand the tile over to the next stage, so that its memory is free as soon as that stage has done with it."""
        tile, self.tile = self.peek(), None
        return tile


@dataclass(frozen=True)
class Stage:
    """One step of a tile.

    Attributes:
        name: As it stands in the records.
        lane: What it does for the network.
        run: Takes the work one step further, in place.
        writes: Whether it writes results, and so should not be left half-way when a run is interrupted.
    """

    name: str
    lane: Lane
    run: Callable[[Work], None]
    writes: bool = False
