"""Write the report of a run: pages, their scripts, and the projects for QGIS."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

from bokeh.resources import Resources

from darts.errors import ConfigurationError
from darts.report.index import index_page
from darts.report.labels import judge
from darts.report.maps import tile_map
from darts.report.pages import embedded, render
from darts.report.qgis import write_projects
from darts.report.source import MOST_TILES, RunSource, read_source
from darts.report.tilepage import tile_page
from darts.report.tiles import TileView, read_tile
from darts_utils import class_of, write_atomically

_ICON_PX = 200
_LARGE_ICON_PX = 720
_FEW_TILES = 4
"""Tiles up to which their images on the map of all are large."""
_MARK = '<meta name="generator" content="DARTS report">'


def write_report(
    results: Path | str,
    out: Path | str | None = None,
    *,
    labels: Path | str | None = None,
    area: Path | str | None = None,
    tiles: Collection[str] = (),
    run: str | None = None,
) -> Path:
    """Write pages to look at a run, which open from disk in any browser, without internet.

    Args:
        results: Folder of results.
        out: Folder of the report; None for ``report`` in that of the results.
        labels: Vector file of labels, to say how good the map is.
        area: Vector file of the area in which the labels are complete.
        tiles: Names of tiles that get a page of their own where there are more than 100; up to 100 all do.
        run: Name of the run to report on; default the newest, and where that is a shard, all of its run.

    Returns:
        The path of ``index.html``.

    Raises:
        ConfigurationError: If there are no records of a run, a tile is not among them, or the folder of the report
            holds something else.
        OSError: If the report cannot be written.
        LabelsError: If the labels cannot be read, or lie in no tile.
        PredictionsError: If results that the labels are compared with are damaged.
    """
    source = read_source(Path(results), run)
    target = Path(out) if out is not None else source.output / "report"
    _check_target(target)
    judgement = None if labels is None else judge(source, Path(labels), None if area is None else Path(area))
    pages = _pages(source, tiles)
    views: dict[str, TileView] = {}
    classes: set[str] = set()
    for folder in ("assets", "tiles"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    with_tables = len(source.table) > MOST_TILES * 10
    rows = source.table[source.table["folder"].isin(list(pages))]
    names = ["", *map(quote, pages.values()), ""]  # with those before and after each
    icon_px = _LARGE_ICON_PX if len(pages) <= _FEW_TILES else _ICON_PX
    for position, row in enumerate(rows.to_dict("records")):
        view = views[row["folder"]] = read_tile(source.output / row["folder"], icon_px)
        page, big = tile_page(row, view, judgement, (names[position], names[position + 2]))
        with_tables = with_tables or big
        classes.update(name for name in view.data if class_of(name) is not None)
        _write(target / "tiles" / pages[row["folder"]], page)
        _forget_what_is_drawn(view)
    has_projects = len(source.table) <= MOST_TILES and write_projects(source, target)
    _write(target / "index.html", index_page(source, views, pages, judgement, has_projects=has_projects))
    _remove_stale(target / "tiles", set(pages.values()))
    _write_assets(target / "assets", sorted(classes), with_tables=with_tables)
    return target / "index.html"


def _check_target(target: Path) -> None:
    index = target / "index.html"
    if target.is_file() or (index.exists() and _MARK not in _head(index)):
        raise ConfigurationError(f"{target} holds something else than a report; choose another folder.")


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(2_000).decode("utf-8", "replace")


def _pages(source: RunSource, wanted: Collection[str]) -> dict[str, str]:
    """Name the page of each tile that gets one, by the folder of its results."""
    table = source.table
    chosen = table["folder"] != ""
    if len(table) > MOST_TILES:
        unknown = set(wanted) - set(table["tile_id"].astype(str))
        if unknown:
            raise ConfigurationError(f"There is no tile {sorted(unknown)[0]!r} in the run {source.name}.")
        chosen &= table["tile_id"].isin(list(wanted))
    pages: dict[str, str] = {}
    for folder in table["folder"][chosen]:
        pages.setdefault(folder, f"{folder.replace('/', '--')}.html")
    return pages


def _forget_what_is_drawn(view: TileView) -> None:
    """Keep only what the index shows of a tile."""
    view.data.clear()


def _remove_stale(folder: Path, kept: set[str]) -> None:
    for path in folder.glob("*.html"):
        if path.name not in kept and _MARK in _head(path):
            path.unlink()


def _write_assets(folder: Path, classes: Sequence[str], *, with_tables: bool) -> None:
    """Write the scripts that all pages share: Bokeh's, out of its wheel, and the map of a tile without data."""
    more = ["bokeh-widgets", "bokeh-tables"] if with_tables else []
    for file in Resources(mode="absolute", minified=True, components=["bokeh", *more]).js_files:
        write_atomically(folder / Path(file).name, Path(file).read_bytes(), durable=False)
    item = json.dumps(embedded(tile_map(classes), "map"), separators=(",", ":"))
    _write(folder / "tile-map.js", f"window.dartsTileMap = {item};\n")
    for name in ("report.js", "report.css"):
        _write(folder / name, render(name))


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode("utf-8", "replace"), durable=False)
