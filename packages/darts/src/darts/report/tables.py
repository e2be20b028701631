"""Tables of a report: as HTML up to 1,000 rows, beyond that drawn by Bokeh."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bokeh.models import ColumnDataSource, CustomJS, DataTable, NumberFormatter, StringFormatter, TableColumn

MOST_HTML_ROWS = 1_000


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Name of the values in the rows.
        title: Heading.
        text: Turns a value into what is shown; None shows it as it is.
        unit: Number of decimals for a table that Bokeh draws, None for texts.
    """

    name: str
    title: str
    text: Callable[[Any], str] | None = None
    decimals: int | None = None


Row: TypeAlias = dict[str, Any]
"""A row of a table: values by name of the column, and where it leads to."""


@dataclass(frozen=True)
class Cell:
    """A cell: what is shown, what it is sorted by, where it leads to, and whether it is a number."""

    text: str
    key: str
    href: str
    number: bool
    label: str


def html_rows(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[Cell]]:
    """Return the cells of a table, row by row; a row's `href` is where its first cell leads."""
    return [
        [
            Cell(
                shown(row.get(column.name), column),
                _key(row.get(column.name)),
                row.get("href", "") if column is columns[0] else "",
                column.decimals is not None,
                column.title,
            )
            for column in columns
        ]
        for row in rows
    ]


def shown(value: object, column: Column) -> str:
    """Return a value as text; a dash for what is unknown."""
    if is_unknown(value):
        return "–"
    return column.text(value) if column.text else str(value)


def is_unknown(value: object) -> bool:
    """Tell whether a value is missing."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def bokeh_table(rows: Sequence[Row], columns: Sequence[Column], name: str) -> DataTable:
    """Make a table that shows only the rows in view, sortable by its headings.

    Args:
        rows: The rows; a row's `href` is where a click on it leads.
        columns: The columns.
        name: Name of the source of its data in the document.

    Returns:
        A model of Bokeh.
    """
    data: dict[str, list] = {
        column.name: [None if is_unknown(row.get(column.name)) else row[column.name] for row in rows]
        for column in columns
    }
    for column in columns:
        if column.decimals is None:
            data[column.name] = ["" if value is None else str(value) for value in data[column.name]]
    data["href"] = [row.get("href", "") for row in rows]
    source = ColumnDataSource(data, name=name)
    follow = CustomJS(
        args={"source": source},
        code="const [row] = source.selected.indices; const href = row == null ? '' : source.data.href[row];"
        "if (href) window.location = href",
    )
    source.selected.js_on_change("indices", follow)
    return DataTable(
        source=source,
        columns=[
            TableColumn(
                field=column.name,
                width=240 if column is columns[0] else 90,
                title=column.title,
                formatter=StringFormatter(nan_format="–")
                if column.decimals is None
                else NumberFormatter(
                    format=f"0,0.{'0' * column.decimals}" if column.decimals else "0,0", nan_format="–"
                ),
            )
            for column in columns
        ],
        sizing_mode="stretch_width",
        height=520,
        index_position=None,
        autosize_mode="force_fit",
        reorderable=False,
        name=f"{name} view",
    )


def _key(value: object) -> str:
    if is_unknown(value):
        return ""
    return repr(float(value)) if isinstance(value, int | float) else str(value)
