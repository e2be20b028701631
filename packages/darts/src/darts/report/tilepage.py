"""The page of one tile."""

from collections.abc import Mapping
from typing import Any

from darts.report.labels import Judgement
from darts.report.maps import SLUMP_COLOUR, kind_colour
from darts.report.pages import embedded, render, script_json
from darts.report.tables import MOST_HTML_ROWS, Column, bokeh_table, html_rows, is_unknown
from darts.report.tiles import TileView
from darts_utils import class_of

_COLUMNS = (
    Column("uid", "Slump"),
    Column("area_m2", "Area, m²", "{:,.0f}".format, 0),
    Column("mean", "Mean probability", "{:.2f}".format, 2),
    Column("lon", "Longitude", "{:.5f}".format, 5),
    Column("lat", "Latitude", "{:.5f}".format, 5),
    Column("touches_edge", "Cut at the edge"),
)
_VERDICT = Column("kind", "Labels say")


def tile_page(
    record: Mapping[Any, Any], view: TileView, judgement: Judgement | None, around: tuple[str, str]
) -> tuple[str, bool]:
    """Make the page of a tile.

    Args:
        record: Its row in the run's table.
        view: What was read of its files; outlines of misses are added where labels are known.
        judgement: What labels say of the map, None where there are none.
        around: Addresses of the pages before and after it, empty where there is none.

    Returns:
        HTML, and whether it needs the script of tables that Bokeh draws.
    """
    slumps = view.data["slumps"]
    count = len(slumps["xs"])
    slumps.setdefault("uid", [""] * count)
    slumps.setdefault("area_m2", [None] * count)
    slumps.setdefault("mean", [None] * count)
    slumps |= {"kind": [""] * count, "colour": [SLUMP_COLOUR] * count}
    columns: tuple[Column, ...] = _COLUMNS
    legend: list[tuple[str, str]] = []
    if judgement is not None:
        judgement.colour(str(record["tile_id"]), view)
        columns = (*_COLUMNS, _VERDICT)
        legend = [(kind_colour(kind), name) for kind, name in judgement.LEGEND]
    is_long = len(view.rows) > MOST_HTML_ROWS
    items = [embedded(bokeh_table(view.rows, columns, "slumps table"), "slumps-table")] if is_long else []
    number = record["objects"] if view.count is None else view.count
    table_rows = [
        ("Date", str(record["acquired"])[:10] or "–"),
        ("Slumps", "–" if is_unknown(number) else f"{number:,.0f}"),
        ("Hectares", "–" if is_unknown(record["area_m2"]) else f"{record['area_m2'] / 10_000:,.2f}"),
        ("Reliable", "–" if is_unknown(record["reliable"]) else f"{100 * record['reliable']:.0f} %"),
        ("Cloudy", "–" if is_unknown(record["cloudy"]) else f"{100 * record['cloudy']:.0f} %"),
    ]
    layers = [
        ("preview", "Image"),
        ("probabilities", "Probabilities"),
        *((name, f"Probabilities of {each}") for name in sorted(view.data) if (each := class_of(name)) is not None),
        ("slumps", "Outlines of slumps"),
        ("extent", "Reliable area"),
    ]
    page = render(
        "tile.html",
        tile=record["tile_id"],
        table_rows=table_rows,
        notes=view.notes,
        error=record["error"] if record["status"] == "failed" else "",
        layers=[(name, title) for name, title in layers if any(view.data[name].values())],
        has_map=any(any(columns.values()) for columns in view.data.values()),
        map_label=f"Map of tile {record['tile_id']} with {view.count or 0:,} slumps, in {view.crs}.",
        crs=view.crs,
        legend=legend,
        columns=columns,
        rows=[] if is_long else html_rows([row | {"uid": row["uid"][:8]} for row in view.rows], columns),
        count=len(view.rows),
        is_read=view.count is not None,
        needs_tables=is_long,
        before=around[0],
        after=around[1],
        data=script_json(view.data),
        items=script_json(items),
    )
    return page, is_long
