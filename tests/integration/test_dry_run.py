"""What `--dry-run` says of Sentinel-2 scenes: which would be downloaded, and what is missing around them."""

import copy
import pickle
import re

import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts.demo import demo_model
from darts.pipelines.sequential_v2 import Sentinel2Pipeline
from darts_acquisition import Datacube, estimate_arcticdem, estimate_tcvis
from darts_acquisition.scenes.store import RawStore
from support.auxiliary_services import serve_arcticdem
from support.commands import run_darts
from support.cubes import build_cubes
from support.peel_scenes import AUGUST, JULY, grid_of, no_network, peel_scenes, statuses
from support.s3_server import environment_of, serve_s3
from support.sentinel2 import BUCKET, publish
from support.stac_server import serve_stac

# The demonstration's model has seen pixels of 3 m.
pytestmark = pytest.mark.filterwarnings("ignore::darts_segmentation.PixelSizeWarning")

NAMES = (JULY, AUGUST)


@pytest.fixture(scope="module")
def scenes(shared_data):
    return peel_scenes(shared_data)


@pytest.fixture(scope="module")
def data(scenes, tmp_path_factory):
    """Cubes around the scenes."""
    dem, tcvis = build_cubes(tmp_path_factory.mktemp("aux"), grid_of(scenes[0]), resolution=10, margin_m=600)
    return {"arcticdem_dir": dem, "tcvis_dir": tcvis}


@pytest.fixture(scope="module")
def s3():
    with serve_s3() as server, environment_of(server):
        server.bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def items(s3, scenes, tmp_path_factory):
    return [publish(scene, s3, tmp_path_factory.mktemp("jp2")) for scene in scenes]


@pytest.fixture
def service(s3, items, monkeypatch):
    with serve_stac(items) as stac:
        monkeypatch.setenv("DARTS_CDSE_STAC_URL", stac.url)
        monkeypatch.setenv("DARTS_CDSE_S3_URL", s3.url)
        yield stac


@pytest.fixture
def pipeline(data, tmp_path):
    def make(**changed):
        values = {
            "model_files": demo_model(),
            "output_data_dir": tmp_path / "results",
            "raw_data_store": tmp_path / "raw",
            "patch_size": 128,
            "overlap": 32,
            "device": "cpu",
            "report": False,
            "mask_erosion_size": 3,
        }
        return Sentinel2Pipeline(**(values | data | changed))

    return make


def sizes_of(items):
    """What the files of a scene take that a run fetches: four bands and the classification."""
    files = ("B02_10m", "B03_10m", "B04_10m", "B08_10m", "SCL_20m")
    return {item["id"]: sum(item["assets"][file]["file:size"] for file in files) for item in items}


def stored(folder):
    store = RawStore(folder / "raw")
    names = (path.name.removeprefix("cdse_").removesuffix(".zarr") for path in store.folder.glob("cdse_*.zarr"))
    return {name for name in names if store.bands("cdse", name)}


@pytest.mark.slow
def test_scenes_that_are_planned_are_those_that_the_run_downloads(service, pipeline, items, tmp_path):
    """A search knows their sizes, and no request is made beyond it."""
    search = {"tile_ids": ["08WMA"], "years": [2021]}
    pipeline(**search)._tileinfos()
    searching = len(service.requests)
    made = pipeline(**search)
    planned = made.plan().fetch
    assert len(service.requests) == 2 * searching
    assert planned.images == sizes_of(items)
    assert planned.fails == {}
    assert made.run().count("success") == 2
    assert stored(tmp_path) == set(planned.images)
    nothing = pipeline(**search, overwrite=True).plan().fetch
    assert (nothing.tiles, nothing.images) == (2, {})
    in_memory = pipeline(**search, overwrite=True, no_raw_data_store=True, raw_data_store=None).plan().fetch
    assert in_memory.images == sizes_of(items)
    assert pipeline(**search).plan().fetch.lines() == ["Nothing is to be fetched."]


@pytest.mark.slow
def test_scenes_by_name_are_counted_without_asking(pipeline, service, items, tmp_path):
    pipeline(scene_ids=[JULY]).prepare_data(optical=True)
    with no_network():
        fetch = pipeline(scene_ids=list(NAMES)).plan().fetch
    assert fetch.images == {AUGUST: None}
    assert fetch.lines()[0].startswith("To fetch: images of 1 tile, of unknown size; ")
    assert statuses(pipeline(scene_ids=list(NAMES)).run())[JULY] == "success"
    assert stored(tmp_path) == set(NAMES)


@pytest.mark.slow
def test_scenes_that_are_planned_to_fail_offline_are_those_that_do(pipeline, service):
    pipeline(scene_ids=[JULY]).prepare_data(optical=True)
    with no_network():
        fetch = pipeline(scene_ids=list(NAMES), offline=True).plan().fetch
        records = pipeline(scene_ids=list(NAMES), offline=True).run()
    assert fetch.fails == {AUGUST: "the image is not in the store"}
    assert statuses(records) == {JULY: "success", AUGUST: "failed"}
    assert fetch.lines()[0].startswith("Missing, and offline not fetched: images of 1 tile, of unknown size")
    assert fetch.lines()[1] == "1 of 2 tiles would fail: the image is not in the store (1)."


def test_what_a_search_found_is_no_part_of_a_pipeline(pipeline, service):
    made = pipeline(tile_ids=["08WMA"], years=[2021])
    before = pickle.dumps(made)
    assert made.plan().fetch.images
    assert len(pickle.dumps(made)) == len(before)
    assert pickle.loads(pickle.dumps(made)) == made == pickle.loads(before)


@pytest.mark.slow
def test_chunks_around_scenes_that_are_not_stored_are_those_that_preparing_fetches(
    s3, items, pipeline, tmp_path, monkeypatch
):
    """The plan has the name of the MGRS tile alone; preparing asks for the item, which says where its files lie."""
    item = copy.deepcopy(items[0])
    left, top, edge = 399_960, 7_600_020, 109_800
    for name, asset in item["assets"].items():
        pixel = int(re.search(r"(\d+)m$", name)[1])
        asset |= {"proj:shape": [edge // pixel] * 2, "proj:transform": [pixel, 0, left, 0, -pixel, top]}
    geobox = GeoBox((edge // 10, edge // 10), Affine(10, 0, left, 0, -10, top), "EPSG:32608")
    cubes = {"arcticdem_dir": tmp_path / "dem", "tcvis_dir": tmp_path / "tcvis"}
    made = pipeline(scene_ids=[JULY], export_bands=["probabilities", "tcvis"], **cubes)
    with no_network():
        fetch = made.plan().fetch
    assert fetch.auxiliary["TCVIS"] == estimate_tcvis([geobox], tmp_path / "tcvis")
    small = GeoBox((100, 100), geobox.affine, geobox.crs)
    with serve_stac([item]) as stac, serve_arcticdem(tmp_path / "served", small):
        monkeypatch.setenv("DARTS_CDSE_STAC_URL", stac.url)
        assert made.prepare_data(arcticdem=True) == []
    known = Datacube.open(tmp_path / "dem").known()
    assert fetch.auxiliary["ArcticDEM"].missing_chunks == len(known) > 9
    assert made.plan().fetch.auxiliary["ArcticDEM"].missing_chunks == 0
    assert estimate_arcticdem([geobox], tmp_path / "dem", 10).area_chunks == len(known)


def test_the_command_says_it_in_two_lines(service, items, pipeline, data, tmp_path):
    pipeline(scene_ids=[JULY]).prepare_data(optical=True)
    arguments = ["--model-files", demo_model(), "--tile-ids", "08WMA", "--years", "2021", "--export-bands", "tcvis"]
    arguments += ["--raw-data-store", "raw", "--arcticdem-dir", data["arcticdem_dir"], "--tcvis-dir", "tcvis"]
    arguments += ["--output-data-dir", "results"]
    code, said = run_darts(tmp_path, "inference", "sentinel2-sequential", "--dry-run", *arguments)
    assert code == 0
    size = -(-sizes_of(items)[AUGUST] // 10**6)
    *_, counts, fetch = said.splitlines()
    assert counts == "2 tiles: 2 to compute, 0 finished."
    assert fetch.startswith(f"To fetch: images of 1 tile, {size} MB to download; ")
    assert re.search(r"; TCVIS: (\d+) of \1 chunks are missing, at most about \d+ MB to download\.$", fetch)
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "tcvis").exists()
