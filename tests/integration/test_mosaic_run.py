"""Quarterly mosaics from end to end on this machine, with a stand-in for the networks."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio

from darts.errors import ConfigurationError, NoTilesError
from darts.pipelines.configfile import read_config, write_config
from darts.pipelines.options import build, known_keys
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2MosaicPipeline, Sentinel2Pipeline
from darts.run import run
from support import standin
from support.mosaics import AUTUMN, SUMMER, Mosaics

SOURCE = {"raw_data_source": "cdse-mosaic"}


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory):
    made = Mosaics(tmp_path_factory.mktemp("mosaics"))
    made.add(SUMMER, seed=1)
    made.add(AUTUMN, seed=2, tag=-9999)
    return made


@pytest.fixture
def pipeline(tmp_path):
    model = standin.write_model(tmp_path / "model.safetensors", bands=("nir",))

    def make(output="results", **changed):
        values = {"model_files": model, "output_data_dir": tmp_path / output, "raw_data_store": tmp_path / "raw"}
        values |= {"device": "cpu", "executor": "serial", "report": False, "export_bands": ["optical", "probabilities"]}
        values |= {"mask_erosion_size": 0, "patch_size": 32, "overlap": 8, "min_object_size": 1}
        return Sentinel2Pipeline(**(values | SOURCE | changed))

    return make


def read(folder: Path, name: str) -> tuple[np.ma.MaskedArray, tuple[str, ...]]:
    """Return the layers of a file in their unit, and what they are called."""
    with rasterio.open(folder / f"{name}.tif") as source:
        scale, offset = (np.reshape(each, (-1, 1, 1)) for each in (source.scales, source.offsets))
        return (source.read(masked=True) * scale + offset).astype("float32"), source.descriptions


def test_a_map_of_mosaics_has_the_reflectance_and_the_quality_of_an_independent_reading(
    mosaics, pipeline, tmp_path
) -> None:
    with mosaics.serving() as (files, _):
        online = run(pipeline(tile_ids=["08WMA"], quarters=[3, 4], years=[2023]), standin.open_session)
        assert {tile.tile_id: tile.error for tile in online.tiles} == {SUMMER: "", AUTUMN: ""}
        asked = len(files.requests)
        by_name = run(pipeline("named", scene_ids=[AUTUMN], offline=True), standin.open_session)
        assert [tile.status for tile in by_name.tiles] == ["success"]
        assert len(files.requests) == asked
    for name in (SUMMER, AUTUMN):
        truth = mosaics.truth(name)
        optical, names = read(tmp_path / "results" / name, "optical")
        assert sorted(names) == ["blue", "green", "nir", "red"]
        bands = np.stack([truth[band] for band in names])
        np.testing.assert_allclose(optical.filled(np.nan), bands, rtol=0, atol=1e-6)
        assert optical.min() >= -0.02, "a hole is no reflectance"
        seen = truth["quality_data_mask"] >= 1
        found = read(tmp_path / "results" / name, "probabilities")[0][0]
        np.testing.assert_array_equal(~np.ma.getmaskarray(found), seen)
        np.testing.assert_allclose(found[seen], 100 * truth["nir"][seen].clip(0, 1), atol=0.51)  # percent
    assert (tmp_path / "named" / AUTUMN / "optical.tif").read_bytes() == (
        tmp_path / "results" / AUTUMN / "optical.tif"
    ).read_bytes()


def test_finished_means_this_source_and_these_files(mosaics, pipeline, tmp_path) -> None:
    with mosaics.serving():
        run(pipeline(scene_ids=[SUMMER]), standin.open_session)
        (again,) = pipeline(scene_ids=[SUMMER]).plan().decisions
        assert again.action == "skip"
        stored = max((tmp_path / "raw").rglob("c/*/*"), key=lambda path: path.stat().st_size)
        content = stored.read_bytes()
        stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        (changed,) = pipeline(scene_ids=[SUMMER], offline=True).plan().decisions
        assert (changed.action, "has another content" in changed.why) == ("compute", True)
        assert pipeline("new", scene_ids=[AUTUMN]).plan().fetch.images == {AUTUMN: None}
        sizes = {AUTUMN: sum(asset["file:size"] for asset in mosaics.items[1]["assets"].values())}
        assert pipeline("new", tile_ids=["08WMA"], quarters=[4]).plan().fetch.images == sizes


def test_mosaics_are_prepared_for_an_offline_run(mosaics, pipeline, tmp_path) -> None:
    listed = {"prep_data_scene_id_file": tmp_path / "mosaics.json", "tile_ids": ["08WMA"], "quarters": [3]}
    with mosaics.serving():
        assert pipeline(**listed).prepare_data(optical=True) == []
    records = run(pipeline(**listed, offline=True), standin.open_session)
    assert [(tile.tile_id, tile.status) for tile in records.tiles] == [(SUMMER, "success")]


@pytest.mark.parametrize(
    "condition",
    [
        {"start_date": "2023-07"},
        {"end_date": "2023-09"},
        {"months": [7]},
        {"max_cloud_cover": 10},
        {"max_snow_cover": 5},
        {"max_cloud_cover": 100},
    ],
)
def test_what_does_not_apply_to_a_mosaic_is_refused_by_name(condition) -> None:
    (name,) = condition
    with pytest.raises(ConfigurationError, match=f"^{name} cannot be used with quarterly mosaics"):
        Sentinel2Pipeline(**SOURCE, **condition)
    assert Sentinel2Pipeline(**SOURCE, max_cloud_cover=None, max_snow_cover="none").max_cloud_cover is None


def test_quarters_are_those_of_mosaics(mosaics, pipeline) -> None:
    with pytest.raises(ConfigurationError, match="quarters are those of mosaics"):
        Sentinel2Pipeline(quarters=[3])
    with mosaics.serving(), pytest.raises(NoTilesError, match="no mosaic fits the selection; name other quarters"):
        pipeline(tile_ids=["08WMA"], quarters=[1]).run()


def test_the_pipeline_of_scenes_hands_over(tmp_path) -> None:
    made = Sentinel2Pipeline(**SOURCE, quarters=[3], years=[2023], scene_ids=[SUMMER])
    assert type(made) is Sentinel2MosaicPipeline
    assert made == Sentinel2MosaicPipeline(quarters=[3], years=[2023], scene_ids=[SUMMER])
    assert type(Sentinel2Pipeline()) is Sentinel2Pipeline
    assert pickle.loads(pickle.dumps(made)) == made
    assert dataclasses.replace(made, quarters=[4]).quarters == [4]
    assert made.output_data_dir.name == "sentinel2-cdse-mosaic"
    assert made.raw_data_store.name == "cdse-mosaic-scenes"
    assert "s2_scl" not in made._variables()
    write_config(made, tmp_path / "mosaics.toml")
    keys = known_keys(PlanetPipeline, Sentinel2Pipeline)
    words = ("inference", "sentinel2-sequential")
    values = read_config(tmp_path / "mosaics.toml", words, keys, known_keys(Sentinel2Pipeline))
    assert build(Sentinel2Pipeline, values) == made


class _Derived(Sentinel2Pipeline):
    """A pipeline of somebody else."""


def test_a_pipeline_derived_for_scenes_says_what_to_derive_from() -> None:
    with pytest.raises(ConfigurationError, match="derive it from Sentinel2MosaicPipeline"):
        _Derived(**SOURCE)


def test_a_mosaic_is_of_the_year_in_its_name() -> None:
    pipeline = Sentinel2Pipeline(**SOURCE)
    assert [pipeline._tile_year(name) for name in (SUMMER, "quarterly-mosaic")] == [2023, None]
