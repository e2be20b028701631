"""Cloud-Optimized GeoTIFFs: tiled, with overviews, statistics, band names and no-data, read back after writing."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window

from darts_export.context import TileContext
from darts_export.layers import Layer
from darts_export.preview import Preview
from darts_export.products import COLOURS
from darts_export.version import software_versions

_BLOCK_PX = 512
# On probabilities, level 1 is as small as level 9 within a few percent and takes a third of the time.
_ZSTD_LEVEL = 1
_JPEG_QUALITY = 85
_STATISTICS = {
    "minimum": "STATISTICS_MINIMUM",
    "maximum": "STATISTICS_MAXIMUM",
    "mean": "STATISTICS_MEAN",
    "stddev": "STATISTICS_STDDEV",
    "valid_percent": "STATISTICS_VALID_PERCENT",
}


def write_raster(
    path: Path, layers: Sequence[Layer], context: TileContext, model: str | None = None
) -> list[dict[str, Any]]:
    """Write layers as a Cloud-Optimized GeoTIFF and compare what is on disk with them.

    Args:
        path: The file to write.
        layers: The bands, all of one shape, dtype and no-data value.
        context: What the tags and the grid come from.
        model: Member of the ensemble that the layers belong to.

    Returns:
        For each band, the fields that STAC has for it.

    Raises:
        OSError: If the file cannot be written, or does not hold what was written.
    """
    options = {
        "compress": "ZSTD",
        "level": _ZSTD_LEVEL,
        "predictor": "YES",
        "overview_resampling": layers[0].resampling,
    }
    _write(path, layers, context.geobox.affine, context, model, options)
    return _read_back(path, layers)


def write_preview(path: Path, preview: Preview, context: TileContext) -> list[dict[str, Any]]:
    """Write the image of a tile as a Cloud-Optimized GeoTIFF: JPEG, transparent by a mask where there is no data.

    Args:
        path: The file to write.
        preview: The image.
        context: What the tags and the grid come from.

    Returns:
        For each band, the fields that STAC has for it.

    Raises:
        OSError: If the file cannot be written or read back.
    """
    layers = [
        Layer(name, preview.picture[:, :, index], None, "", "AVERAGE", colour=name)
        for index, name in enumerate(COLOURS)
    ]
    options = {"compress": "JPEG", "quality": _JPEG_QUALITY, "overview_resampling": "AVERAGE"}
    affine = context.geobox.affine @ Affine.scale(preview.step)
    _write(path, layers, affine, context, None, options, preview.valid)
    return _read_back(path, layers, lossy=True)


def _write(
    path: Path,
    layers: Sequence[Layer],
    affine: Affine,
    context: TileContext,
    model: str | None,
    options: Mapping[str, object],
    valid: NDArray[np.bool_] | None = None,
) -> None:
    first = layers[0]
    # GDAL makes a Cloud-Optimized GeoTIFF only from a finished raster, here one in memory; rasterio removes what stands
    # under the name of a new raster, so it gets one that is free. The file is made in memory as well: GDAL does not
    # report every write that fails, and may then leave right pixels in a file that is not laid out as it should be.
    with (
        rasterio.MemoryFile(ext=".tif") as made,
        rasterio.open(
            path.with_suffix(".memory"),
            "w",
            driver="MEM",
            width=first.values.shape[1],
            height=first.values.shape[0],
            count=len(layers),
            dtype=first.values.dtype.name,
            crs=context.wkt,
            transform=affine,
            nodata=first.nodata,
        ) as memory,
    ):
        for index, layer in enumerate(layers, start=1):
            memory.write(layer.values, index)
            memory.set_band_description(index, layer.name)
            if layer.unit:
                memory.set_band_unit(index, layer.unit)
        if any(layer.colour for layer in layers):
            memory.colorinterp = [ColorInterp[layer.colour or "undefined"] for layer in layers]
        if (first.scale, first.offset) != (1, 0):
            memory.scales = [layer.scale for layer in layers]
            memory.offsets = [layer.offset for layer in layers]
        if valid is not None:
            memory.write_mask(valid)
        memory.update_tags(**_tags(context, model))
        try:
            # Without GDAL's own threads, which a process forked later would wait for in vain.
            rasterio.shutil.copy(
                memory,
                made.name,
                driver="COG",
                blocksize=_BLOCK_PX,
                bigtiff="IF_SAFER",
                statistics="YES",
                **options,
            )
        except Exception as error:  # rasterio lets GDAL's errors through, whose class is private
            raise OSError(f"GDAL reports: {error}") from error
        path.write_bytes(made.getbuffer())


def _read_back(path: Path, layers: Sequence[Layer], lossy: bool = False) -> list[dict[str, Any]]:
    """Compare a file with what should be in it, which a disk may have lost."""
    try:
        with rasterio.open(path) as file:
            levels = len(file.overviews(1))
            for index, layer in enumerate(layers, start=1):
                for top, strip in _strips(file, index):
                    if not lossy and not _same(strip, layer.values[top : top + len(strip)]):
                        raise OSError(f"row {top} and following of {layer.name} read back other than written")
            fields = [_band_fields(layer, file.tags(index)) for index, layer in enumerate(layers, start=1)]
        for level in range(levels):
            with rasterio.open(path, overview_level=level) as overview:
                for index in range(1, len(layers) + 1):
                    for _ in _strips(overview, index):
                        pass  # a damaged block raises
    except RasterioError as error:
        raise OSError(f"it does not read back: {error}") from error
    return fields


def _strips(file: rasterio.DatasetReader, index: int) -> Iterator[tuple[int, np.ndarray]]:
    """Read a band in strips of one row of blocks, each with its first row."""
    for top in range(0, file.height, _BLOCK_PX):
        rows = min(_BLOCK_PX, file.height - top)
        yield top, file.read(index, window=Window(0, top, file.width, rows))


def _same(found: np.ndarray, wanted: np.ndarray) -> bool:
    return np.array_equal(found, wanted, equal_nan=wanted.dtype.kind == "f")


def _band_fields(layer: Layer, tags: dict[str, str]) -> dict[str, object]:
    fields: dict[str, object] = {"name": layer.name, "data_type": layer.values.dtype.name}
    if layer.nodata is not None:
        fields["nodata"] = "nan" if math.isnan(layer.nodata) else layer.nodata
    if layer.unit:
        fields["unit"] = layer.unit
    if (layer.scale, layer.offset) != (1, 0):
        fields |= {"raster:scale": layer.scale, "raster:offset": layer.offset}
    found = {name: float(tags[tag]) for name, tag in _STATISTICS.items() if tag in tags}
    statistics = {name: value for name, value in found.items() if math.isfinite(value)}  # JSON has no infinite numbers
    if statistics:
        fields["statistics"] = statistics
    return fields


def _tags(context: TileContext, model: str | None) -> dict[str, str]:
    tags = {
        "DARTS_TILE_ID": context.tile_id,
        "DARTS_TIME": context.time_text,
        "DARTS_SOURCE": context.source,
        "DARTS_MODELS": context.model_names(model),
        "DARTS_FINGERPRINT": context.fingerprint or "",
        "DARTS_EXPORT_VERSION": software_versions()["darts-export"],
    }
    return {name: text for name, text in tags.items() if text}
