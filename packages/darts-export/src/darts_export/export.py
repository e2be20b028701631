"""Write the results of a tile as one folder that appears complete or not at all."""

import contextvars
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from darts_export.attempt import attempt
from darts_export.context import TileContext, read_context
from darts_export.debug import write_debug
from darts_export.errors import ExportError
from darts_export.jsonable import to_json, write_json
from darts_export.layers import Layer, read_classes, read_layers, read_optical, read_seen, variable_values
from darts_export.manifest import write_manifest
from darts_export.preview import make_preview
from darts_export.products import (
    COLLECTION_FILE,
    COLOURS,
    DEBUG_FILE,
    DEFAULT_EXPORT_BANDS,
    ITEM_FILE,
    MEANS,
    PREVIEW_FILE,
    THUMBNAIL_FILE,
    Product,
    check_export_bands,
    listed_names,
    plan_products,
    planned_files,
)
from darts_export.raster_styles import write_companions
from darts_export.rasters import write_preview, write_raster
from darts_export.stac import make_collection, make_item
from darts_export.summary import SUMMARISED, Summary
from darts_export.target import files_beside, resolved_folder
from darts_export.thumbnail import write_thumbnail
from darts_export.values import check_values
from darts_export.vector_files import write_vectors
from darts_export.vectors import extent_frame, layer_name, object_areas, objects_frames
from darts_export.version import software_versions
from darts_utils import check_dataset, step, to_host, upright
from darts_utils.objects import find_objects
from darts_utils.staging import carry_over, replaced_folder

# Files are written side by side; each worker holds a raster or the objects in memory.
_WORKERS = 2

BandFields = dict[str, list[dict[str, Any]]]


def export_tile(
    tile: xr.Dataset,
    out_dir: Path | str,
    bands: Iterable[str] = DEFAULT_EXPORT_BANDS,
    ensemble_subsets: Iterable[str] = (),
    metadata: Mapping[str, object] | None = None,
    debug: bool = False,
    fingerprint: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the results of a tile into a folder, which appears complete or not at all.

    An export that is already in `out_dir` is replaced as a whole, in one step; other files there stay. What else is
    replaced or refused, :func:`check_export_target` says.

    Args:
        tile: The tile as ``prepare_export`` leaves it: dimensions (y, x), north-up grid, projected CRS; `probabilities`
            float 0…1 with NaN for no data, `binarized_segmentation` bool with True for slump, `extent` uint8 with 1 for
            reliable. Its attributes `tile_id` and `time` (ISO 8601, UTC; or a scalar coordinate `time`) name it. In
            memory, lazy, or on a GPU (cupy). Not changed.
        out_dir: The tile's folder; parents are made.
        bands: What to write: names of products (``EXPORT_BANDS``) and of variables of the tile, in any order.
        ensemble_subsets: Members of the ensemble whose `probabilities-{model}` and `binarized_segmentation-{model}` are
            written too.
        metadata: What else to record; anything that JSON can hold. The files make use of `source` (name of the
            imagery), `source_scene` (`id`, `href`), `models` (by name: `sha256`, `href`, `card`), `configuration` and
            `versions` where they are there. Not changed.
        debug: Write the whole tile as NetCDF as well (``darts_inference_debug.nc``).
        fingerprint: Fingerprint of the configuration, for :func:`missing_outputs`.
        overwrite: Also replace a folder that no manifest describes but that holds nothing but results of DARTS.

    Returns:
        The manifest, see :func:`read_manifest`. Its ``summary`` has the number of `objects`, their `area_m2`, the
        `reliable_share` (pixels with data in the extent) and the `cloudy_share` (pixels of low quality: cloud, shadow,
        haze, snow), both per pixel with data, 0…1; None where the tile lacks what they are made of. A pixel with data
        has a `quality_data_mask` above 0; in a tile without one, its optical bands are known.

    Raises:
        InputTypeError: If `tile` is no Dataset.
        UnknownBandError: If a name in `bands` is unknown; the message lists the known ones.
        MissingBandError: If the tile lacks a variable that a product needs.
        GridError: If the tile has no north-up, projected grid, or a variable of one plane has more dimensions, such as
            a time.
        ParameterError: If an argument or a value in the tile cannot be exported.
        ValueRangeError: If a mask holds other values than 0, 1 and NaN (nothing was seen there), `quality_data_mask`
            others than 0, 1 and 2, or reflectance is stored as integers or percent.
        ExportTargetError: If `out_dir` holds files that must not be replaced, see :func:`check_export_target`.
        ExportError: If a file cannot be written. Then `out_dir` is as it was.
    """
    check_dataset(tile)
    folder = resolved_folder(out_dir)
    names = listed_names(bands, "bands")
    subsets = listed_names(ensemble_subsets, "ensemble_subsets")
    check_export_bands(names, map(str, tile.data_vars), subsets)
    plan = plan_products(names, subsets)
    context = read_context(tile, folder.name, metadata, fingerprint)
    _check_planes(tile, plan)
    files = planned_files(names, subsets, debug)
    files_beside(folder, files, overwrite)
    tile = _in_memory(tile, plan, debug=debug)
    summary = Summary()
    with replaced_folder(folder, ExportError) as new:
        # What somebody saved there under the name of a file that an export can do without, is kept.
        kept = files_beside(folder, files, overwrite)
        tasks = [partial(_write_product, product, new, tile, context, summary, kept) for product in plan]
        pictures = [name for name in _pictures(tile, plan) if name not in kept]
        if pictures:
            tasks.append(partial(_write_pictures, pictures, new, tile, context))
        if debug:
            tasks.append(partial(_write_debug, new, tile))
        tasks.append(partial(_summarise, tile, plan, context, summary))
        fields = _run([partial(attempt, folder, task) for task in tasks])
        with step("writing item and manifest"):
            item = make_item(context, fields, software_versions())
            attempt(folder, partial(write_json, new / ITEM_FILE, item))
            if COLLECTION_FILE not in kept:
                attempt(folder, partial(write_json, new / COLLECTION_FILE, make_collection(context, item["bbox"])))
            about = {
                "status": "success",
                "tile_id": context.tile_id,
                "time": context.time_text or None,
                "source": context.source or None,
                "fingerprint": fingerprint,
                "bands": sorted(set(names)),
                "ensemble_subsets": sorted(set(subsets)),
                "summary": summary.to_dict(),
            }
            manifest = attempt(folder, partial(write_manifest, new, about, context.metadata))
            beside = files_beside(folder, files, overwrite)
            attempt(folder, partial(carry_over, folder, new, beside))
    return manifest


def _check_planes(tile: xr.Dataset, plan: Sequence[Product]) -> None:
    """Refuse further dimensions of variables that are one plane; others may have one, whose entries become bands."""
    planes = {*SUMMARISED, *COLOURS}.intersection(tile.data_vars)
    for product in plan:
        if product.kind != "raster":
            planes |= {name for name in (*product.variables, *product.optional) if name in tile.data_vars}
    for name in sorted(planes):
        upright(tile[name], name)


def _in_memory(tile: xr.Dataset, plan: Sequence[Product], *, debug: bool) -> xr.Dataset:
    """Compute, once, the lazy variables that the plan needs, bring to the host those on a GPU, and check them there."""
    wanted = {name for product in plan for name in (*product.variables, *product.optional)}
    needed = wanted.union(SUMMARISED, COLOURS).intersection(tile.data_vars)
    lazy = sorted(name for name in needed if tile[name].chunks is not None)
    tile = tile.assign(tile[lazy].compute().data_vars) if lazy else tile
    tile = tile.assign(to_host(tile if debug else tile[sorted(needed)]).data_vars)
    return check_values(tile, sorted(needed))


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


def _write_product(
    product: Product, new: Path, tile: xr.Dataset, context: TileContext, summary: Summary, kept: Sequence[str]
) -> BandFields:
    paths = [new / file for file in product.files]
    fields: list[dict[str, Any]] = []
    companions = [name for name in product.companions if name not in kept]
    with step(f"writing {product.files[0]}"):
        if product.kind in ("raster", "classes", "optical"):
            fields = write_raster(paths[0], _layers(product, tile), context, product.model)
            write_companions(new, companions)
        elif product.kind == "objects":
            mask, probabilities = (variable_values(tile, name) for name in product.variables)
            features = {name: variable_values(tile, name) for name in MEANS if name in tile}
            frames = objects_frames(
                find_objects(mask),
                probabilities,
                context,
                product.model,
                extent=read_seen(tile, "extent", product.variables[1]),
                features=features,
            )
            if product.model is None:
                frames = summary.counting(frames)
            write_vectors(frames, paths[0], paths[1], "objects", layer_name(context.tile_id))
        elif product.kind == "extent":
            frame = extent_frame(find_objects(read_seen(tile, "extent", "probabilities")), context)
            write_vectors(iter([frame]), paths[0], paths[1], "extent", layer_name(context.tile_id))
        elif product.kind == "thumbnail":
            return {}  # drawn with the preview
        else:
            write_json(paths[0], _all_metadata(tile, context))
    return dict.fromkeys(product.files, fields) | {name: [] for name in companions}


def _layers(product: Product, tile: xr.Dataset) -> list[Layer]:
    if product.kind == "classes":
        return read_classes(tile, product.variables[0], product.optional)
    return (read_optical if product.kind == "optical" else read_layers)(tile, product.variables)


def _pictures(tile: xr.Dataset, plan: Sequence[Product]) -> list[str]:
    """Name the pictures of the tile that are to be written: always the preview, where the tile has what it needs."""
    asked = [product.files[0] for product in plan if product.kind == "thumbnail"]
    return [*asked, PREVIEW_FILE] if set(COLOURS) <= set(tile.data_vars) else asked


def _write_pictures(names: Sequence[str], new: Path, tile: xr.Dataset, context: TileContext) -> BandFields:
    with step("drawing pictures"):
        preview = make_preview(tile)
        fields: BandFields = {}
        if PREVIEW_FILE in names:
            fields[PREVIEW_FILE] = write_preview(new / PREVIEW_FILE, preview, context)
        if THUMBNAIL_FILE in names:
            write_thumbnail(new / THUMBNAIL_FILE, preview, tile, context)
            fields[THUMBNAIL_FILE] = []
    return fields


def _summarise(tile: xr.Dataset, plan: Sequence[Product], context: TileContext, summary: Summary) -> BandFields:
    """Fill in the figures of the tile that writing its products does not give."""
    with step("counting pixels"):
        summary.count_shares(tile)
        summary.average_probability(tile)
    written = any(product.kind == "objects" and product.model is None for product in plan)
    if not written and "binarized_segmentation" in tile:
        with step("counting objects"):
            objects = find_objects(variable_values(tile, "binarized_segmentation"))
            summary.objects, summary.area_m2 = objects.count, float(object_areas(objects, context).sum())
    return {}


def _write_debug(new: Path, tile: xr.Dataset) -> BandFields:
    with step(f"writing {DEBUG_FILE}"):
        write_debug(new / DEBUG_FILE, tile)
    return {DEBUG_FILE: []}


def _all_metadata(tile: xr.Dataset, context: TileContext) -> dict[str, Any]:
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
