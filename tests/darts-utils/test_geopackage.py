"""What GDAL writes is a GeoPackage; where it lost the header, that is an error."""

import sqlite3
from contextlib import closing

import geopandas as gpd
import pytest
import shapely

from darts_utils.geopackage import settle_geopackage


@pytest.mark.parametrize("pragma", ["application_id", "user_version"])
def test_a_header_that_was_lost_is_an_error(tmp_path, pragma):
    path = tmp_path / "a.gpkg"
    frame = gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs="EPSG:4326")
    frame.to_file(path, engine="pyogrio", dataset_options={"VERSION": "1.3"})
    settle_geopackage(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA {pragma} = 0")
    with pytest.raises(OSError, match=r"a\.gpkg: it was not written whole"):
        settle_geopackage(path)


def test_no_database_is_an_error(tmp_path):
    (tmp_path / "a.gpkg").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(OSError, match=r"a\.gpkg: "):
        settle_geopackage(tmp_path / "a.gpkg")


def test_the_same_content_is_the_same_bytes(tmp_path):
    """Whenever it was written, and however often SQLite has changed the file."""
    found = set()
    for number in range(3):
        path = tmp_path / f"{number}.gpkg"
        frame = gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(0, 0)], crs="EPSG:4326")
        frame.to_file(path, engine="pyogrio", layer="points", dataset_options={"VERSION": "1.3"})
        with closing(sqlite3.connect(path)) as connection:
            for _ in range(number):
                connection.execute("UPDATE gpkg_contents SET last_change = '2020-01-01T00:00:00.000Z'")
                connection.commit()
        settle_geopackage(path)
        found.add(path.read_bytes())
    assert len(found) == 1
    assert gpd.read_file(path)["a"].tolist() == [1]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
