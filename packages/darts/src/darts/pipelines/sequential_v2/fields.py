"""The fields that all pipelines have, with what checks them."""
# ruff: noqa: RUF009 - each call makes a field

from dataclasses import dataclass, field
from functools import partial
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
QUALITY_WORDS = ("none", "low_quality", "high_quality")
"""The quality levels 0, 1 and 2 in words."""

_model = partial(option, panel="Model", affects_results=True)
_feature = partial(option, panel="Features", affects_results=True)
_object = partial(option, panel="Objects", affects_results=True)
_auxiliary = partial(option, panel="Auxiliary data")
_run = partial(option, panel="Run")


def as_list(value: object) -> object:
    """Return one name, number or path as a list of one, and anything else as it is."""
    return [value] if isinstance(value, str | int | Path) else value


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

    model_files: Annotated[list[AbsolutePath] | None, BeforeValidator(as_list), Unresolved] = _model(
        None,
        help="Models of the ensemble, files or folders; default every model in the models folder.",
        affects_results=False,
    )
    default_dirs: DefaultPaths = field(default_factory=DefaultPaths, kw_only=True)
    output_data_dir: Annotated[AbsolutePath | None, Unresolved] = option(None, help="Folder of the results.")
    arcticdem_dir: Annotated[CubeLocation | None, Unresolved] = _auxiliary(
        None,
        help="ArcticDEM datacube, a folder or s3://bucket/prefix; default by the resolution that the pipeline uses.",
    )
    tcvis_dir: Annotated[CubeLocation | None, Unresolved] = _auxiliary(
        None,
        help="TCVIS datacube, a folder or s3://bucket/prefix, or a folder of datacubes that are named by trend "
        "(tctrend2019.darts.icechunk).",
    )
    trend: Trend = _auxiliary(
        "2000-2019",
        help="Period of the trends of TCVIS; by-year: the first that ends after the year of the image, else the "
        "newest.",
    )
    ee_project: str | None = _auxiliary(None, help="Earth Engine project; default that of the login.")
    ee_use_highvolume: bool = _auxiliary(True, help="Use Earth Engine's high-volume endpoint.")
    device: Annotated[str | int | None, AfterValidator(_known_device)] = _run(
        None,
        help='"cuda", "cpu", a GPU\'s index, or "auto" for a GPU with less than half of its memory in use; '
        "default a GPU where one works.",
    )
    tpi_outer_radius: int = _feature(
        100, help="Outer radius of the topographic position index, metres.", gt=0, le=10_000
    )
    tpi_inner_radius: int = _feature(
        0, help="Inner radius of the topographic position index, metres; above 0 it makes a ring.", ge=0, le=10_000
    )
    patch_size: Annotated[Annotated[int, Field(gt=0)] | Literal["auto"], BeforeValidator(_number_of_text)] = _model(
        1024,
        help="Edge of a patch, pixels; auto for the one near 1024, or near the size that the model was trained with, "
        "that computes fewest pixels of a tile.",
    )
    overlap: int = _model(256, help="Overlap of patches, pixels.", ge=0)
    batch_size: int = _model(8, help="Patches that the network sees at once.", gt=0, le=4096, affects_results=False)
    reflection: int = _model(0, help="Reflected border around the tile, pixels.", ge=0)
    precision: Precision = _model(
        "fp32",
        help="Number format of the network: fp32 gives the same map on every machine; auto takes the fastest that the "
        "device does well.",
    )
    engine: Engine = _model(
        "torch",
        help="What runs the network: torch, or openvino, which is faster on a CPU (needs darts-nextgen[openvino]).",
    )
    tta: Augmentation | None = _model(
        None, help='"d4" averages over all flips and quarter turns of each patch, at eight times the cost; default off.'
    )
    binarization_threshold: float = _object(0.5, help="A pixel above this probability is slump.", ge=0, le=1)
    mask_erosion_size: int = _object(10, help="Radius of the disk that erodes the valid area, pixels.", ge=0, le=10_000)
    edge_erosion_size: Annotated[int | None, Unresolved] = _object(
        None, help="Border that is cut off the tile, pixels; default as mask_erosion_size, 0 for none.", ge=0, le=10_000
    )
    min_object_size: int = _object(32, help="Objects with fewer pixels are dropped.", ge=0, le=1_000_000_000)
    edge_objects: EdgeObjects = _object(
        "clip", help="Objects that reach into the invalid area are cut at its border (clip) or dropped whole (remove)."
    )
    quality_level: Annotated[QualityLevel, BeforeValidator(_number_of_text)] = _object(
        1, help="Lowest data quality that counts: 0 none, 1 low_quality, 2 high_quality."
    )
    export_bands: list[str] = option(
        factory=lambda: list(DEFAULT_EXPORT_BANDS),
        help="What is written: probabilities, binarized, polygonized, extent, thumbnail, optical, dem, tcvis, "
        "metadata, probabilities_{class} for another class of the models, or the name of any variable.",
    )
    write_model_outputs: bool = option(False, help="Also write the results of each member of the ensemble.")
    overwrite: bool = _run(False, help="Compute finished tiles again.")
    keep_finished: bool = _run(
        False, help="Take complete results of an earlier release with the same options and models as finished."
    )
    offline: bool = _run(False, help="Never touch the network.")
    debug_data: bool = option(False, help="Also write the whole tile as NetCDF.")
    fail_fast: bool = _run(False, help="Stop at the first tile that fails.")
    max_failures: int | None = _run(None, help="Stop after this many tiles have failed; default never.", gt=0)

    executor: Executor = _run(
        "overlap",
        help="Load the next tiles and write the last ones while the network is busy (overlap), one tile after the "
        "other (serial), or many on the workers of a cluster (dask); the results are the same.",
    )
    threads: int | None = _run(None, help="Threads of the network on the CPU; default the usable CPUs.", gt=0, le=4096)
    workers: int | None = _run(None, help="For dask: so many worker processes on this machine.", gt=0, le=4096)
    scheduler_file: AbsolutePath | None = _run(
        None, help="For dask: file of a scheduler, as `darts cluster` writes it."
    )
    scheduler_address: str | None = _run(None, help="For dask: address of a scheduler, such as tcp://127.0.0.1:8786.")
    shard: Annotated[str | None, AfterValidator(_shard)] = _run(
        None,
        help="Do one share of the tiles, i/n with i from 0 to n-1: those whose name has i as SHA-256 modulo n. Several "
        "shards may write into one folder at once.",
    )
    report: bool | None = option(
        None, help="Write pages to look at the run, in the folder report of the results; default for up to 100 tiles."
    )
    prefetch: int = _run(1, help="Tiles that may wait before the network, and as many after it.", ge=0, le=64)
