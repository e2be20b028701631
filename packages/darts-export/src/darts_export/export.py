"""Write the results of a tile as one folder that appears complete or not at all."""

import contextvars
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_export.context import TileContext, read_context
from darts_export.debug import write_debug
from darts_export.errors import ExportError, ExportTargetError, ManifestError
from darts_export.jsonable import to_json, write_json
from darts_export.layers import read_layers, variable_values
from darts_export.manifest import other_files, read_manifest, write_manifest
from darts_export.objects import find_objects
from darts_export.products import (
    DEBUG_FILE,
    DEFAULT_EXPORT_BANDS,
    ITEM_FILE,
    Product,
    check_export_bands,
    listed_names,
    plan_products,
)
from darts_export.rasters import write_raster
from darts_export.stac import make_item
from darts_export.staging import carry_over, replaced_folder
from darts_export.thumbnail import write_thumbnail
from darts_export.vectors import extent_frame, objects_frame, write_vectors
from darts_export.version import software_versions
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr

# Files are written side by side; each worker holds a raster or the objects in memory.
_WORKERS = 2

BandFields = dict[str, list[dict[str, Any]]]


def export_tile(
    tile: "xr.Dataset",
    out_dir: Path | str,
    bands: Iterable[str] = DEFAULT_EXPORT_BANDS,
    ensemble_subsets: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    debug: bool = False,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """Write the results of a tile into a folder, which appears complete or not at all.

    An export that is already in `out_dir` is replaced as a whole, in one step; other files there stay.

    Args:
        tile: The tile as ``prepare_export`` leaves it: dimensions (y, x), north-up grid, projected CRS; `probabilities`
            float 0…1 with NaN for no data, `binarized_segmentation` bool with True for slump, `extent` uint8 with 1 for
            reliable. Its attributes `tile_id` and `time` (ISO 8601, UTC) name it. Not changed.
        out_dir: The tile's folder; parents are made.
        bands: What to write: names of products (``EXPORT_BANDS``) and of variables of the tile, in any order.
        ensemble_subsets: Members of the ensemble whose `probabilities-{model}` and `binarized_segmentation-{model}` are
            written too.
        metadata: What else to record; anything that JSON can hold. The files make use of `source` (name of the
            imagery), `source_scene` (`id`, `href`), `models` (by name: `sha256`, `href`, `card`), `configuration` and
            `versions` where they are there. Not changed.
        debug: Write the whole tile as NetCDF as well (``darts_inference_debug.nc``).
        fingerprint: Fingerprint of the configuration, for :func:`missing_outputs`.

    Returns:
        The manifest, see :func:`read_manifest`.

    Raises:
        UnknownBandError: If a name in `bands` is unknown; the message lists the known ones.
        MissingBandError: If the tile lacks a variable that a product needs.
        GridError: If the tile has no north-up, projected grid.
        ParameterError: If an argument or a value in the tile cannot be exported.
        ExportTargetError: If `out_dir` holds files and none of them is the manifest of an export.
        ExportError: If a file cannot be written. Then `out_dir` is as it was.
    """
    folder = Path(out_dir).expanduser().resolve()
    names = listed_names(bands, "bands")
    subsets = listed_names(ensemble_subsets, "ensemble_subsets")
    check_export_bands(names, map(str, tile.data_vars), subsets)
    plan = plan_products(names, subsets)
    context = read_context(tile, folder.name, metadata, fingerprint)
    _check_target(folder)
    tile = _in_memory(tile, plan)
    versions = software_versions()
    with replaced_folder(folder) as new:
        tasks = [partial(_write_product, product, new, tile, context) for product in plan]
        if debug:
            tasks.append(partial(_write_debug, new, tile))
        fields = _run([partial(_attempt, folder, task) for task in tasks])
        with step("writing item and manifest"):
            item = make_item(context, fields, versions)
            _attempt(folder, partial(write_json, new / ITEM_FILE, item))
            manifest = _attempt(folder, partial(write_manifest, new, context, names, subsets, versions))
            _attempt(folder, lambda: carry_over(folder, new, other_files(folder)))
    return manifest


def _check_target(folder: Path) -> None:
    """Raise where the folder is none of ours to replace."""
    if folder.exists() and not folder.is_dir():
        raise ExportTargetError(f"{folder} is a file; expected a folder, or nothing.")
    if folder.is_dir() and any(folder.iterdir()):
        try:
            read_manifest(folder)
        except ManifestError as error:
            raise ExportTargetError(
                f"{folder} holds files but no manifest of an export, so it is not replaced; "
                f"move them away, or choose another folder."
            ) from error


def _in_memory(tile: "xr.Dataset", plan: Sequence[Product]) -> "xr.Dataset":
    """Compute, once, the lazy variables that the plan needs."""
    needed = {name for product in plan for name in product.variables}
    lazy = sorted(name for name in needed if tile[name].chunks is not None)
    return tile.assign(tile[lazy].compute().data_vars) if lazy else tile


def _run(tasks: Sequence[Callable[[], BandFields]]) -> BandFields:
    """Run tasks side by side and merge what they return; the first error ends the rest."""
    fields: BandFields = {}
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="darts-export") as pool:
        futures = [pool.submit(contextvars.copy_context().run, task) for task in tasks]
        try:
            for future in futures:
                fields |= future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return fields


def _attempt(folder: Path, task: Callable[[], Any]) -> Any:
    try:
        return task()
    except OSError as error:
        free = shutil.disk_usage(folder.parent).free
        raise ExportError(
            f"{folder} could not be written: {error}. {free / 1e6:.0f} MB are free there; the folder is as it was."
        ) from error


def _write_product(product: Product, new: Path, tile: "xr.Dataset", context: TileContext) -> BandFields:
    paths = [new / file for file in product.files]
    fields: list[dict[str, Any]] = []
    with step(f"writing {product.files[0]}"):
        if product.kind == "raster":
            fields = write_raster(paths[0], read_layers(tile, product.variables), context, product.model)
        elif product.kind == "objects":
            mask, probabilities = (variable_values(tile, name) for name in product.variables)
            frame = objects_frame(find_objects(mask), probabilities, context, product.model)
            write_vectors(frame, paths[0], paths[1], "objects")
        elif product.kind == "extent":
            frame = extent_frame(find_objects(variable_values(tile, "extent")), context)
            write_vectors(frame, paths[0], paths[1], "extent")
        elif product.kind == "thumbnail":
            write_thumbnail(paths[0], tile, context)
        else:
            write_json(paths[0], _all_metadata(tile, context))
    return dict.fromkeys(product.files, fields)


def _write_debug(new: Path, tile: "xr.Dataset") -> BandFields:
    with step(f"writing {DEBUG_FILE}"):
        write_debug(new / DEBUG_FILE, tile)
    return {DEBUG_FILE: []}


def _all_metadata(tile: "xr.Dataset", context: TileContext) -> dict[str, Any]:
    variables = {
        str(name): {"dtype": array.dtype.name, "attrs": to_json(array.attrs, f"attrs of {name}")}
        for name, array in sorted(tile.data_vars.items(), key=lambda pair: str(pair[0]))
    }
    grid = {"crs": context.wkt, "epsg": context.epsg, "shape": list(context.geobox.shape)}
    return {
        "tile_id": context.tile_id,
        "time": context.time_text or None,
        "source": context.source or None,
        "fingerprint": context.fingerprint,
        "grid": grid | {"transform": list(context.geobox.affine)[:6]},
        "attrs": to_json(tile.attrs, "tile.attrs"),
        "variables": variables,
        "versions": software_versions(),
        "metadata": context.metadata,
    }
