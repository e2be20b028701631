"""The first page of a report: what ran, what failed, where it lies, how much was found."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darts.report.labels import Judgement
from darts.report.maps import STATES, hectare_colours, histogram, index_map, stage_chart
from darts.report.pages import embedded, render, script_json, tile_link
from darts.report.places import Projection, choose_projection, ground_area_m2, read_footprints, rings
from darts.report.source import RunSource
from darts.report.tables import MOST_HTML_ROWS, Column, Row, bokeh_table, html_rows, is_unknown
from darts.report.tiles import TileView
from darts.run.journal import STAGES

_MOST_POINTS = 20_000
_MOST_IMAGES = 12
_LEAST_OVERLAP = 1e-3
"""Share of the ground from which on an overlap is one, and not what rounding makes of a common edge."""
_WORDS = {"success": "computed", "skipped": "finished before", "empty": "without data", "failed": "failed"}


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


_COLUMNS = (
    Column("tile", "Tile"),
    Column("state", "State"),
    Column("date", "Date"),
    Column("slumps", "Slumps", "{:,.0f}".format, 0),
    Column("hectares", "Hectares", "{:,.2f}".format, 2),
    Column("mean", "Mean probability", "{:.2f}".format, 2),
    Column("reliable", "Reliable", _percent, 2),
    Column("cloudy", "Cloudy", _percent, 2),
)


def index_page(
    source: RunSource,
    views: Mapping[str, TileView],
    pages: Mapping[str, str],
    judgement: Judgement | None,
    *,
    has_projects: bool,
) -> str:
    """Make the first page of a report.

    Args:
        source: The run.
        views: What was read of tiles that have a page, by folder.
        pages: Names of the pages of tiles, by folder.
        judgement: What labels say of the map, None where there are none.
        has_projects: Whether projects for QGIS lie beside the page.

    Returns:
        HTML.
    """
    table = source.table
    footprints = read_footprints(table["footprint"])
    projection, ground = choose_projection(footprints), ground_area_m2(footprints)
    stages = [stage for stage in STAGES if f"seconds_{_key(stage)}" in table]
    rows = [_row(record, stages, pages) for record in table.to_dict("records")]
    columns = (*_COLUMNS, *(_stage_column(stage) for stage in stages if _took_time(table, stage)))
    colours, legend = hectare_colours([row["hectares"] for row in rows])
    points = _points(table, views, pages, projection)
    images = {folder: view for folder, view in views.items() if view.icon and view.crs == projection.crs}
    tiles = _tiles(rows, footprints, projection, colours, [folder in images for folder in table["folder"]])
    items = [embedded(index_map(tiles, points, _images(images.values())), "map")]
    items += _charts(table, views, stages)
    is_long = len(rows) > MOST_HTML_ROWS
    if is_long:
        items.append(embedded(bokeh_table(rows, columns, "tiles table"), "tiles-table"))
    failed = [record | {"advice": _advice(record)} for record in table[table["status"] == "failed"].to_dict("records")]
    states = [
        (word, STATES[state], int((table["status"] == state).sum()))
        for state, word in _WORDS.items()
        if (table["status"] == state).any()
    ]
    return render(
        "index.html",
        run=source,
        started=_started(source.name),
        states=states,
        figures=_figures(table, ground[0]),
        cautions=_cautions(table, *ground),
        failed=failed,
        undone=max(0, (source.planned or 0) - len(table)),
        legend=legend,
        projection=projection.name,
        unplaced=int(sum(shape is None for shape in footprints)),
        map_label=_map_label(table, projection.name, len(points["x"])),
        columns=columns,
        gallery=_gallery(rows, table, views) if len(views) > 1 else [],
        rows=[] if is_long else html_rows(rows, columns),
        count=len(rows),
        charts=[item["target_id"] for item in items if item["target_id"].startswith("chart-")],
        judgement=judgement,
        has_projects=has_projects,
        has_pages=bool(pages),
        needs_tables=is_long,
        items=script_json(items),
    )


def _row(record: Mapping[Any, Any], stages: list[str], pages: Mapping[str, str]) -> Row:
    row = {
        "tile": str(record["tile_id"]),
        "state": _WORDS.get(record["status"], record["status"]),
        "status": record["status"],
        "date": str(record["acquired"])[:10],
        "slumps": record["objects"],
        "hectares": record["area_m2"] / 10_000,
        "mean": record["mean_probability"],
        "reliable": record["reliable"],
        "cloudy": record["cloudy"],
        "href": tile_link(pages.get(record["folder"], "")),
    }
    return row | {_key(stage): record[f"seconds_{_key(stage)}"] for stage in stages}


def _key(stage: str) -> str:
    return stage.lower().replace(" ", "_")


def _stage_column(stage: str) -> Column:
    # With soft hyphens, so that a heading is no wider than what stands below it.
    title = stage.replace("processing", "\u00adprocessing").replace("menting", "\u00admenting")
    return Column(_key(stage), title, "{:,.1f}".format, 1)


def _took_time(table: pd.DataFrame, stage: str) -> bool:
    return bool(table[f"seconds_{_key(stage)}"].notna().any())


def _tiles(
    rows: list[Row], footprints: NDArray[np.object_], projection: Projection, colours: list[str], has_image: list[bool]
) -> dict[str, list]:
    placed = [index for index, shape in enumerate(footprints) if shape is not None]
    xs, ys = rings(footprints[placed], projection)
    chosen = [rows[index] for index in placed]
    return {
        "xs": xs,
        "ys": ys,
        "name": [row["tile"] for row in chosen],
        "state": [row["state"] for row in chosen],
        "slumps": ["–" if is_unknown(row["slumps"]) else f"{row['slumps']:,.0f}" for row in chosen],
        "hectares": [None if is_unknown(row["hectares"]) else round(row["hectares"], 4) for row in chosen],
        "page": [row["href"] or "#" for row in chosen],
        "by_state": [STATES.get(row["status"], "#ffffff") for row in chosen],
        "by_hectares": [colours[index] for index in placed],
        "alpha": [0.2 if has_image[index] else 0.75 for index in placed],
    }


def _images(views: Iterable[TileView]) -> dict[str, list]:
    """Return the images of tiles where the map has their projection, so that each is a rectangle on it."""
    placed = [(view.icon, *view.bounds) for view in views if view.bounds is not None]
    return {
        "url": [icon for icon, *_ in placed],
        "x": [left for _, left, *_ in placed],
        "y": [top for *_, top in placed],
        "w": [right - left for _, left, _, right, _ in placed],
        "h": [top - bottom for _, _, bottom, _, top in placed],
    }


def _points(
    table: pd.DataFrame, views: Mapping[str, TileView], pages: Mapping[str, str], projection: Projection
) -> dict[str, list]:
    """Return the slumps as points; none where there are too many, or they were not read."""
    found = [
        (row, tile_link(pages.get(folder, ""))) for folder, view in views.items() for row in view.rows if "lon" in row
    ]
    if len(found) > _MOST_POINTS or table["objects"].sum() > _MOST_POINTS:
        found = []
    x, y = projection.project([row["lon"] for row, _ in found], [row["lat"] for row, _ in found])
    return {
        "x": np.round(x, 1).tolist(),
        "y": np.round(y, 1).tolist(),
        "name": [row["uid"][:8] for row, _ in found],
        "area": [round(row["area_m2"], 1) for row, _ in found],
        "mean": [round(row["mean"], 3) for row, _ in found],
        "page": [page for _, page in found],
    }


def _gallery(rows: list[Row], table: pd.DataFrame, views: Mapping[str, TileView]) -> list[dict[str, str]]:
    """Return the images of the tiles with the largest area of slumps."""
    with_image = [
        (row, views[folder].icon)
        for row, folder in zip(rows, table["folder"], strict=True)
        if folder in views and views[folder].icon
    ]
    ordered = sorted(with_image, key=lambda pair: 0 if is_unknown(pair[0]["hectares"]) else -pair[0]["hectares"])
    return [
        {
            "href": row["href"],
            "image": icon,
            "tile": row["tile"],
            "text": "" if is_unknown(row["slumps"]) else f"{row['slumps']:,.0f} slumps, {row['hectares']:,.1f} ha",
        }
        for row, icon in ordered[:_MOST_IMAGES]
    ]


def _charts(table: pd.DataFrame, views: Mapping[str, TileView], stages: list[str]) -> list[dict[str, Any]]:
    """Make the charts: of slumps where tiles were read, else of tiles."""
    sizes = [area for view in views.values() for area in view.areas]
    means = [mean for view in views.values() for mean in view.means]
    size, mean, counted = "area of a slump, m²", "mean probability of a slump", "slumps"
    has_slumps = bool(sizes) or (table["objects"] > 0).any()
    if not sizes:
        sizes = (table["area_m2"][table["area_m2"] > 0] / 10_000).tolist()
        means = table["mean_probability"].dropna().tolist()
        size, mean, counted = "hectares of slumps in a tile", "mean probability in a tile", "tiles"
    items = []
    if has_slumps:
        twenty = np.linspace(0, 1, 21).round(2).tolist()
        items = [
            embedded(histogram(sizes, _decades(sizes), size, counted, log=True), "chart-area"),
            embedded(histogram(means, twenty, mean, counted), "chart-mean"),
        ]
    seconds = {stage: float(table[f"seconds_{_key(stage)}"].sum()) for stage in stages if _took_time(table, stage)}
    if seconds:
        items.append(embedded(stage_chart(seconds), "chart-stages"))
    return items


def _decades(values: list[float]) -> list[float]:
    """Return edges of classes, four to a power of ten, that hold all values."""
    known = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(4 * math.log10(min(known))), math.ceil(4 * math.log10(max(known)) + 1e-9)
    return [10 ** (step / 4) for step in range(low, max(high, low + 1) + 1)]


def _figures(table: pd.DataFrame, ground_m2: float) -> list[tuple[str, str]]:
    """Return the headline figures with what they count."""
    hectares = float(table["area_m2"].sum()) / 10_000
    figures = [(f"{len(table):,}", "tile" if len(table) == 1 else "tiles")]
    if table["objects"].notna().any():
        count = int(table["objects"].sum())
        figures.append((f"{count:,}", "slump" if count == 1 else "slumps"))
        figures.append((_short(hectares), "hectares of slumps"))
    if ground_m2:
        figures.append((_short(ground_m2 / 1e6), "km² of ground in tiles"))
    return figures


def _short(area: float) -> str:
    return f"{area:,.1f}" if area < 1000 else f"{area:,.0f}"


def _cautions(table: pd.DataFrame, once: float, again: float) -> list[str]:
    """Return sentences on what the headline figures count twice, and what they miss."""
    cautions = []
    if again > _LEAST_OVERLAP * once and table["objects"].notna().any():
        cautions.append(
            f"Tiles overlap: {_short(again / 1e6)} km² are in the results once more, and slumps there count once "
            "for each tile that shows them. darts dataset build counts each once."
        )
    finished = table["status"].isin(["success", "skipped"])
    gone = int((finished & (table["folder"] == "")).sum())
    if gone:
        cautions.append(
            f"The results of {gone:,} finished {'tile are' if gone == 1 else 'tiles are'} no longer in the folder; the "
            "figures are those of the run."
        )
    unknown = int((finished & table["objects"].isna()).sum())
    if unknown:
        cautions.append(
            f"The results of {unknown:,} finished {'tile does' if unknown == 1 else 'tiles do'} not say how many "
            "slumps they hold; the figures are without them."
        )
    return cautions


def _advice(record: Mapping[Any, Any]) -> str:
    if record.get("retryable"):
        return "A service, the network or the memory failed. Start the same command again later: it computes only this."
    return "Do what the error says, then start the same command again: finished tiles are skipped."


def _started(name: str) -> str:
    try:
        return f"{datetime.strptime(name[:19], '%Y-%m-%d_%H-%M-%S'):%d %B %Y, %H:%M} UTC"  # noqa: DTZ007 - a name in UTC
    except ValueError:
        return name


def _map_label(table: pd.DataFrame, projection: str, points: int) -> str:
    slumps = f" with {points:,} slumps as points" if points else ""
    failed = int((table["status"] == "failed").sum())
    return f"Map of {len(table):,} tiles{slumps}, {failed:,} of them failed, in {projection}."
