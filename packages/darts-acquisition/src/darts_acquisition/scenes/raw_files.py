"""Write raw bands of the store as GeoTIFF, for a look at what the provider delivered."""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from darts_acquisition.scenes.store import RawStore, StoredBand
from darts_acquisition.sentinel2.bands import SCL, S2Band, select_bands
from darts_utils import step, usable_cpus


def write_raw_bands(
    store: RawStore,
    source: str,
    scene_id: str,
    folder: "str | os.PathLike[str]",
    bands: "Iterable[str] | str | None" = None,
) -> list[Path]:
    """Write bands of a stored scene as files ``<ESA's number>.tif``; each appears complete or not at all.

    Args:
        store: The store.
        source: Name of the source in the store.
        scene_id: Name of the scene.
        folder: Where the files go; created where absent.
        bands: Names of bands; None for blue, green, red and nir. The scene classification always comes along.

    Returns:
        The files: raw integers at the band's own resolution, nodata 0, with scale and offset of the reflectance.

    Raises:
        RawStoreError: If a band is absent or damaged.
        OSError: If a file cannot be written.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = []
    for band in (*select_bands(bands), SCL):
        with step("write raw band"):
            files.append(_write(store.open(source, scene_id, band), band, Path(folder) / f"{band.number}.tif"))
    return files


def _write(stored: StoredBand, band: S2Band, file: Path) -> Path:
    import rasterio
    import rasterio.errors

    grid = stored.grid
    draft = file.with_name(f".{uuid.uuid4().hex}.tif")
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": grid.shape[0],
        "width": grid.shape[1],
        "dtype": band.dtype,
        "crs": grid.crs,
        "transform": grid.affine,
        "nodata": 0,
        "tiled": True,
        "compress": "deflate",
        "predictor": 2,
        "num_threads": usable_cpus(),
    }
    try:
        with rasterio.open(draft, "w", **profile) as target:
            target.scales, target.offsets = (grid.scale,), (grid.offset,)
            target.set_band_description(1, band.name)
            for top in range(0, grid.shape[0], stored.rows_at_once):
                rows = slice(top, min(top + stored.rows_at_once, grid.shape[0]))
                window = rasterio.windows.Window(0, top, grid.shape[1], rows.stop - top)
                target.write(stored.read(rows), 1, window=window)
        draft.replace(file)
    except rasterio.errors.RasterioError as error:
        raise OSError(f"{file} cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return file
