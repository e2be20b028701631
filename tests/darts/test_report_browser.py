"""The report in a real browser: what is drawn, sorted, switched and followed; and that faults would be noticed."""

import io
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from PIL import Image

from darts.report import write_report
from darts.run import run
from support import standin
from support.browser import Watched, browser, watch
from support.reports import make_records

pytestmark = pytest.mark.slow

WIDTHS = (1400, 400)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tiles, one of them failed, with their report."""
    home = tmp_path_factory.mktemp("run")
    standin.make_folder(home, 4)
    (home / "images" / "tile-002.tif").write_bytes(b"no image")
    records = run(standin.make_pipeline(home), standin.open_session)
    write_report(records.folder)
    return records.folder


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    with browser() as started:
        yield started


def tile_page(results: Path, name: str = "tile-001") -> Path:
    return results / "report" / "tiles" / f"{name}.html"


def check_quiet(watched: Watched) -> None:
    assert (watched.said, watched.asked) == ([], [])


def red_pixels(watched: Watched) -> int:
    """Count pixels of the map that have the colour of outlines."""
    picture = Image.open(io.BytesIO(watched.page.locator("#map").screenshot())).convert("RGB")
    return int((np.abs(np.asarray(picture).astype(int) - [217, 64, 26]).max(axis=-1) < 12).sum())


def check_drawn(watched: Watched, results: Path, name: str) -> None:
    """Count the outlines of a tile in its file, the source of the map, its view, and the picture."""
    count = len(gpd.read_parquet(results / name / "prediction_segments.parquet"))
    assert count > 0
    assert watched.value("darts.find('slumps').data.xs.length") == count
    views = "[...Bokeh.index.roots][0].renderer_views"
    drawn = f"{views}.get(darts.find('slumps view')).glyph.sxs.length"
    assert watched.value(drawn) == count
    with_outlines = red_pixels(watched)
    watched.page.locator("input[data-layer=slumps]").uncheck()
    watched.page.wait_for_timeout(300)
    without = red_pixels(watched)
    watched.page.locator("input[data-layer=slumps]").check()
    watched.page.wait_for_timeout(300)
    assert with_outlines > without + 100 * count
    assert red_pixels(watched) == with_outlines


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_are_quiet_ask_nobody_and_fit_their_width(results: Path, started: Any, width: int) -> None:
    for path in (results / "report" / "index.html", tile_page(results)):
        watched = watch(started, width)
        watched.open(path)
        check_quiet(watched)
        assert watched.value("document.documentElement.scrollWidth") == width
        ranges = "(({x_range: x, y_range: y}) => [x.end - x.start, y.end - y.start])(darts.find('%s'))"
        across, up = watched.value(ranges % ("tiles-map" if path.name == "index.html" else "tile-map"))
        box = watched.value("(({bbox}) => [bbox.width, bbox.height])([...Bokeh.index.roots][0].frame)")
        assert across / box[0] == pytest.approx(up / box[1], rel=0.01)  # metres to a pixel


def test_outlines_are_those_of_the_file_and_can_be_switched(results: Path, started: Any) -> None:
    watched = watch(started)
    watched.open(tile_page(results))
    check_drawn(watched, results, "tile-001")
    for name in ("preview", "probabilities", "extent"):
        box = watched.page.locator(f"input[data-layer={name}]")
        for state in (True, False):
            box.set_checked(state)
            assert watched.value(f"darts.find('{name} view').visible") is state
    check_quiet(watched)


def test_a_click_on_a_tile_leads_to_its_page(results: Path, started: Any) -> None:
    watched = watch(started)
    watched.open(results / "report" / "index.html")
    watched.page.locator("#map").scroll_into_view_if_needed()
    # A fifth from the lower left corner of the first tile, where no slump lies.
    x, y = watched.value(
        "(view => { const {xs, ys} = darts.find('tiles').data, {x, y} = view.el.getBoundingClientRect();"
        " const at = (low, high) => low + (high - low) / 5;"
        " return [x + view.frame.x_scale.compute(at(Math.min(...xs[0]), Math.max(...xs[0]))),"
        " y + view.frame.y_scale.compute(at(Math.min(...ys[0]), Math.max(...ys[0])))]; })([...Bokeh.index.roots][0])"
    )
    with watched.page.expect_navigation():
        watched.page.mouse.click(x, y)
    assert watched.page.url.endswith("/tiles/tile-000.html")
    watched.page.get_by_role("link", name="Next").click()
    assert watched.page.url.endswith("/tiles/tile-001.html")
    check_quiet(watched)


def test_tiles_are_coloured_by_hectares_on_request(results: Path, started: Any) -> None:
    watched = watch(started)
    watched.open(results / "report" / "index.html")
    watched.page.get_by_label("hectares of slumps").check()
    assert watched.value("darts.find('tiles view').glyph.fill_color.field") == "by_hectares"
    assert watched.page.locator(".legend[data-for=by_hectares]").is_visible()
    assert not watched.page.locator(".legend[data-for=by_state]").is_visible()
    check_quiet(watched)


def test_the_table_of_tiles_sorts_by_keyboard_and_says_so(results: Path, started: Any) -> None:
    watched = watch(started)
    watched.open(results / "report" / "index.html")
    head = watched.page.get_by_role("columnheader", name="Hectares")
    head.get_by_role("button").focus()
    for state, order in (("descending", -1), ("ascending", 1)):
        watched.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == state
        shown = watched.value(
            "[...document.querySelectorAll('#tiles-table tbody tr')].map(r => r.cells[4].dataset.key)"
        )
        numbers = [float(text) for text in shown[:-1]]
        assert shown[-1] == ""  # the failed tile, whichever way
        assert numbers == sorted(numbers, reverse=order < 0)
    check_quiet(watched)


def test_what_is_seen_is_said(results: Path, started: Any) -> None:
    watched = watch(started)
    watched.open(tile_page(results))
    label = watched.page.locator("#map").get_attribute("aria-label")
    count = len(gpd.read_parquet(results / "tile-001" / "prediction_segments.parquet"))
    assert f"{count} slump" in label
    assert watched.page.locator("#map").get_attribute("role") == "img"
    watched.page.emulate_media(media="print")
    assert watched.page.locator("#slumps-table tbody tr").count() == count


def test_ten_thousand_tiles_are_drawn_and_sorted_in_time(started: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    table = make_records(tmp_path / "results", 10_000)
    start = time.process_time()
    index = write_report(tmp_path / "results")
    assert time.process_time() - start < 10
    assert index.stat().st_size < 8e6
    watched = watch(started)
    start = time.perf_counter()
    watched.open(index)
    assert time.perf_counter() - start < 5
    assert watched.value("darts.find('tiles').data.xs.length") == 10_000
    start = time.perf_counter()
    watched.page.locator(".slick-header-column", has_text="Hectares").click()
    first = watched.page.locator(".slick-row").first.locator(".slick-cell").nth(4)
    lowest = f"{table['area_m2'].min() / 1e4:.2f}"
    expect(first).to_have_text(lowest, timeout=1000)
    assert time.perf_counter() - start < 1
    check_quiet(watched)


# Each fault must be noticed by what the tests above look at.


def changed(results: Path, tmp_path: Path, pattern: str, new: str) -> Path:
    copied = Path(shutil.copytree(results, tmp_path / "results"))
    page = tile_page(copied)
    text = page.read_text("utf-8")
    assert re.search(pattern, text)
    page.write_text(re.sub(pattern, lambda _: new, text, count=1), "utf-8")
    return copied


def test_a_foreign_image_is_noticed(results: Path, started: Any, tmp_path: Path) -> None:
    copied = changed(results, tmp_path, "</header>", '</header><img src="http://127.0.0.1:9/a.png">')
    watched = watch(started)
    watched.open(tile_page(copied))
    with pytest.raises(AssertionError, match="UNSAFE_PORT"):
        check_quiet(watched)


def test_an_error_in_a_script_is_noticed(results: Path, started: Any, tmp_path: Path) -> None:
    copied = changed(results, tmp_path, "</body>", "<script>darts.nothing();</script></body>")
    watched = watch(started)
    watched.open(tile_page(copied))
    with pytest.raises(AssertionError, match="nothing is not a function"):
        check_quiet(watched)


def test_a_slump_that_was_dropped_is_noticed(results: Path, started: Any, tmp_path: Path) -> None:
    copied = changed(results, tmp_path, r'"slumps":\{"xs":\[\[\[\[.*?\]\]\]\],', '"slumps":{"xs":[],')
    watched = watch(started)
    watched.open(tile_page(copied))
    with pytest.raises(AssertionError, match=r"0 == \d"):
        check_drawn(watched, copied, "tile-001")
