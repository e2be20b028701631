"""Folders of results as an export leaves them, out of masks, for tests of what reads them."""

from datetime import datetime
from pathlib import Path

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from darts_export import export_tile


def export_mask(
    folder: Path,
    mask: np.ndarray,
    transform: Affine,
    crs: str,
    time: datetime,
    *,
    tile_id: str | None = None,
    extent: np.ndarray | None = None,
    source: str = "PlanetScope",
    model: str = "made-up",
    configuration: dict[str, object] | None = None,
    quality: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
) -> Path:
    """Export a tile that has objects where a mask has them.

    Args:
        folder: The tile's folder.
        mask: Where slumps are, 2-D bool.
        transform: From column and row to coordinates.
        crs: CRS of the grid.
        time: When it was taken.
        tile_id: Name of the tile, that of the folder if None.
        extent: Where results are reliable, 2-D bool; everywhere if None.
        source: What took it.
        model: Name of the model.
        configuration: Options of the run that the manifest tells.
        quality: `quality_data_mask`, 2-D uint8; none if None.
        probabilities: What the model says, 2-D; 0.9 in slumps and 0.1 elsewhere if None.

    Returns:
        The folder.
    """
    geobox = GeoBox(mask.shape, transform, crs)
    seen = np.ones(mask.shape, bool) if extent is None else extent
    layers = {
        "binarized_segmentation": (np.where(mask & seen, 1, 0).astype("uint8"), {}),
        "probabilities": (
            (np.where(mask, 0.9, 0.1) if probabilities is None else probabilities).astype("float32"),
            {},
        ),
        "extent": (seen.astype("uint8"), {}),
    }
    if quality is not None:
        layers["quality_data_mask"] = (quality.astype("uint8"), {})
    tile = xr.Dataset(
        {name: (("y", "x"), values, attrs) for name, (values, attrs) in layers.items()},
        coords=xr_coords(geobox),
        attrs={"tile_id": tile_id or folder.name, "source": source, "time": time.isoformat()},
    )
    export_tile(
        tile, folder, ["polygonized", "extent"], metadata={"models": {model: {}}, "configuration": configuration or {}}
    )
    return folder
