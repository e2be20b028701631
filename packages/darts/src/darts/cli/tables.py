"""Print tables as they are: nothing in a cell is taken for markup, and no line is filled up or broken in a file."""

from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(rows: Iterable[Sequence[object]], *columns: str) -> None:
    """Print a table.

    Args:
        rows: Its cells.
        columns: Names of its columns; without any the first one names what stands in the second.
    """
    table = Table(*columns, box=None, show_header=bool(columns))
    if not columns:
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    console = Console(width=10_000)
    with console.capture() as written:
        console.print(table)
    for line in written.get().splitlines():
        typer.echo(line.rstrip())
