"""The fields that all pipelines have, with what checks them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from darts.pipelines.options import AbsolutePath, CubeLocation, Unresolved, option
from darts.run.shards import Shard
from darts.run.task import Augmentation, EdgeObjects, Engine, Executor, Precision, QualityLevel, Trend
from darts_utils import DefaultPaths

MOST_REPORTED = 100
"""Tiles up to which a run writes a report where nothing else is said."""
DEFAULT_EXPORT_BANDS = ("probabilities", "binarized", "polygonized", "extent", "thumbnail")


def as_list(value: object) -> object:
    """Return one name or path as a list of one, and anything else as it is."""
    return [value] if isinstance(value, str | Path) else value


def _number_of_text(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _known_device(value: str | int | None) -> str | int | None:
    chosen = int(value) if isinstance(value, str) and value.isdecimal() else value
    if chosen not in ("cuda", "cpu", "auto", None) and not isinstance(chosen, int):
        raise ValueError("expected 'cuda', 'cpu', 'auto' or the index of a GPU")
    return chosen


def _shard(value: str | None) -> str | None:
    return None if value is None else str(Shard.parse(value))


@dataclass
class PipelineFields:
    """Configuration of a run: what every pipeline has, whatever its source of images."""

    model_files: Annotated[list[AbsolutePath] | None, BeforeValidator(as_list), Unresolved] = option(
        None,
        help="Models of the ensemble, files or folders; default every model in the models folder.",
        panel="Model",
    )
    default_dirs: DefaultPaths = field(default_factory=DefaultPaths, kw_only=True)
    output_data_dir: Annotated[AbsolutePath | None, Unresolved] = option(
        None, help="Folder of the results.", panel="Input and output"
    )
    arcticdem_dir: Annotated[CubeLocation | None, Unresolved] = option(
        None,
        help="ArcticDEM datacube, a folder or s3://bucket/prefix; default by the resolution that the pipeline uses.",
        panel="Auxiliary data",
    )
    tcvis_dir: Annotated[CubeLocation | None, Unresolved] = option(
        None,
        help="TCVIS datacube, a folder or s3://bucket/prefix, or a folder of datacubes that are named by trend "
        "(tctrend2019.darts.icechunk).",
        panel="Auxiliary data",
    )
    trend: Trend = option(
        "2000-2019",
        help="Period of the trends of TCVIS; by-year: the first that ends after the year of the image, else the "
        "newest.",
        panel="Auxiliary data",
    )
    ee_project: str | None = option(
        None, help="Earth Engine project; default that of the login.", panel="Auxiliary data"
    )
    ee_use_highvolume: bool = option(True, help="Use Earth Engine's high-volume endpoint.", panel="Auxiliary data")
    device: Annotated[str | int | None, AfterValidator(_known_device)] = option(
        None,
        help='"cuda", "cpu", a GPU\'s index, or "auto" for a GPU with less than half of its memory in use; '
        "default a GPU where one works.",
        panel="Run",
    )
    tpi_outer_radius: int = option(
        100,
        help="Outer radius of the topographic position index, metres.",
        panel="Features",
        gt=0,
        le=10_000,
        affects_results=True,
    )
    tpi_inner_radius: int = option(
        0,
        help="Inner radius of the topographic position index, metres; above 0 it makes a ring.",
        panel="Features",
        ge=0,
        le=10_000,
        affects_results=True,
    )
    patch_size: Annotated[Annotated[int, Field(gt=0)] | Literal["auto"], BeforeValidator(_number_of_text)] = option(
        1024,
        help="Edge of a patch, pixels; auto for the one near 1024, or near the size that the model was trained with, "
        "that computes fewest pixels of a tile.",
        panel="Model",
        affects_results=True,
    )
    overlap: int = option(256, help="Overlap of patches, pixels.", panel="Model", ge=0, affects_results=True)
    batch_size: int = option(8, help="Patches that the network sees at once.", panel="Model", gt=0, le=4096)
    reflection: int = option(
        0, help="Reflected border around the tile, pixels.", panel="Model", ge=0, affects_results=True
    )
    precision: Precision = option(
        "fp32",
        help="Number format of the network: fp32 gives the same map on every machine; auto takes the fastest that the "
        "device does well.",
        panel="Model",
        affects_results=True,
    )
    engine: Engine = option(
        "torch",
        help="What runs the network: torch, or openvino, which is faster on a CPU (needs darts-nextgen[openvino]).",
        panel="Model",
        affects_results=True,
    )
    tta: Augmentation | None = option(
        None,
        help='"d4" averages over all flips and quarter turns of each patch, at eight times the cost; default off.',
        panel="Model",
        affects_results=True,
    )
    binarization_threshold: float = option(
        0.5, help="A pixel above this probability is slump.", panel="Objects", ge=0, le=1, affects_results=True
    )
    mask_erosion_size: int = option(
        10,
        help="Radius of the disk that erodes the valid area, pixels.",
        panel="Objects",
        ge=0,
        le=10_000,
        affects_results=True,
    )
    edge_erosion_size: Annotated[int | None, Unresolved] = option(
        None,
        help="Border that is cut off the tile, pixels; default as mask_erosion_size, 0 for none.",
        panel="Objects",
        ge=0,
        le=10_000,
        affects_results=True,
    )
    min_object_size: int = option(
        32, help="Objects with fewer pixels are dropped.", panel="Objects", ge=0, le=1_000_000_000, affects_results=True
    )
    edge_objects: EdgeObjects = option(
        "clip",
        help="Objects that reach into the invalid area are cut at its border (clip) or dropped whole (remove).",
        panel="Objects",
        affects_results=True,
    )
    quality_level: Annotated[QualityLevel, BeforeValidator(_number_of_text)] = option(
        1,
        help="Lowest data quality that counts: 0 none, 1 low_quality, 2 high_quality.",
        panel="Objects",
        affects_results=True,
    )
    export_bands: list[str] = option(
        factory=lambda: list(DEFAULT_EXPORT_BANDS),
        help="What is written: probabilities, binarized, polygonized, extent, thumbnail, optical, dem, tcvis, "
        "metadata, probabilities_{class} for another class of the models, or the name of any variable.",
        panel="Input and output",
    )
    write_model_outputs: bool = option(
        False, help="Also write the results of each member of the ensemble.", panel="Input and output"
    )
    overwrite: bool = option(False, help="Compute finished tiles again.", panel="Run")
    keep_finished: bool = option(
        False,
        help="Take complete results of an earlier release with the same options and models as finished.",
        panel="Run",
    )
    offline: bool = option(False, help="Never touch the network.", panel="Run")
    debug_data: bool = option(False, help="Also write the whole tile as NetCDF.", panel="Input and output")
    fail_fast: bool = option(False, help="Stop at the first tile that fails.", panel="Run")
    max_failures: int | None = option(
        None, help="Stop after this many tiles have failed; default never.", panel="Run", gt=0
    )

    executor: Executor = option(
        "overlap",
        help="Load the next tiles and write the last ones while the network is busy (overlap), one tile after the "
        "other (serial), or many on the workers of a cluster (dask); the results are the same.",
        panel="Run",
    )
    threads: int | None = option(
        None, help="Threads of the network on the CPU; default the usable CPUs.", panel="Run", gt=0, le=4096
    )
    workers: int | None = option(
        None, help="For dask: so many worker processes on this machine.", panel="Run", gt=0, le=4096
    )
    scheduler_file: AbsolutePath | None = option(
        None, help="For dask: file of a scheduler, as `darts cluster` writes it.", panel="Run"
    )
    scheduler_address: str | None = option(
        None, help="For dask: address of a scheduler, such as tcp://127.0.0.1:8786.", panel="Run"
    )
    shard: Annotated[str | None, AfterValidator(_shard)] = option(
        None,
        help="Do one share of the tiles, i/n with i from 0 to n-1: those whose name has i as SHA-256 modulo n. Several "
        "shards may write into one folder at once.",
        panel="Run",
    )
    report: bool | None = option(
        None,
        help="Write pages to look at the run, in the folder report of the results; default for up to 100 tiles.",
        panel="Input and output",
    )
    prefetch: int = option(
        1, help="Tiles that may wait before the network, and as many behind it.", panel="Run", ge=0, le=64
    )
