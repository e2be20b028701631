"""A task is one tile to process: plain data that any process can be given. Work is a task under way in a process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from darts.run.journal import TileRecord

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

    from darts_utils import DefaultPaths

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


class Pipeline(Protocol):
    """What a run needs of a pipeline: its configuration, and the methods that differ by source of images."""

    model_files: "list[Path] | None"
    default_dirs: "DefaultPaths"
    output_data_dir: "Path | None"
    arcticdem_dir: "Path | str | None"
    tcvis_dir: "Path | str | None"
    trend: Trend
    ee_project: "str | None"
    ee_use_highvolume: bool
    device: "str | int | None"
    tpi_outer_radius: int
    tpi_inner_radius: int
    patch_size: int | Literal["auto"]
    overlap: int
    batch_size: int
    reflection: int
    precision: Precision
    engine: Engine
    tta: Augmentation | None
    binarization_threshold: float
    mask_erosion_size: int
    edge_erosion_size: "int | None"
    min_object_size: int
    edge_objects: EdgeObjects
    quality_level: QualityLevel
    export_bands: list[str]
    write_model_outputs: bool
    overwrite: bool
    keep_finished: bool
    offline: bool
    debug_data: bool
    fail_fast: bool
    max_failures: "int | None"
    executor: Executor
    prefetch: int
    threads: "int | None"
    workers: "int | None"
    scheduler_file: "Path | None"
    scheduler_address: "str | None"
    shard: "str | None"

    def _named_models(self) -> "list[Path] | None": ...
    def _arcticdem_resolution(self) -> int: ...
    def _get_tile_id(self, tilekey: Any) -> str: ...
    def _tileinfos(self) -> list[tuple[Any, Path]]: ...
    def _load_tile(self, tilekey: Any) -> "xr.Dataset": ...
    def _download_tile(self, tilekey: Any) -> None: ...
    def _tile_year(self, tilekey: Any) -> int | None: ...
    def _tile_inputs(self, tilekey: Any) -> Sequence[Path]: ...
    def _tile_areas(
        self, tasks: "Sequence[TileTask]", failed: dict[str, Exception], *, offline: bool = False
    ) -> "dict[str, GeoBox | Geometry]": ...
    def _broken_images(self, tasks: "Sequence[TileTask]") -> dict[str, str]: ...
    def _images_to_fetch(self, tasks: "Sequence[TileTask]") -> dict[str, int | None]: ...
    def _check_ready(self, tasks: "Sequence[TileTask]") -> None: ...
    def _where_tiles_were_sought(self) -> str: ...
    def _variables(self) -> tuple[str, ...]: ...
    def _how_to_prepare(self) -> str: ...
    def _for_workers(self) -> "Pipeline": ...
    def _note_prepared(self, names: list[str]) -> None: ...
    def _configuration(self) -> dict[str, object]: ...
    def _results_configuration(self) -> dict[str, object]: ...
    def _write_configuration(self, path: Path, **decided: str) -> None: ...


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
