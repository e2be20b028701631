"""The grid of MGRS tiles, from a file in the layout that ESA publishes."""

import geopandas as gpd
import pytest
from shapely.geometry import box

from darts_acquisition import check_tiles_exist, download_sentinel_2_grid, read_sentinel_2_grid
from darts_acquisition.errors import ServiceError
from darts_acquisition.io.settings import RequestLimits
from darts_utils import ParameterError
from support.file_server import serve_files
from support.mgrs_kml import kml
from support.sentinel2 import NO_NAPS

LIMITS = RequestLimits(retry=NO_NAPS, timeout_s=10)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "grid.kml").write_text(kml({"33UVP": (12.0, 51.0), "08WMA": (-137.0, 68.0)}))
    with serve_files(folder) as running:
        yield running


def test_the_grid_is_fetched_once(server, tmp_path):
    url = f"{server.url}/grid.kml"
    file = download_sentinel_2_grid(tmp_path / "grid", url=url, limits=LIMITS)
    grid = read_sentinel_2_grid(tmp_path / "grid")
    assert list(grid["tile_id"]) == ["08WMA", "33UVP"]
    assert grid.geometry.iloc[1].equals(box(12, 51, 14, 52))
    assert grid.crs.to_epsg() == 4326
    assert not grid.geometry.iloc[0].has_z
    assert gpd.read_parquet(file).equals(grid)
    assert download_sentinel_2_grid(tmp_path / "grid", url=url, limits=LIMITS) == file
    assert len(server.requests) == 1
    assert [entry.name for entry in (tmp_path / "grid").iterdir()] == [file.name]


def test_tiles_are_checked_against_the_grid(server, tmp_path):
    check_tiles_exist(["33UVQ"], tmp_path / "grid")  # without the grid, the form is all that is known
    download_sentinel_2_grid(tmp_path / "grid", url=f"{server.url}/grid.kml", limits=LIMITS)
    check_tiles_exist(["33UVP", "T8WMA"], tmp_path / "grid")
    with pytest.raises(ParameterError, match="no Sentinel-2 tile '33UVQ'; did you mean '33UVP'"):
        check_tiles_exist(["08WMA", "33UVQ"], tmp_path / "grid")
    with pytest.raises(ParameterError, match="no MGRS tile"):
        check_tiles_exist(["33UV"], tmp_path / "grid")


@pytest.mark.parametrize("content", ["nothing", "", "<kml></kml>"])
def test_what_is_no_grid_is_not_kept(server, tmp_path, content):
    server.inject(body=content.encode())
    with pytest.raises(ServiceError, match="no grid of tiles"):
        download_sentinel_2_grid(tmp_path / "grid", url=f"{server.url}/grid.kml", limits=LIMITS)
    assert list((tmp_path / "grid").iterdir()) == []
    assert read_sentinel_2_grid(tmp_path / "grid") is None


def test_the_environment_names_a_mirror(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DARTS_SENTINEL2_GRID_URL", f"{server.url}/grid.kml")
    server.inject(status=503)
    download_sentinel_2_grid(tmp_path, limits=LIMITS)
    assert len(server.requests) == 2
