"""What GDAL writes is a GeoPackage; where it lost the header, that is an error."""

import sqlite3
from contextlib import closing

import geopandas as gpd
import pytest
import shapely

from darts_utils.geopackage import check_geopackage


@pytest.mark.parametrize("pragma", ["application_id", "user_version"])
def test_a_header_that_was_lost_is_an_error(tmp_path, pragma):
    path = tmp_path / "a.gpkg"
    frame = gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs="EPSG:4326")
    frame.to_file(path, engine="pyogrio", dataset_options={"VERSION": "1.3"})
    check_geopackage(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA {pragma} = 0")
    with pytest.raises(OSError, match=r"a\.gpkg was not written whole"):
        check_geopackage(path)


def test_no_database_is_an_error(tmp_path):
    (tmp_path / "a.gpkg").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(OSError, match=r"a\.gpkg: "):
        check_geopackage(tmp_path / "a.gpkg")
