"""The report of a run: what it says, that it names no machine, that its links resolve wherever it lies."""

import getpass
import json
import re
import shutil
import xml.etree.ElementTree as ET
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely

from darts.errors import ConfigurationError
from darts.report import index, maps, write_report
from darts.report.places import choose_projection, ground_area_m2, read_footprints
from darts.run import run
from darts.run.messages import without_places
from darts_export import read_manifest
from support import standin
from support.commands import run_darts
from support.reports import make_records

ELSEWHERE = "somebodys-folder-8c1f"


class Page(HTMLParser):
    """The links, identifiers and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs) -> None:
        self.links += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with their report, moved: two finished tiles, one damaged image, one without data."""
    home = tmp_path_factory.mktemp(ELSEWHERE)
    standin.make_folder(home, 2)
    (home / "images" / "tile-002.tif").write_bytes(b"no image")
    standin.write_image(home / "images" / "tile-003.tif", 3)
    _empty(home / "images" / "tile-003.tif")
    records = run(standin.make_pipeline(home), standin.open_session)
    assert sorted(tile.status for tile in records.tiles) == ["empty", "failed", "success", "success"]
    index = write_report(records.folder)
    assert index == home / "results" / "report" / "index.html"
    target = tmp_path_factory.mktemp("moved") / "results"
    shutil.move(home / "results", target)
    return target


def test_a_run_reports_on_itself_whatever_the_clock_said_before(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("darts.run.run", partial(run, open_session=standin.open_session))
    standin.make_folder(tmp_path, 2)
    pipeline = standin.make_pipeline(tmp_path)
    first = pipeline.run()
    for path in first.folder.glob(f"{first.name}.*"):
        path.rename(path.with_name(path.name.replace(first.name, f"2099{first.name[4:]}")))
    (tmp_path / "images" / "tile-001.tif").unlink()
    pipeline.run()
    assert "tile-001" not in Page(first.folder / "report" / "index.html").text


def _empty(path: Path) -> None:
    import rasterio

    with rasterio.open(path, "r+") as image:
        image.write(np.zeros((4, *image.shape), np.uint16))


def test_every_link_of_a_report_resolves_after_it_was_moved(moved: Path) -> None:
    pages = sorted((moved / "report").rglob("*.html"))
    assert [page.name for page in pages] == ["index.html", "tile-000.html", "tile-001.html", "tile-003.html"]
    assert "no longer in the folder" not in Page(pages[0]).text
    for page in pages:
        for link in Page(page).links:
            if not link.startswith("data:"):
                assert (page.parent / unquote(link)).is_file(), (page.name, link)


def test_a_report_names_no_machine_and_nothing_outside_of_it(moved: Path) -> None:
    own = [path for path in (moved / "report").rglob("*") if path.is_file() and not path.name.startswith("bokeh")]
    assert {path.suffix for path in own} == {".html", ".css", ".js", ".qgs", ".qlr"}
    for path in own:
        text = path.read_text("utf-8")
        for secret in (ELSEWHERE, getpass.getuser() + "/", str(Path.home()) + "/", str(moved)):
            assert secret not in text, path.name
        assert not re.search(r"(src|href|url\()\s*=?\s*[\"']?https?:", text), path.name
    assert "…/tile-002.tif" in (moved / "report" / "index.html").read_text("utf-8")


def test_the_first_page_says_what_the_records_say(moved: Path) -> None:
    text = Page(moved / "report" / "index.html").text
    (path,) = moved.glob("*.results.parquet")
    table = pd.read_parquet(path).set_index("tile_id")
    assert "1 tile failed" in text
    assert "Its images hold no data" in Page(moved / "report" / "tiles" / "tile-003.html").text or "data" in text
    for name in ("tile-000", "tile-001"):
        summary = read_manifest(moved / name)["summary"]
        row = table.loc[name]
        assert (row["objects"], row["area_m2"]) == (summary["objects"], summary["area_m2"])
        assert row["mean_probability"] == summary["mean_probability"]
        assert row["acquired"] == "2021-08-21T21:00:19Z"
        assert re.search(
            rf"{name}\s*computed\s*2021-08-21\s*{summary['objects']}\s*{summary['area_m2'] / 1e4:.2f}", text
        )
    hectares = table["area_m2"].sum() / 1e4
    assert f"{hectares:,.1f}" in text
    assert "tile-002failed" in re.sub(r"\s", "", text)


def test_footprints_of_the_records_are_the_corners_of_the_tiles(moved: Path) -> None:
    (path,) = moved.glob("*.results.parquet")
    table = pd.read_parquet(path).set_index("tile_id")
    for name in ("tile-000", "tile-001"):
        item = json.loads((moved / name / "item.json").read_text("utf-8"))
        wanted = shapely.geometry.shape(item["geometry"])
        found = shapely.from_wkt(table.loc[name, "footprint"])
        assert found.symmetric_difference(wanted).area < 2e-3 * wanted.area
    assert pd.isna(table.loc["tile-002", "footprint"])


def _data(page: Path) -> dict:
    return json.loads(re.search(r"darts\.drawTile\((\{.*?\}), \[", page.read_text("utf-8"))[1])


def test_the_page_of_a_tile_holds_its_outlines_in_place(moved: Path) -> None:
    data = _data(moved / "report" / "tiles" / "tile-001.html")
    frame = gpd.read_parquet(moved / "tile-001" / "prediction_segments.parquet").sort_values("area_m2", ascending=False)
    left, bottom, right, top = json.loads((moved / "tile-001" / "item.json").read_text())["properties"]["proj:bbox"]
    assert data["slumps"]["uid"] == frame["object_uid"].tolist()
    for xs, ys, shape in zip(data["slumps"]["xs"], data["slumps"]["ys"], frame.geometry, strict=True):
        rings = [
            shapely.Polygon(*[list(zip(x, y, strict=True)) for x, y in zip(px, py, strict=True)][:1])
            for px, py in zip(xs, ys, strict=True)
        ]
        drawn = shapely.affinity.translate(shapely.MultiPolygon(rings), left, bottom)
        assert drawn.symmetric_difference(shapely.MultiPolygon(shape)).area == pytest.approx(0, abs=1)
    for name in ("preview", "probabilities"):
        image = {key: values[0] for key, values in data[name].items()}
        assert (image["x"], image["y"], image["w"], image["h"]) == (0, top - bottom, right - left, top - bottom)
        assert image["url"].startswith("data:image/")


def test_the_project_for_qgis_is_whole_and_relative(moved: Path) -> None:
    for name in ("darts.qgs", "darts.qlr"):
        root = ET.fromstring((moved / "report" / name).read_text("utf-8"))
        layers = list(root.iter("maplayer"))
        assert len(layers) == 2 * 5
        assert {layer.findtext("srs/spatialrefsys/authid") for layer in layers} == {"EPSG:32608"}
        for layer in layers:
            source = layer.findtext("datasource").partition("|")[0]
            assert source.startswith("../tile-00")
            assert (moved / "report" / source).is_file()
            assert layer.find("pipe/rasterrenderer" if layer.get("type") == "raster" else "renderer-v2") is not None
        names = {each.get("id") for each in root.iter("layer-tree-layer")}
        assert names == {layer.findtext("id") for layer in layers}


def test_a_report_of_moved_and_damaged_results_says_what_is_missing(moved: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(moved, tmp_path / "results"))
    shutil.rmtree(results / "report")
    (results / "tile-000" / "preview.tif").unlink()
    (results / "tile-000" / "prediction_segments.parquet").write_bytes(b"PAR1")
    (results / "tile-000" / "probabilities.tif").write_bytes(b"II*\0")
    (results / "tile-001" / "manifest.json").write_text("{")
    code, said = run_darts(tmp_path, "report", "results", "--out", tmp_path / "page")
    assert (code, said) == (0, f"report: {tmp_path / 'page' / 'index.html'}\n")
    text = Page(tmp_path / "page" / "tiles" / "tile-000.html").text
    for note in (
        "preview.tif is missing",
        "prediction_segments.parquet cannot be read",
        "probabilities.tif cannot be read",
    ):
        assert note in text
    summary = read_manifest(results / "tile-000")["summary"]
    assert re.search(rf"Slumps\s*{summary['objects']}\s", text)  # as the run's table has it
    assert "hold no outlines" in text
    assert "None was found" not in text
    assert "holds no finished results" in Page(tmp_path / "page" / "tiles" / "tile-001.html").text
    for link in Page(tmp_path / "page" / "index.html").links:
        assert link.startswith("data:") or (tmp_path / "page" / unquote(link)).is_file()


def test_tiles_of_records_without_footprints_are_found_by_their_items(moved: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(moved, tmp_path / "results"))
    (records,) = results.glob("*.results.parquet")
    columns = ["footprint", "acquired", "mean_probability", "area_m2"]  # as of release 0.1
    pd.read_parquet(records).drop(columns=columns).to_parquet(records)
    for journal in results.glob("*.jsonl"):
        journal.unlink()
    text = Page(write_report(results)).text
    assert "2 tiles are not on the map" in text  # the failed one, and the one without data


def test_histograms_count_slumps_that_the_table_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.make_folder(tmp_path, 1)
    with rasterio.open(tmp_path / "images" / "tile-000.tif", "r+") as file:
        values = file.read()
        values[3] = 1000
        for top, edge in ((8, 4), (20, 6), (34, 8)):
            values[3, top : top + edge, 10 : 10 + edge] = 9000 - 300 * edge
        file.write(values)
    output = run(standin.make_pipeline(tmp_path), standin.open_session).folder
    given = []
    monkeypatch.setattr(index, "histogram", lambda *values, **_: given.append(values) or maps.histogram(*values))
    monkeypatch.setattr("darts.report.tiles._MOST_ROWS", 2)
    page = write_report(output)
    frame = gpd.read_parquet(output / "tile-000" / "prediction_segments.parquet")
    assert len(frame) == 3
    assert [sorted(values) for values, *_ in given] == [sorted(frame[name]) for name in ("area_m2", "mean")]
    assert "The table lists the 2 largest." in Page(page.parent / "tiles" / "tile-000.html").text


def test_a_report_replaces_a_report_and_nothing_else(moved: Path, tmp_path: Path) -> None:
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "mine.html").write_text("mine")
    write_report(moved, tmp_path)
    (tmp_path / "tiles" / "old.html").write_text((tmp_path / "index.html").read_text("utf-8"), "utf-8")
    write_report(moved, tmp_path)
    assert {path.name for path in (tmp_path / "tiles").iterdir()} == {
        *("mine.html", "tile-000.html", "tile-001.html", "tile-003.html")
    }
    (tmp_path / "index.html").write_text("<p>my home page</p>")
    with pytest.raises(ConfigurationError, match="something else than a report"):
        write_report(moved, tmp_path)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigurationError, match="no records of a run"):
        write_report(tmp_path / "nothing")


def test_beyond_a_hundred_tiles_none_has_a_page_but_those_asked_for(tmp_path: Path) -> None:
    make_records(tmp_path / "results", 101)
    (tmp_path / "results" / "tile_00007").mkdir()
    index = write_report(tmp_path / "results")
    assert list((index.parent / "tiles").iterdir()) == []
    assert not (index.parent / "darts.qgs").exists()
    write_report(tmp_path / "results", tiles=["tile_00007"])
    assert [path.name for path in (index.parent / "tiles").iterdir()] == ["tile_00007.html"]
    with pytest.raises(ConfigurationError, match="no tile 'tile_9'"):
        write_report(tmp_path / "results", tiles=["tile_9"])


@pytest.mark.parametrize(
    ("west", "south", "name"),
    [
        (-135.2, 68, "UTM zone 8N (EPSG:32608)"),
        (179.6, 71, "UTM zone 60N (EPSG:32660)"),
        (-71.0, -53, "UTM zone 19S (EPSG:32719)"),
    ],
)
def test_the_projection_is_the_utm_zone_that_holds_all_tiles(west: float, south: float, name: str) -> None:
    texts = pd.Series([shapely.box(west, south, west + 0.3, south + 0.1).wkt, "", "POINT (1 2)", "nonsense"])
    footprints = read_footprints(texts)
    assert [shape is not None for shape in footprints] == [True, False, False, False]
    assert choose_projection(footprints).name == name
    side, again = ground_area_m2(footprints)
    assert again == 0
    frame = gpd.GeoSeries([footprints[0]], crs=4326).to_crs(choose_projection(footprints).crs)
    assert side == pytest.approx(frame.area.iloc[0], rel=3e-3)


def test_the_projection_is_that_of_the_pole_where_tiles_lie_far_apart() -> None:
    footprints = read_footprints(pd.Series([shapely.box(west, 70, west + 1, 71).wkt for west in (-150, 10)]))
    assert choose_projection(footprints).crs == "EPSG:6931"
    x, _ = choose_projection(footprints).project([0, 180], [80, 80])
    assert abs(x).max() < 1  # both on the line through the pole


def test_a_footprint_across_the_antimeridian_is_one_piece_on_the_map() -> None:
    footprints = read_footprints(
        pd.Series([shapely.box(179.9, 71, 180.2, 71.1).wkt, shapely.box(-179.8, 71, -179.5, 71.1).wkt])
    )
    projection = choose_projection(footprints)
    x, _ = projection.project(*shapely.get_coordinates(footprints).T)
    assert np.ptp(x) < 30_000


def test_ground_of_overlapping_tiles_counts_once_also_across_the_antimeridian() -> None:
    """The oracle is an equal-area projection."""
    boxes = [shapely.box(179.5, 71, 180.3, 71.2), shapely.box(-180, 71, -179.4, 71.2), shapely.box(-170, 71, -169, 72)]
    once, again = ground_area_m2(read_footprints(pd.Series([box.wkt for box in boxes])))
    alone = [shapely.box(179.5, 71, 180.6, 71.2), boxes[2]]
    wanted = gpd.GeoSeries(shapely.segmentize(alone, 0.001), crs=4326).to_crs(6931).area.sum()
    shared = gpd.GeoSeries(shapely.segmentize([shapely.box(-180, 71, -179.7, 71.2)], 0.001), crs=4326).to_crs(6931).area
    # Sides along a parallel are shortest lines here, which lie a little north of it.
    assert (once, again) == (pytest.approx(wanted, rel=3e-3), pytest.approx(shared.sum(), rel=3e-2))


def test_the_first_page_says_what_its_sums_count_twice_and_what_they_miss(tmp_path: Path) -> None:
    table = make_records(tmp_path, 4)
    assert "overlap" not in Page(write_report(tmp_path)).text
    table["footprint"] = table["footprint"][0]
    table["objects"] = [1, 2, 3, np.nan]
    table["area_m2"] = [1e4, 2e4, 3e4, np.nan]
    table.to_parquet(next(tmp_path.glob("*.parquet")))
    text = Page(write_report(tmp_path)).text
    one = gpd.GeoSeries.from_wkt(table["footprint"][:1], crs=4326).to_crs(6931).area.sum() / 1e6
    assert re.search(rf"km² of ground in tiles\s*{one:.1f}\s", text)
    assert f"Tiles overlap: {3 * one:.1f} km²" in text
    assert "The results of 1 finished tile does not say" in text
    assert "The results of 4 finished tiles are no longer in the folder" in text
    assert re.search(r"hectares of slumps\s*6\.0\s", text)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("/home/ann/scenes/a.tif is damaged", "…/a.tif is damaged"),
        ("/data/x y/scenes/b/c.tif is damaged", "…/c.tif is damaged"),
        ("cannot open '/data/x y/b.tif': no", "cannot open '…/b.tif': no"),
        (r"C:\maps\b.tif, C:/maps/c.tif", "…/b.tif, …/c.tif"),
        ("see https://example.org/a/b and 3/4 of it", "see https://example.org/a/b and 3/4 of it"),
        ("s3://bucket/key/x", "s3://bucket/key/x"),
    ],
)
def test_messages_lose_what_names_the_machine(message: str, said: str) -> None:
    assert without_places(message, ["/data/x y"]) == said
