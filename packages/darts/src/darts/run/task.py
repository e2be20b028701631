"""A task is one tile to process: plain data that any process can be given. Work is a task under way in a process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from darts.run.journal import TileRecord

if TYPE_CHECKING:
    import xarray as xr

    from darts.pipelines.sequential_v2 import _BasePipeline

Lane: TypeAlias = Literal["load", "infer", "write"]
"""What a stage does for the network, the slowest part of a tile: prepare its input, be it, or use its output."""

Trend: TypeAlias = Literal["2000-2019", "2001-2020", "2003-2022", "2005-2024", "by-year"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "auto"]
Engine: TypeAlias = Literal["torch", "openvino"]
Augmentation: TypeAlias = Literal["d4"]
EdgeObjects: TypeAlias = Literal["clip", "remove"]
QualityLevel: TypeAlias = Literal[0, 1, 2, "none", "low_quality", "high_quality"]
Executor: TypeAlias = Literal["overlap", "serial", "dask"]

DEFAULT_PATCH_SIZE = 1024
"""Edge of a patch in pixels, and what the one that "auto" chooses is near."""


def nominal_patch_size(patch_size: "int | str") -> int:
    """Return the edge of a patch in pixels, for "auto" the one that it is near."""
    return DEFAULT_PATCH_SIZE if isinstance(patch_size, str) else patch_size


Pipeline: TypeAlias = "_BasePipeline"
"""What a run needs of a pipeline: its configuration, and the methods that differ by source of images."""


@dataclass(frozen=True, slots=True)
class TileTask:
    """One tile to process.

    Attributes:
        key: What the pipeline knows the tile by.
        tile_id: Its name.
        output: Folder of its results.
        attempt: Which attempt in this run it is, from 1 on.
    """

    key: Any
    tile_id: str
    output: Path
    attempt: int = 1

    def again(self) -> "TileTask":
        """Return the next attempt."""
        return replace(self, attempt=self.attempt + 1)


class TileWork:
    """A tile on its way through the stages of one process.

    Attributes:
        task: What to process.
        record: What happened so far.
        tile: The tile, once it is loaded.
        arcticdem: Elevation around the tile, between loading and preprocessing.
        tcvis: Trends around the tile, likewise.
        inputs: Files that the image was read from, see :func:`darts.run.inputs.describe_inputs`.
        auxiliary: What was read of auxiliary data, see :mod:`darts.run.auxiliary`.
    """

    def __init__(self, task: TileTask) -> None:
        self.task = task
        self.record = TileRecord(task.tile_id, task.output)
        self.inputs: Mapping[str, dict[str, object]] = {}
        self.auxiliary: dict[str, dict[str, object]] = {}
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
            raise RuntimeError(f"Tile {self.task.tile_id} is asked for before it is loaded.")
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
    run: Callable[[TileWork], None]
    writes: bool = False
