"""Write the results of a tile as one folder that appears complete or not at all."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_export.context import TileContext, read_context
from darts_export.errors import ExportError, ExportTargetError, ManifestError
from darts_export.manifest import read_manifest, write_manifest
from darts_export.objects import find_objects
from darts_export.products import (
    DEBUG_FILE,
    DEFAULT_EXPORT_BANDS,
    METADATA_FILE,
    Product,
    check_export_bands,
    plan_products,
)
from darts_export.rasters import read_layers, variable_values, write_raster
from darts_export.stac import write_item
from darts_export.staging import replaced_folder
from darts_export.thumbnail import write_thumbnail
from darts_export.vectors import extent_frame, objects_frame, write_vectors
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr


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
            reliable. Its attributes `tile_id` and `time` name it. Not changed.
        out_dir: The tile's folder; parents are made.
        bands: What to write: names of products (``EXPORT_BANDS``) and of variables of the tile, in any order.
        ensemble_subsets: Members of the ensemble whose `probabilities-{model}` and `binarized_segmentation-{model}` are
            written too.
        metadata: What else to record, for example configuration, models and scene; anything JSON can hold. Not changed.
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
    folder = Path(out_dir).expanduser().absolute()
    names, subsets = list(bands), list(ensemble_subsets)
    check_export_bands(names, map(str, tile.data_vars), subsets)
    plan = plan_products(names, subsets)
    context = read_context(tile, folder.name, metadata, fingerprint)
    _check_target(folder)
    with replaced_folder(folder) as new:
        for product in plan:
            _write(new, lambda product=product: _write_product(product, new, tile, context), product.files[0])
        if debug:
            _write(new, lambda: _write_debug(new / DEBUG_FILE, tile), DEBUG_FILE)
        write_item(new, context, plan)
        write_manifest(new, context, names, subsets)
    return read_manifest(folder)


def _check_target(folder: Path) -> None:
    if folder.is_dir():
        try:
            read_manifest(folder)
        except ManifestError as error:
            if any(folder.iterdir()):
                raise ExportTargetError(
                    f"{folder} holds files but no manifest of an export, so it is not replaced; "
                    f"move them away, or choose another folder."
                ) from error
    elif folder.exists():
        raise ExportTargetError(f"{folder} is a file; expected a folder, or nothing.")


def _write(folder: Path, write: Callable[[], None], name: str) -> None:
    from rasterio.errors import RasterioError

    try:
        with step(f"writing {name}"):
            write()
    except (OSError, RasterioError) as error:
        raise ExportError(f"{folder.parent.parent}: {name} could not be written: {error}") from error


def _write_product(product: Product, folder: Path, tile: "xr.Dataset", context: TileContext) -> None:
    paths = [folder / file for file in product.files]
    if product.kind == "raster":
        write_raster(paths[0], read_layers(tile, product.variables), context, product.model)
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
        _write_metadata(folder / METADATA_FILE, context)


def _write_metadata(path: Path, context: TileContext) -> None:
    content = {"tile_id": context.tile_id, "attrs": context.attrs, "metadata": context.metadata}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _write_debug(path: Path, tile: "xr.Dataset") -> None:
    tile.to_netcdf(path, engine="h5netcdf")
