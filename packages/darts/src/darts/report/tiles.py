"""What the page of a tile shows: the image, probabilities, outlines and the reliable area, out of its files."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import geopandas as gpd
import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from darts.report.tables import Row
from darts.run.messages import without_places
from darts_utils import ManifestError, ResultFolder, class_of

_IMAGE_PX = 740
_MOST_OUTLINES = 5_000
_MOST_ROWS = 20_000
_JPEG_QUALITY = 74
_NO_DATA_COLOUR = (226, 228, 230)
_LEVELS = 21  # steps of 5 %
# Percent, colour and opacity, as in the style that lies beside the raster.
_RAMP = (
    (0, (255, 244, 176, 0)),
    (10, (255, 244, 176, 60)),
    (30, (254, 204, 92, 150)),
    (50, (250, 141, 60, 205)),
    (75, (227, 60, 40, 230)),
    (100, (135, 10, 45, 245)),
)


_Draw: TypeAlias = "Callable[[TileView, rasterio.DatasetReader, tuple[int, int]], str]"


@dataclass
class TileView:
    """One tile.

    Attributes:
        data: Sources of the page's map by name, each a dict of columns; lengths in metres from the corner of the tile.
            Those of other classes than slumps are named ``probabilities_{class}``.
        icon_px: Largest width and height of the small image.
        rows: A dict per slump, the largest first: `uid`, `area_m2`, `mean`, `lon`, `lat`, `touches_edge`.
        areas: Area of every slump in m², those included that are not in `rows`, 1-D.
        means: Mean probability of every slump, likewise.
        notes: Sentences about what is missing.
        crs: Name of the CRS of the map.
        wkt: The CRS itself.
        origin: Easting and northing of the corner that lengths are counted from.
        count: Number of slumps, those included that are not in `rows`; None where no outlines could be read.
        icon: The image, small, as a data URI; empty where there is none.
        bounds: Left, bottom, right and top of the image in the CRS; None where there is none.
    """

    data: dict[str, dict[str, list]]
    icon_px: int
    rows: list[Row] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    crs: str = ""
    wkt: str = ""
    origin: tuple[float, float] = (0.0, 0.0)
    count: int | None = None
    icon: str = ""
    bounds: tuple[float, float, float, float] | None = None


def read_tile(folder: Path, icon_px: int) -> TileView:
    """Read what the page of a tile shows; a file that is missing or damaged becomes a note.

    Args:
        folder: Folder of the tile's results.
        icon_px: Largest width and height of the small image.

    Returns:
        The tile.
    """
    view = TileView({"preview": _image(), "probabilities": _image(), "slumps": _shapes(), "extent": _shapes()}, icon_px)
    try:
        results = ResultFolder.open(folder)
    except ManifestError:
        view.notes.append("The folder holds no finished results of this tile.")
        return view
    if results.is_empty:
        view.notes.append(without_places(str(results.manifest.get("reason") or "Its images hold no data.")))
        return view
    segments = _read_table(results.segments(), "slumps", view)
    extent = _read_table(results.extent(), "reliable area", view)
    listed = results.manifest["files"]
    preview = _open_raster(folder / "preview.tif", "preview.tif" in listed, "image", view)
    percent = _open_raster(folder / "probabilities.tif", "probabilities.tif" in listed, "probabilities", view)
    bounds = _bounds(preview, percent, segments, extent)
    if bounds is not None:
        view.origin = (bounds[0], bounds[1])
    images = [(preview, "preview", _draw_preview), (percent, "probabilities", _draw_percent)]
    for path in sorted(folder / file for file in listed if file.endswith(".tif")):
        if class_of(path.stem) is not None:
            view.data[path.stem] = _image()
            images.append((_open_raster(path, True, path.stem, view), path.stem, _draw_percent))
    for raster, name, draw in images:
        if raster is not None:
            with raster:
                _set_crs(view, raster.crs)
                _add_image(view, name, raster, draw)
    if segments is not None:
        _set_crs(view, segments.crs)
        _add_slumps(view, segments)
    if extent is not None and len(extent):
        view.data["extent"] = outlines(extent.geometry.to_numpy(), view.origin)
    return view


def _image() -> dict[str, list]:
    return {name: [] for name in ("url", "x", "y", "w", "h")}


def _shapes() -> dict[str, list]:
    return {"xs": [], "ys": []}


def _read_table(path: Path | None, what: str, view: TileView) -> gpd.GeoDataFrame | None:
    if path is None:
        view.notes.append(f"Outlines of the {what} were not exported.")
        return None
    try:
        return gpd.read_parquet(path)
    except Exception as error:  # noqa: BLE001 - a damaged file may make the reader raise anything
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read; verify the results"
        view.notes.append(f"{path.name} {reason}.")
        return None


def _open_raster(path: Path, listed: bool, what: str, view: TileView) -> rasterio.DatasetReader | None:
    if not listed:
        view.notes.append(f"There is no {path.name} among the results, so the map shows no {what}.")
        return None
    try:
        return rasterio.open(path)
    except RasterioError:
        view.notes.append(f"{path.name} {'cannot be read; verify the results' if path.exists() else 'is missing'}.")
        return None


def _bounds(*sources: rasterio.DatasetReader | gpd.GeoDataFrame | None) -> NDArray[np.float64] | None:
    known = [
        np.asarray(source.total_bounds if hasattr(source, "total_bounds") else source.bounds, np.float64)
        for source in sources
        if source is not None
    ]
    known = [bounds for bounds in known if np.isfinite(bounds).all()]
    return known[0] if known else None


def _add_image(view: TileView, name: str, raster: rasterio.DatasetReader, draw: _Draw) -> None:
    step = max(1.0, max(raster.width, raster.height) / _IMAGE_PX)
    shape = (max(1, round(raster.height / step)), max(1, round(raster.width / step)))
    try:
        url = draw(view, raster, shape)
    except RasterioError:
        view.notes.append(f"{Path(raster.name).name} cannot be read; verify the results.")
        return
    left, bottom, right, top = raster.bounds
    x, y = left - view.origin[0], top - view.origin[1]
    view.data[name] = {"url": [url], "x": [x], "y": [y], "w": [right - left], "h": [top - bottom]}


def _draw_preview(view: TileView, raster: rasterio.DatasetReader, shape: tuple[int, int]) -> str:
    picture = raster.read(out_shape=(3, *shape), resampling=Resampling.average).transpose(1, 2, 0).copy()
    picture[raster.dataset_mask(out_shape=shape) == 0] = _NO_DATA_COLOUR
    image = Image.fromarray(picture)
    icon = image.copy()
    icon.thumbnail((view.icon_px, view.icon_px))
    view.icon, view.bounds = _jpeg(icon), tuple(raster.bounds)
    return _jpeg(image)


def _jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return _data_uri("image/jpeg", buffer.getvalue())


def _draw_percent(_: TileView, raster: rasterio.DatasetReader, shape: tuple[int, int]) -> str:
    percent = raster.read(1, out_shape=shape, resampling=Resampling.average, masked=True)
    levels = np.rint(percent.filled(0).astype(np.float32) * (_LEVELS - 1) / 100).astype(np.uint8)
    steps = np.linspace(0, 100, _LEVELS)
    positions, colours = np.array([position for position, _ in _RAMP]), np.array([colour for _, colour in _RAMP])
    table = np.stack([np.interp(steps, positions, colours[:, band]) for band in range(4)], axis=-1).astype(np.uint8)
    image = Image.fromarray(levels).convert("P")
    image.putpalette(table[:, :3].tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=table[:, 3].tobytes())
    return _data_uri("image/png", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _add_slumps(view: TileView, segments: gpd.GeoDataFrame) -> None:
    ordered = segments.sort_values("area_m2", ascending=False, kind="stable").reset_index(drop=True)
    view.count, view.areas, view.means = len(ordered), ordered["area_m2"].tolist(), ordered["mean"].tolist()
    # Tables of release 0.1 lack some of them.
    names = {"object_uid": "uid", "area_m2": "area_m2", "mean": "mean", "lon": "lon", "lat": "lat"}
    columns = {new: ordered[old].tolist() for old, new in names.items() if old in ordered}
    columns.setdefault("uid", [str(number) for number in ordered.get("Region_ID", range(len(ordered)))])
    columns["touches_edge"] = ["yes" if cut else "" for cut in ordered.get("touches_edge", [False] * len(ordered))]
    shown = min(len(ordered), _MOST_ROWS)
    view.rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)][:shown]
    drawn = ordered[:_MOST_OUTLINES]
    properties = {name: [row[name] for row in view.rows[: len(drawn)]] for name in ("uid", "area_m2", "mean")}
    view.data["slumps"] = outlines(drawn.geometry.to_numpy(), view.origin) | properties
    if len(ordered) > len(drawn):
        view.notes.append(f"The map shows the {len(drawn):,} largest of {len(ordered):,} slumps.")
    if len(ordered) > shown:
        view.notes.append(f"The table lists the {shown:,} largest.")


def outlines(shapes: NDArray[np.object_], origin: tuple[float, float]) -> dict[str, list]:
    """Return polygons as Bokeh wants them: by shape, part and ring, in metres from the corner of the tile."""
    xs, ys = [], []
    for shape in shapes:
        parts = shape.geoms if shape.geom_type == "MultiPolygon" else [shape]
        rings = [[np.asarray(ring.coords)[:-1] - origin for ring in (part.exterior, *part.interiors)] for part in parts]
        xs.append([[_short(ring[:, 0]) for ring in part] for part in rings])
        ys.append([[_short(ring[:, 1]) for ring in part] for part in rings])
    return {"xs": xs, "ys": ys}


def _short(values: NDArray[np.float64]) -> list[float]:
    """Return numbers with as many digits as matter on a map; whole ones without a point."""
    rounded = np.round(values, 1)
    whole = rounded.astype(np.int64)
    return whole.tolist() if (whole == rounded).all() else rounded.tolist()


def _set_crs(view: TileView, crs: rasterio.crs.CRS | pyproj.CRS | None) -> None:
    if crs is None or view.wkt:
        return
    code = crs.to_epsg()
    view.wkt, view.crs = crs.to_wkt(), f"EPSG:{code}" if code else "the tile's own projection"
