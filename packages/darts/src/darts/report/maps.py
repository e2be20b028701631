"""Maps and charts of a report, as Bokeh draws them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    FixedTicker,
    HoverTool,
    Metric,
    NumeralTickFormatter,
    OpenURL,
    ScaleBar,
    TapTool,
)
from bokeh.plotting import figure

STATES = {"success": "#2f7f6b", "skipped": "#7fb5a3", "empty": "#b9bec4", "failed": "#c2333a"}
"""Colours of tiles by state."""
SLUMP_COLOUR = "#d9401a"
_KINDS = {"hit": "#1f78c8", "false alarm": "#e08a00", "miss": "#c2185b"}
"""Colours of slumps that labels confirm, contradict, or have beside them."""
_INK = "#3d474f"
_MANY_TILES = 1_000
Columns: TypeAlias = Mapping[str, Sequence[object]]
"""Columns of a source of Bokeh, by name."""
_HECTARES = ("#eef3ee", "#fde3c0", "#f9b572", "#e9752f", "#a8321a")


def index_map(tiles: Columns, points: Columns, images: Columns) -> figure:
    """Make the map of all tiles.

    Args:
        tiles: Columns of the tiles: `xs`, `ys`, `name`, `state`, `slumps`, `hectares`, `page`, `by_state` and
            `by_hectares`, `alpha`.
        points: Columns of the slumps: `x`, `y`, `name`, `area`, `mean`, `page`; empty where they are too many.
        images: Columns of the images of tiles: `url`, `x`, `y`, `w`, `h`, from the upper left corner.

    Returns:
        A figure of Bokeh.
    """
    figure = _map("tiles-map")
    figure.image_url("url", "x", "y", "w", "h", source=ColumnDataSource(dict(images)), anchor="top_left")
    tile_source = ColumnDataSource(dict(tiles), name="tiles")
    drawn = figure.patches(
        "xs",
        "ys",
        source=tile_source,
        fill_color="by_state",
        fill_alpha="alpha",
        line_color=_INK,
        line_width=1 if len(tiles["xs"]) <= _MANY_TILES else 0.3,
        nonselection_fill_alpha="alpha",
        name="tiles view",
    )
    point_source = ColumnDataSource(dict(points), name="slumps")
    dots = figure.scatter(
        "x",
        "y",
        source=point_source,
        size=7,
        fill_color=SLUMP_COLOUR,
        line_color="white",
        line_width=0.5,
        nonselection_fill_alpha=1,
        name="slumps view",
    )
    about = [("tile", "@name"), ("state", "@state"), ("slumps", "@slumps"), ("hectares", "@hectares{0,0.0}")]
    figure.add_tools(
        HoverTool(renderers=[drawn], tooltips=about),
        HoverTool(
            renderers=[dots],
            tooltips=[("slump", "@name"), ("area", "@area{0,0} m²"), ("mean probability", "@mean{0.00}")],
        ),
        TapTool(renderers=[dots, drawn], callback=OpenURL(url="@page", same_tab=True)),
    )
    return figure


def tile_map(classes: Sequence[str] = ()) -> figure:
    """Make the map of a tile without data, which each page brings.

    Args:
        classes: Names of the layers of other classes than slumps that some page brings.

    Returns:
        A figure of Bokeh.
    """
    figure = _map("tile-map")
    for name in ("preview", "probabilities", *classes):
        source = ColumnDataSource({key: [] for key in ("url", "x", "y", "w", "h")}, name=name)
        figure.image_url("url", "x", "y", "w", "h", source=source, anchor="top_left", name=f"{name} view")
    extent = ColumnDataSource({"xs": [], "ys": []}, name="extent")
    figure.multi_polygons(
        "xs",
        "ys",
        source=extent,
        fill_alpha=0,
        line_color="#4fb7e8",
        line_width=2,
        line_dash="dashed",
        name="extent view",
    )
    columns = ("xs", "ys", "uid", "area_m2", "mean", "colour", "kind")
    slumps = ColumnDataSource({key: [] for key in columns}, name="slumps")
    drawn = figure.multi_polygons(
        "xs",
        "ys",
        source=slumps,
        fill_color="colour",
        fill_alpha=0.18,
        line_color="colour",
        line_width=2,
        hover_fill_alpha=0.45,
        name="slumps view",
    )
    tips = [("slump", "@uid"), ("area", "@area_m2{0,0} m²"), ("mean probability", "@mean{0.00}"), ("", "@kind")]
    figure.add_tools(HoverTool(renderers=[drawn], tooltips=tips))
    return figure


def kind_colour(kind: str) -> str:
    """Return the colour of a slump by what labels say of it; empty means that nothing is known."""
    return _KINDS.get(kind, SLUMP_COLOUR)


def hectare_colours(hectares: Sequence[float]) -> tuple[list[str], list[tuple[str, str]]]:
    """Colour tiles by hectares of slumps: none, and four classes with about the same number of tiles.

    Args:
        hectares: Of each tile, NaN where unknown.

    Returns:
        Colours, and the legend: colour and text of each class that occurs.
    """
    values = np.asarray(hectares, float)
    known = values[values > 0]
    edges = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1])) if len(known) else np.array([])
    classes = np.clip(np.searchsorted(edges, values, side="left"), 1, max(len(edges) - 1, 1))
    colours = [
        "#ffffff" if np.isnan(value) else _HECTARES[0] if value <= 0 else _HECTARES[int(number)]
        for value, number in zip(values, classes, strict=True)
    ]
    legend = [("#ffffff", "not known")] if np.isnan(values).any() else []
    if (values <= 0).any():
        legend.append((_HECTARES[0], "none"))
    if len(edges) == 1:
        legend.append((_HECTARES[1], f"{edges[0]:,.1f} ha"))
    pairs = pairwise(edges)
    legend += [(_HECTARES[index], f"{low:,.1f} – {high:,.1f} ha") for index, (low, high) in enumerate(pairs, start=1)]
    return colours, legend


def histogram(
    values: Sequence[float], edges: Sequence[float], title: str, counted: str, *, log: bool = False
) -> figure:
    """Make a histogram.

    Args:
        values: What is counted.
        edges: Edges of the classes.
        title: What the values are, with their unit.
        counted: What is counted.
        log: Whether the axis of the values is logarithmic.

    Returns:
        A figure of Bokeh.
    """
    counts, _ = np.histogram(values, edges)
    most = max(1, int(counts.max(initial=0)))
    labels = {"x_axis_label": title, "y_axis_label": counted}
    chart = _chart(240, **labels, x_axis_type="log" if log else "linear", y_range=(0, most * 1.08))
    bars = chart.quad(
        top=counts.tolist(),
        bottom=0,
        left=list(edges[:-1]),
        right=list(edges[1:]),
        fill_color=SLUMP_COLOUR,
        fill_alpha=0.8,
        line_color="white",
    )
    tips = [(counted, "@top"), ("from", "@left{0,0.[00]}"), ("to", "@right{0,0.[00]}")]
    chart.add_tools(HoverTool(renderers=[bars], tooltips=tips))
    if log:
        low, high = np.floor(np.log10([edges[0], edges[-1]])).astype(int)
        chart.xaxis.ticker = FixedTicker(
            ticks=[step * 10.0**power for power in range(low, high + 1) for step in (1, 3)]
        )
        chart.xaxis.formatter = NumeralTickFormatter(format="0,0.[0000]")
    return chart


def stage_chart(seconds: Mapping[str, float]) -> figure:
    """Make the chart of the time that each stage took, over all tiles."""
    stages = list(seconds)
    most = max(1e-3, *seconds.values())
    ranges = {"x_range": (0, most * 1.05), "y_range": stages[::-1]}
    chart = _chart(60 + 28 * len(stages), x_axis_label="seconds, all tiles", **ranges)
    bars = chart.hbar(
        y=stages, right=[seconds[stage] for stage in stages], height=0.7, fill_color="#2f7f6b", line_color=None
    )
    chart.add_tools(HoverTool(renderers=[bars], tooltips=[("stage", "@y"), ("seconds", "@right{0,0.0}")]))
    return chart


def _map(name: str) -> figure:
    # Ranges that Bokeh fits to the data with the same scale on both axes: nothing is squeezed at any width.
    made = figure(
        x_range=DataRange1d(range_padding=0.04),
        y_range=DataRange1d(range_padding=0.04),
        match_aspect=True,
        sizing_mode="stretch_both",
        tools="pan,wheel_zoom,box_zoom,reset",
        active_scroll=None,
        toolbar_location="above",
        name=name,
        min_border=0,
    )
    made.toolbar.logo = None
    made.axis.visible = False
    made.grid.visible = False
    made.background_fill_color = "#f1f2f0"
    made.outline_line_color = "#c9ced2"
    made.add_layout(
        ScaleBar(
            range=made.x_range,
            unit="m",
            dimensional=Metric(base_unit="m", include=["m", "km"]),
            location="bottom_left",
            bar_length=0.12,
            background_fill_color="white",
            background_fill_alpha=0.75,
            border_line_color=None,
        )
    )
    return made


def _chart(height: int, **more: Any) -> figure:
    chart = figure(height=height, sizing_mode="stretch_width", toolbar_location=None, tools="", **more)
    chart.outline_line_color = None
    chart.grid.grid_line_color = "#e3e6e8"
    chart.axis.axis_line_color = "#9aa3ab"
    chart.axis.major_label_text_color = _INK
    chart.axis.axis_label_text_color = _INK
    chart.axis.axis_label_text_font_style = "normal"
    chart.axis.minor_tick_line_color = None
    chart.background_fill_alpha = 0
    chart.border_fill_alpha = 0
    return chart
