"""Areas of interest: the query holds the area, the final filter is exact, whatever the CRS and wherever it lies."""

import warnings

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box, mapping, shape

from darts_acquisition import Area, AreaError, RepairedGeometryWarning, WideEdgeWarning
from darts_acquisition.scenes.search import scene_table
from support.stac_server import _matches


def frame(*shapes, crs="EPSG:4326"):
    return gpd.GeoDataFrame(geometry=list(shapes), crs=crs)


def footprint(lon, lat, size=0.5):
    """Return a footprint as a catalogue has it: cut at the antimeridian."""
    east = lon + size
    if east <= 180:
        return mapping(box(lon, lat, east, lat + size))
    return mapping(MultiPolygon([box(lon, lat, 180, lat + size), box(-180, lat, east - 360, lat + size)]))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3413", "EPSG:32608", "EPSG:3995", "EPSG:5936"])
def test_the_crs_does_not_matter(crs):
    area = Area(frame(box(-136, 68, -135, 68.5)).to_crs(crs))
    assert area.touches(footprint(-135.2, 68.4))
    assert not area.touches(footprint(-134.9, 68.4))
    assert shape(area.query()).contains(box(-136, 68, -135, 68.5))


def unit(lon, lat):
    lon, lat = np.radians(lon), np.radians(lat)
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


@given(
    st.floats(-180, 179.9),
    st.floats(50, 83),
    st.floats(0.05, 60),
    st.floats(0.05, 6),
    st.lists(st.tuples(st.floats(-180, 179.9), st.floats(45, 84)), min_size=5, max_size=30),
)
def test_boxes_in_degrees_anywhere(west, south, width, height, points):
    """The oracle compares degrees, modulo full turns."""
    north = min(south + height, 84.5)
    area = Area(frame(box(west, south, west + width, north)))
    query = area.query()
    for lon, lat in points:
        inside = (lon - west) % 360 <= width and south <= lat <= north
        edge = min((lon - west) % 360, abs((lon - west) % 360 - width), abs(lat - south), abs(lat - north)) < 0.02
        if not edge:
            assert area.touches(mapping(Point(lon, lat))) == inside
        if inside:
            item = {"id": "x", "collection": "c", "geometry": mapping(Point(lon, lat)), "properties": {}}
            assert _matches(item, {"intersects": query})


@pytest.mark.parametrize(
    "crossing",
    [
        box(178, 70, 183, 71),
        MultiPolygon([box(178, 70, 180, 71), box(-180, 70, -177, 71)]),
        box(-182, 70, -177, 71),
    ],
)
def test_across_the_antimeridian(crossing):
    area = Area(frame(crossing))
    assert [area.touches(footprint(lon, 70.2)) for lon in (178.5, 179.8, -179, -177.4)] == [True] * 4
    assert not any(area.touches(footprint(lon, 70.2)) for lon in (177, -176, 0, 90, -90))
    query = shape(area.query())
    assert query.is_valid
    assert query.bounds[0] >= -180
    assert query.bounds[2] <= 180
    assert not query.intersects(box(-170, 60, 170, 80))
    assert query.contains(box(178.01, 70, 179.99, 71))


def test_edges_of_more_than_half_the_globe_cross_the_antimeridian_with_a_warning():
    with pytest.warns(WideEdgeWarning, match="read as crossing the antimeridian"):
        area = Area(frame(Polygon([(178, 70), (-177, 70), (-177, 71), (178, 71)])))
    assert area.touches(footprint(179.8, 70.2))
    assert not area.touches(footprint(0, 70.2))


def test_the_whole_arctic():
    area = Area(frame(box(-180, 60, 180, 90)))
    for lon in range(-180, 180, 30):
        assert area.touches(footprint(lon, 75))
        assert shape(area.query()).intersects(shape(footprint(lon, 75)))
        assert not area.touches(footprint(lon, 55))


def test_around_the_pole():
    arctic = frame(Point(0, 0).buffer(2_000_000), crs="EPSG:3413")
    area = Area(arctic)
    to_degrees = Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
    for angle in np.radians(range(0, 360, 15)):
        lon, lat = to_degrees.transform(1_950_000 * np.cos(angle), 1_950_000 * np.sin(angle))
        assert area.touches(mapping(Point(lon, lat)))
        assert shape(area.query()).intersects(Point(lon, lat))
        lon, lat = to_degrees.transform(2_050_000 * np.cos(angle), 2_050_000 * np.sin(angle))
        assert not area.touches(mapping(Point(lon, lat)))
    assert Area(frame(Point(0, 0).buffer(10_000), crs="EPSG:3413")).query() is None


def test_points_and_lines_are_areas_too():
    area = Area(frame(Point(-135.5, 68.2), LineString([(-130, 70), (-129, 70)])))
    assert area.touches(footprint(-135.9, 68.0))
    assert area.touches(footprint(-129.4, 69.8))
    assert not area.touches(footprint(-133, 69))
    assert shape(area.query()).contains(Point(-135.5, 68.2))


def test_many_and_complex_geometries_become_a_short_query():
    rng = np.random.default_rng(0)
    centres = np.column_stack([rng.uniform(-2e6, 2e6, 600), rng.uniform(-3e6, -1e6, 600)])
    many = gpd.GeoSeries(shapely.points(centres), crs="EPSG:3413").buffer(3000)
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 300_000 + 20_000 * np.sin(40 * angles) + rng.uniform(-500, 500, angles.size)
    coast = Polygon(np.column_stack([radius * np.cos(angles) + 2.5e6, radius * np.sin(angles)]))
    for shapes in (many, gpd.GeoSeries([coast], crs="EPSG:3413")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RepairedGeometryWarning)
            area = Area(shapes)
        query = shape(area.query())
        assert shapely.get_num_coordinates(query) < 4000
        sample = shapely.points(shapely.get_coordinates(shapes.to_crs("EPSG:4326").values)[::97])
        assert query.buffer(1e-9).covers(shapely.MultiPoint(sample))
    centre = gpd.GeoSeries([Point(2.5e6, 0)], crs="EPSG:3413").to_crs("EPSG:4326").iloc[0]
    assert area.touches(mapping(centre))


def test_invalid_geometries_are_repaired_with_a_warning():
    bow_tie = Polygon([(-136, 68), (-135, 69), (-135, 68), (-136, 69)])
    with pytest.warns(RepairedGeometryWarning, match="1 of 2 geometries"):
        area = Area(frame(bow_tie, box(0, 60, 1, 61)))
    assert area.touches(footprint(-135.9, 68.4, 0.1))
    assert not area.touches(footprint(-135.55, 68.8, 0.1))


def test_a_part_that_lies_in_another_is_no_hole():
    with pytest.warns(RepairedGeometryWarning, match="1 of 1 geometries"):
        area = Area(frame(MultiPolygon([box(-138, 66, -130, 70), box(-135, 67, -133, 69)])))
    assert area.touches(footprint(-134.1, 67.9, 0.1))


def test_holes_stay_holes():
    ring = Polygon(box(170, 65, 190, 75).exterior, [box(178, 69, 182, 71).exterior])
    area = Area(frame(ring))
    assert not area.touches(footprint(179.5, 69.6))
    assert area.touches(footprint(175, 69.6))
    with pytest.warns(WideEdgeWarning):
        wrapped = Area(
            frame(shapely.transform(ring, lambda p: np.column_stack([(p[:, 0] + 180) % 360 - 180, p[:, 1]])))
        )
    assert not wrapped.touches(footprint(179.5, 69.6))
    assert wrapped.touches(footprint(-175, 69.6))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (box(170, 70, 180, 71), box(170, 70, 180, 71)),
        (box(178, 70, 183, 71), MultiPolygon([box(178, 70, 180, 71), box(-180, 70, -177, 71)])),
        (Polygon([(178, 70), (-177, 70), (-177, 71), (178, 71)]), box(178, 70, 180, 71) | box(-180, 70, -177, 71)),
        (Polygon([(-180, 70), (177, 70), (177, 71), (-180, 71)]), box(177, 70, 180, 71)),
        (
            MultiPolygon([box(1, 2, 3, 4), box(179, 70, 181, 71)]),
            box(1, 2, 3, 4) | box(179, 70, 180, 71) | box(-180, 70, -179, 71),
        ),
    ],
)
def test_footprints_of_tables_are_cut_at_the_antimeridian(given, expected):
    row = {"scene_id": "x", "time": "2021-08-21", "tile_id": "01WCR", "cloud_cover": 1.0, "snow_cover": None}
    (cut,) = scene_table([row | {"geometry": mapping(given)}]).geometry
    assert cut.is_valid
    assert cut.equals(expected)


@pytest.mark.parametrize("content", [frame(), frame(Polygon()), frame(None)])
def test_an_empty_area_is_an_error(content):
    with pytest.raises(AreaError, match="empty"):
        Area(content)


def test_an_area_without_crs_is_an_error():
    with pytest.raises(AreaError, match="no CRS"):
        Area(frame(box(0, 60, 1, 61), crs=None))


@pytest.mark.parametrize("name", ["aoi.gpkg", "aoi.geojson", "aoi.shp", "aoi.fgb", "aoi.parquet"])
def test_any_vector_file_is_read(tmp_path, name, caplog):
    content = frame(box(-136, 68, -135, 68.5))
    file = tmp_path / name
    if name.endswith("parquet"):
        content.to_parquet(file)
    else:
        content.to_file(file)
    assert Area.read(file).touches(footprint(-135.2, 68.4))
    assert not caplog.records


@pytest.mark.parametrize(
    ("shapes", "crs", "message"),
    [
        ([box(5e5, 7.6e6, 5.1e5, 7.61e6), box(5e7, 7.6e6, 5.001e7, 7.61e6)], "EPSG:32608", r"1 of 2 .*index b\)"),
        ([Point(0, 95), Point(0, 70), Point(0, -91)], "EPSG:4326", r"2 of 3 .*index a, c\)"),
        ([MultiPolygon([box(0, 0, 1, 1), box(0, 80, 1, 91)]), Point(0, 70)], "EPSG:4326", r"1 of 2 .*index a\)"),
        ([Point(0, np.inf), Point(0, 70)], "EPSG:4326", r"1 of 2 .*index a\)"),
    ],
)
def test_what_lies_outside_its_crs_is_named(shapes, crs, message):
    content = gpd.GeoSeries(shapes, crs=crs, index=list("abc")[: len(shapes)])
    with pytest.raises(AreaError, match=message):
        Area(content)


def test_of_many_geometries_outside_the_crs_some_are_named():
    with pytest.raises(AreaError, match=r"30 of 30 .*index 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …\)"):
        Area(frame(*[Point(0, 95)] * 30))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3413"])
def test_area_file_counts_whole_with_all_layers_in_any_crs(tmp_path, crs):
    file = tmp_path / "aoi.gpkg"
    pyogrio.write_dataframe(pd.DataFrame({"style": ["plain"]}), file, layer="layer_styles")
    frame(box(-136, 68, -135, 68.5)).to_file(file, layer="here")
    frame(box(10, 60, 11, 61)).to_crs(crs).assign(note="far").to_file(file, layer="there")
    frame().to_file(file, layer="nothing yet")
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        gpd.GeoDataFrame(geometry=[None]).to_file(file, layer="no CRS yet")
    area = Area.read(file)
    assert area.touches(footprint(-135.2, 68.4))
    assert area.touches(footprint(10.2, 60.4))
    assert not area.touches(footprint(-100, 65))


@pytest.mark.parametrize("first", ["EPSG:32611", "EPSG:4326"])
def test_edges_of_a_layer_are_straight_in_its_own_crs(tmp_path, first):
    file = tmp_path / "aoi.gpkg"
    frame(box(-120, 60, -119.9, 60.1)).to_crs(first).to_file(file, layer="near")
    frame(box(-160, 70, -100, 71)).to_file(file, layer="along two parallels")
    gpd.GeoSeries([box(-1e6, -1e6, 1e6, 1e6)], crs="EPSG:3413").to_file(file, layer="around the pole")
    area = Area.read(file)
    assert area.touches(footprint(-130, 70.4))  # In UTM, an edge of 60° would run 4° further north here.
    assert not area.touches(footprint(-130, 71.5))
    assert area.touches(footprint(10, 86))
    assert not area.touches(footprint(0, 76))
    assert area.touches(footprint(-119.95, 60.05))


def test_a_layer_that_cannot_be_used_is_named(tmp_path):
    file = tmp_path / "aoi.gpkg"
    frame(box(10, 60, 11, 61)).to_file(file, layer="fine")
    frame(Point(0, 95)).to_file(file, layer="wrong")
    with pytest.raises(AreaError, match=r"aoi\.gpkg, layer 'wrong': 1 of 1 geometries .*index 0\)"):
        Area.read(file)


def test_area_file_of_folders_counts_whole(tmp_path):
    placemark = "<Placemark><name>{0}</name><Point><coordinates>{0},68</coordinates></Point></Placemark>"
    folders = [f"<Folder><name>f{lon}</name>{placemark.format(lon)}</Folder>" for lon in (-135, 12)]
    file = tmp_path / "aoi.kml"
    head = '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>'
    file.write_text(head + "".join(folders) + "</Document></kml>")
    area = Area.read(file)
    assert area.touches(footprint(-135.05, 67.98))
    assert area.touches(footprint(11.95, 67.98))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("driver", ["GeoJSON", "KML"])
def test_area_file_reads_as_people_save_it(tmp_path, mark, end, driver):
    file = tmp_path / f"aoi.{driver.lower()}"
    frame(box(-136, 68, -135, 68.5), box(10, 60, 11, 61)).to_file(file, driver=driver)
    text = file.read_bytes().replace(b"\r\n", b"\n")
    assert text.count(b"\n") > 3
    file.write_bytes(mark + text.replace(b"\n", end))
    area = Area.read(file)
    assert area.touches(footprint(-135.2, 68.4))
    assert area.touches(footprint(10.2, 60.4))


def test_a_table_without_geometries_is_no_area(tmp_path):
    file = tmp_path / "aoi.csv"
    file.write_text("lon,lat\n-135,68\n")
    with pytest.raises(AreaError, match=r"aoi\.csv: it holds no layer with geometries"):
        Area.read(file)


@pytest.mark.parametrize("given", ["aoi.geojson", box(0, 60, 1, 61), None])
def test_what_is_no_table_of_geometries_is_no_area(given):
    with pytest.raises(AreaError, match=f"of type {type(given).__name__} is no area of interest; expected a GeoData"):
        Area(given)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(AreaError, match="no such file"):
        Area.read(tmp_path / "aoi.gpkg")
    file = tmp_path / "aoi.gpkg"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(AreaError, match=r"aoi\.gpkg: it cannot be read"):
        Area.read(file)


def test_the_real_area(shared_data):
    area = Area.read(shared_data / "peel" / "aoi.geojson")
    experts = Area.read(shared_data / "peel" / "experts.gpkg")
    for each in (area, experts):
        assert not each.touches(footprint(0, 68))
        assert shape(each.query()).bounds[1] > 67
