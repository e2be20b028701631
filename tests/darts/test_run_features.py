"""Whatever feature a model card or an export names is computed by a run, from the cubes that it needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darts.demo import SampleArea, make_sample_area
from darts.errors import ConfigurationError
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts.run import checks, run
from darts.run.features import dem_margin_px, feature_margin_px
from darts.run.planning import Planner
from darts_preprocessing import FEATURES
from darts_segmentation import ModelCard
from darts_utils import UnknownBandError
from support import standin


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=128)


def _pipeline(area: SampleArea, folder: Path, bands: tuple[str, ...], **options: Any) -> PlanetPipeline:
    model = standin.write_model(folder / "model.safetensors", bands=bands)
    cubes = {"arcticdem_dir": area.arcticdem_dir, "tcvis_dir": area.tcvis_dir}
    defaults = {"model_files": model, "output_data_dir": folder / "results", "offline": True, "device": "cpu"}
    return PlanetPipeline(scenes_dir=area.scenes_dir, **(cubes | defaults | {"export_bands": ["extent"]} | options))


def test_every_feature_can_be_asked_for_by_a_model_card(area: SampleArea, tmp_path: Path) -> None:
    names = (*FEATURES, "wdrvi")
    seen: dict[str, Any] = {}

    def open_session(pipeline: Any, context: Any) -> standin.MultiplyingSession:
        session = standin.open_session(pipeline, context)

        class Watching:
            device, precision = session.device, session.precision

            def segment(self, tile: Any) -> Any:
                seen.update({name: tile[name] for name in names})
                return session.segment(tile)

        return Watching()

    pipeline = _pipeline(area, tmp_path, ("nir", *names), export_bands=["extent", "northness", "dem", "ndwi"])
    (tile,) = run(pipeline, open_session).tiles
    assert (tile.status, tile.error) == ("success", "")
    for name in names:
        values = seen[name].values.astype(np.float64)
        assert np.isfinite(values).mean() > 0.5, name
        card = ModelCard(name="one", architecture={"arch": "unet"}, bands=[name])
        assert card.normalization[name] == (FEATURES[name].band.low, FEATURES[name].band.high)
    written = {path.name for path in (tmp_path / "results").rglob("*.tif")}
    assert {"northness.tif", "dem.tif", "ndwi.tif"} <= written


@pytest.mark.parametrize(
    ("bands", "exported", "features", "cubes"),
    [
        (("nir", "gndvi"), [], ("gndvi",), (False, False)),
        (("nir",), ["northness"], ("northness",), (True, False)),
        (("nir", "tc_wetness"), ["wdrvi", "probabilities"], ("tc_wetness", "wdrvi"), (False, True)),
        (("nir", "red"), ["dem", "thumbnail"], ("relative_elevation", "slope"), (True, False)),
    ],
)
def test_only_the_cubes_that_features_need_are_opened(area, tmp_path, bands, exported, features, cubes) -> None:
    context = Planner(_pipeline(area, tmp_path, bands, export_bands=["extent", *exported])).plan().context
    assert context.features == features
    assert (context.arcticdem is not None, context.tcvis is not None) == cubes


def test_a_run_into_a_new_folder_says_once_that_a_cube_is_made_up(area, tmp_path, caplog) -> None:
    run(_pipeline(area, tmp_path, ("nir", "slope"), export_bands=["extent"]), standin.open_session)
    assert sum("is made up, for demonstrations" in message for message in caplog.messages) == 1


def test_what_no_feature_is_ends_before_the_first_tile(area: SampleArea, tmp_path: Path) -> None:
    with pytest.raises(UnknownBandError, match="Export band 'northnes' is unknown; did you mean 'northness'"):
        Planner(_pipeline(area, tmp_path, ("nir",), export_bands=["northnes"]))
    with pytest.raises(ConfigurationError, match="The ensemble needs s2_scl, which this pipeline does not produce"):
        Planner(_pipeline(area, tmp_path, ("nir", "s2_scl"))).plan()
    with pytest.raises(ConfigurationError, match=r"needs slop, which .*; it has blue, slope\. Did you mean 'slope'\?"):
        checks.check_bands(["slop"], ["blue", "slope"], "The training data")


def test_the_dem_reaches_as_far_as_the_features_look(area: SampleArea, tmp_path: Path) -> None:
    near = _pipeline(area, tmp_path, ("nir",), tpi_outer_radius=10)
    assert feature_margin_px(near, ["slope"]) == dem_margin_px(10, 2)
    assert feature_margin_px(near, ["dissection_index"]) == dem_margin_px(50, 2)
    assert feature_margin_px(near) == dem_margin_px(50, 2)
    far = _pipeline(area, tmp_path, ("nir",))
    assert feature_margin_px(far, ["slope", "dissection_index"]) == dem_margin_px(100, 2)
