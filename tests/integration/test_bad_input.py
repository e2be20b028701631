"""Damaged deliveries among good ones: each is on record with its own error, and the good ones do not notice."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import rasterio
from geopandas.testing import assert_geodataframe_equal

from darts.demo import SampleArea, demo_model, make_sample_area
from darts.pipelines.sequential_v2 import PlanetPipeline
from support.damage import DAMAGES, copy_scene

GOOD = ("20210701_200000_01_2405", "20210715_200000_01_2405", "20210731_200000_01_2405")


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=192)


WITHOUT_DATA = {"image_all_nodata"}
"""What is no failure: the scene is whole, and holds nothing."""


def _run(area: SampleArea, scenes: Path, output: Path) -> pd.DataFrame:
    pipeline = PlanetPipeline(
        model_files=demo_model(),
        scenes_dir=scenes,
        arcticdem_dir=area.arcticdem_dir,
        tcvis_dir=area.tcvis_dir,
        output_data_dir=output,
        patch_size=128,
        overlap=32,
        export_bands=["probabilities", "polygonized"],
        device="cpu",
        report=False,
        offline=True,
    )
    records = pipeline.run()
    damaged = 0 if scenes.name == "good" else len(DAMAGES)
    assert records.count("failed") + records.count("empty") == damaged
    (path,) = output.glob("*.results.parquet")
    return pd.read_parquet(path).set_index("tile_id")


@pytest.mark.slow
def test_good_scenes_do_not_notice_the_bad_ones(area: SampleArea, tmp_path: Path) -> None:
    names = {}
    for folder in ("good", "damaged"):
        for name in GOOD:
            copy_scene(area.scene_dir, tmp_path / folder, name)
    for number, (what, damage) in enumerate(sorted(DAMAGES.items())):
        name = f"202108{number % 28 + 1:02}_2000{number:02}_01_2405"
        scene = copy_scene(area.scene_dir, tmp_path / "damaged", name)
        damage(scene)
        names[what] = name if (scene.exists() or scene.is_symlink()) else "20211399_210019_08_2405"
    assert len(names) >= 25

    alone = _run(area, tmp_path / "good", tmp_path / "results-good")
    mixed = _run(area, tmp_path / "damaged", tmp_path / "results-damaged")

    assert set(alone["status"]) == {"success"}
    for name in GOOD:
        assert mixed["status"][name] == "success"
        for kind in ("probabilities.tif", "prediction_segments.parquet"):
            paths = [tmp_path / folder / name / kind for folder in ("results-good", "results-damaged")]
            if kind.endswith("tif"):
                with rasterio.open(paths[0]) as one, rasterio.open(paths[1]) as two:
                    assert (one.read() == two.read()).all()
            else:
                one, two = (gpd.read_parquet(path).drop(columns="source") for path in paths)
                assert_geodataframe_equal(one, two)
    problems = []
    for what, name in names.items():
        status, error = mixed["status"].get(name), mixed["error"].get(name, "")
        if what in WITHOUT_DATA:
            if status != "empty" or not error.endswith("There is nothing to map."):
                problems.append(f"{what}: {status} {error}")
        elif status != "failed" or not error.startswith("Loading Optical: Scene") or name not in error:
            problems.append(f"{what}: {status} {error}")
        elif (tmp_path / "results-damaged" / name).exists():
            problems.append(f"{what}: left a folder of results")
    assert not problems, "\n".join(problems)
    errors = [mixed["error"][name].replace(name, "") for name in names.values()]
    assert len(set(errors)) > len(errors) * 0.6, "damages of different kinds have errors of their own"
