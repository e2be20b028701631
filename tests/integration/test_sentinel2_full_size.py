"""A Sentinel-2 scene of full size from the Data Space's files to a map: prepared, then processed offline."""

import resource

import numpy as np
import pytest
import rasterio
import rasterio.windows
from odc.geo.geobox import GeoBox

from darts.demo import demo_model, make_sample_area
from darts.pipelines.sequential_v2 import Sentinel2Pipeline
from darts_acquisition import create_arcticdem_cube, load_cdse_s2_sr_scene
from darts_acquisition.scenes.store import RawStore
from support.peel_scenes import JULY, no_network, statuses
from support.s3_server import environment_of, serve_s3
from support.sentinel2 import BUCKET, Scene, publish
from support.stac_server import serve_stac

NUMBERS = ("B02", "B03", "B04", "B08")
EDGE_PX, PIECE_PX = 10_980, 366


def full_size_scene(folder):
    """Pixels of the demonstration landscape, repeated to the size of a scene; the classes are all there are."""
    area = make_sample_area(folder, seed=5, size=PIECE_PX)
    with rasterio.open(next(area.scenes_dir.glob("*/*_SR.tif"))) as source:
        pixels = source.read()[:, :PIECE_PX, :PIECE_PX]
    times = EDGE_PX // PIECE_PX
    raw = {number: np.tile(pixels[index] + 1000, (times, times)) for index, number in enumerate(NUMBERS)}
    # Mostly vegetation, with a stripe of every class.
    raw["SCL"] = np.full((EDGE_PX // 2, EDGE_PX // 2), 4, "uint8")
    raw["SCL"][:, :120] = np.repeat(np.arange(12, dtype="uint8"), 10)
    return Scene(raw, name=JULY, left=399_960.0, top=7_600_020.0)


def fill_arcticdem(path, tile, margin_px=60):
    """Fill a cube chunk by chunk, so that no more than one is in memory."""
    cube = create_arcticdem_cube(path, 10)
    for chunk in cube.missing(cube.window(tile, margin_px)):
        row, col = np.ogrid[: cube.chunk_geobox(chunk).shape[0], : cube.chunk_geobox(chunk).shape[1]]
        dem = (200 + 30 * np.sin(row / 15) * np.cos(col / 21)).astype("float32")
        cube.complete({chunk: {"dem": dem, "arcticdem_data_mask": np.ones(dem.shape, "uint8")}})


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_scene_of_full_size(tmp_path, monkeypatch, capsys):
    scene = full_size_scene(tmp_path / "sample")
    fill_arcticdem(tmp_path / "dem", GeoBox((EDGE_PX, EDGE_PX), scene.affine(10), scene.crs))
    settings = {
        "model_files": demo_model(),
        "scene_ids": [scene.name],
        "raw_data_store": tmp_path / "raw",
        "arcticdem_dir": tmp_path / "dem",
        "output_data_dir": tmp_path / "results",
        "device": "cpu",
        "report": False,
    }
    with serve_s3() as s3, environment_of(s3):
        s3.bucket(BUCKET)
        with serve_stac([publish(scene, s3, tmp_path)]) as stac:
            monkeypatch.setenv("DARTS_CDSE_STAC_URL", stac.url)
            monkeypatch.setenv("DARTS_CDSE_S3_URL", s3.url)
            assert Sentinel2Pipeline(**settings).prepare_data(optical=True) == []
            online = load_cdse_s2_sr_scene(scene.name)
    check_tile(online, scene.raw)
    assert RawStore(tmp_path / "raw").bands("cdse", scene.name) == set(scene.raw)
    with no_network():
        assert load_cdse_s2_sr_scene(scene.name, tmp_path / "raw", offline=True).identical(online)
        del online
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        records = Sentinel2Pipeline(**settings, offline=True).run()
    assert statuses(records) == {scene.name: "success"}
    (record,) = records.tiles
    with capsys.disabled():
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"\nFull size: {record.stages}; peak before the run {before_mb:.0f} MB, at its end {peak_mb:.0f} MB.")
    with rasterio.open(tmp_path / "results" / scene.name / "probabilities.tif") as source:
        assert source.shape == (EDGE_PX, EDGE_PX)
        assert source.transform == scene.affine(10)
        shown = source.read(1, window=rasterio.windows.Window(1000, 1000, 2000, 2000))
    assert (shown != source.nodata).any()


def check_tile(tile, raw):
    assert tile.sizes == {"y": EDGE_PX, "x": EDGE_PX}
    for name, number in (("blue", "B02"), ("green", "B03"), ("red", "B04"), ("nir", "B08")):
        expected = (raw[number] * 1e-4 - 0.1).astype("float32")
        np.testing.assert_array_equal(tile[name].values, expected)
    np.testing.assert_array_equal(tile.s2_scl.values[::2, ::2], raw["SCL"])
    np.testing.assert_array_equal(tile.s2_scl.values[1::2, 1::2], raw["SCL"])
    quality = np.array([0, 0, 2, 1, 2, 2, 2, 2, 1, 1, 2, 1], "uint8")[raw["SCL"]]
    np.testing.assert_array_equal(tile.quality_data_mask.values[::2, 1::2], quality)
