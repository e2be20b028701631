"""A project and a set of layers for QGIS, written from a template, without QGIS: styled, with relative paths."""

import json
import os
import re
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyproj import CRS
from pyproj.exceptions import CRSError

from darts.report.pages import render
from darts.report.source import RunSource
from darts_utils import ManifestError, ResultFolder, class_of, write_atomically

_RASTERS = (("probabilities.tif", "probabilities"), ("binarized.tif", "slumps, pixels"), ("preview.tif", "image"))
_VECTORS = (("prediction_segments.gpkg", "slumps"), ("prediction_extent.gpkg", "reliable area"))


@dataclass(frozen=True)
class Layer:
    """A layer of a project.

    Attributes:
        id: Its identifier in the project.
        name: What QGIS calls it.
        kind: "raster" or "vector".
        source: Its file, relative to the project, with the layer of a GeoPackage.
        provider: "gdal" or "ogr".
        style: Elements that say how it is drawn, as XML.
        shown: Whether it is switched on at first.
    """

    id: str
    name: str
    kind: str
    source: str
    provider: str
    style: str
    shown: bool


@dataclass(frozen=True)
class Group:
    """The layers of a tile, from top to bottom, and the CRS that they share: its code, if any, and its description."""

    name: str
    layers: tuple[Layer, ...]
    code: str
    wkt: str
    bbox: tuple[float, float, float, float]


def write_projects(source: RunSource, target: Path) -> bool:
    """Write ``darts.qgs``, the run as a project, and ``darts.qlr``, the same layers for a project of one's own.

    Returns:
        Whether there was anything to write.

    Raises:
        OSError: If a file cannot be written.
    """
    finished = source.table[source.table["status"].isin(["success", "skipped"]) & (source.table["folder"] != "")]
    made = (
        _group(str(name), number, source.output / folder, target)
        for number, (name, folder) in enumerate(zip(finished["tile_id"], finished["folder"], strict=True))
    )
    groups = [group for group in made if group is not None]
    if not groups:
        return False
    same = [group for group in groups if (group.code, group.wkt) == (groups[0].code, groups[0].wkt)]
    boxes = list(zip(*(group.bbox for group in same), strict=True))
    view = (min(boxes[0]), min(boxes[1]), max(boxes[2]), max(boxes[3]))
    for name in ("darts.qgs", "darts.qlr"):
        text = render(f"{name}.xml", groups=groups, view=view, title=f"DARTS {source.name}")
        write_atomically(target / name, text.encode(), durable=False)
    return True


def _group(tile: str, number: int, folder: Path, target: Path) -> Group | None:
    try:
        files = ResultFolder.open(folder).manifest["files"]
        properties = json.loads((folder / "item.json").read_text("utf-8"))["properties"]
        bbox = tuple(float(value) for value in properties["proj:bbox"])
    except (ManifestError, OSError, ValueError, LookupError, TypeError):
        return None
    layers = []
    of_classes = [(f"probabilities_{each}.tif", f"probabilities of {each}") for each in _classes(files)]
    for name, title in (*_VECTORS, *_RASTERS[:-1], *of_classes, _RASTERS[-1]):
        path = folder / name
        if name not in files or not path.is_file():
            continue
        is_raster = name.endswith(".tif")
        address = Path(os.path.relpath(path, target)).as_posix()
        layer, style = ("", _raster_style(path)) if is_raster else _vector_style(path)
        layers.append(
            Layer(
                id=re.sub(r"\W", "_", f"tile_{number}_{path.stem}"),
                name=f"{tile} {title}",
                kind="raster" if is_raster else "vector",
                source=address if is_raster else f"{address}|layername={layer}",
                provider="gdal" if is_raster else "ogr",
                style=style,
                shown=name != "binarized.tif" and (name, title) not in of_classes,
            )
        )
    if not layers or len(bbox) != 4:
        return None
    code = str(properties.get("proj:code") or "")
    return Group(tile, tuple(layers), code, _wkt(code, properties.get("proj:wkt2")), bbox)


def _classes(files: Iterable[str]) -> list[str]:
    """Name the classes beside slumps whose probabilities are among files of a tile."""
    stems = (name.removesuffix(".tif") for name in files if name.endswith(".tif"))
    return sorted(each for stem in stems if (each := class_of(stem)) is not None)


def _wkt(code: str, given: object) -> str:
    try:
        return str(CRS.from_user_input(code or given).to_wkt())
    except CRSError:
        return ""


def _raster_style(path: Path) -> str:
    """Return the style that lies beside a raster; without one, QGIS makes its own for a picture in colours."""
    style = _elements(_text(path.with_suffix(".qml")))
    if style:
        return style
    kind = "multibandcolor" if path.name == "preview.tif" else "singlebandgray"
    # The mask of the image counts as its fourth band.
    bands = 'redBand="1" greenBand="2" blueBand="3" alphaBand="4"' if kind == "multibandcolor" else 'grayBand="1"'
    return f'<pipe><rasterrenderer type="{kind}" {bands} opacity="1" nodataColor=""/></pipe>'


def _vector_style(path: Path) -> tuple[str, str]:
    """Return the name of the layer in a GeoPackage, and the style that it brings."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            row = connection.execute("SELECT f_table_name, styleQML FROM layer_styles WHERE useAsDefault").fetchone()
    except sqlite3.Error:
        row = None
    return (str(row[0]), _elements(str(row[1]))) if row else (path.stem, "")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _elements(style: str) -> str:
    """Return what stands in a style of QGIS, as elements of a layer."""
    try:
        root: Any = ET.fromstring(style)  # noqa: S314 - written by an export, or by QGIS beside it
    except ET.ParseError:
        return ""
    return "".join(ET.tostring(child, encoding="unicode") for child in root)
