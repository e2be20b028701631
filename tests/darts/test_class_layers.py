"""The probabilities of other classes than thaw slumps, asked for among the layers of an export."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from darts.run import exit_code, plan, run
from darts.run.session import NetworkSession
from darts.run.session import open_session as open_networks
from darts_utils import UnknownBandError
from support import standin

CLASSES = ("background", "slump", "detachment")
BANDS = ["probabilities", "binarized", "polygonized", "extent"]
BOTH = [*BANDS, "probabilities_background", "probabilities_detachment"]
DESCRIBED = {"classes": CLASSES, "target": "slump", "activation": "softmax"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image and a model of three classes."""
    folder = standin.make_folder(tmp_path / "folder", 1)
    standin.write_model(folder / "model.safetensors", **DESCRIBED)
    return folder


def _run(folder: Path, bands: list[str], open_session: Any = standin.open_session, **values: Any) -> list[str]:
    records = run(standin.make_pipeline(folder, export_bands=bands, **values), open_session)
    assert exit_code(records) == 0
    return [tile.status for tile in records.tiles]


def _read(folder: Path, name: str) -> np.ndarray:
    with rasterio.open(folder / f"{name}.tif") as file:
        assert (file.nodata, file.units, file.descriptions) == (255, ("percent",), (name,))
        return file.read(1)


def _reliable(folder: Path) -> np.ndarray:
    with rasterio.open(folder / "binarized.tif") as file:
        return file.read(1) != 255


def test_a_layer_is_written_as_probabilities_are_and_described_where_they_are(folder: Path) -> None:
    assert _run(folder, BOTH) == ["success"]
    results = folder / "results" / "tile-000"
    reliable = _reliable(results)
    assert 0 < reliable.sum() < reliable.size
    with rasterio.open(folder / "images" / "tile-000.tif") as file:
        other = 1 - np.clip(file.read(4) / 10000, 0, 1)
    for name in BOTH[-2:]:
        found = _read(results, name)
        assert ((found != 255) == reliable).all()
        assert np.abs(found[reliable] - 100 * other[reliable]).max() < 0.501
        assert (results / f"{name}.qml").read_text() == (results / "probabilities.qml").read_text()
    manifest = json.loads((results / "manifest.json").read_text())
    assert {"probabilities_background.tif", "probabilities_detachment.tif"} <= set(manifest["files"])
    item = json.loads((results / "item.json").read_text())
    ours, theirs = (item["assets"][f"{name}.tif"] for name in ("probabilities_background", "probabilities"))
    assert ours["bands"][0]["name"] == "probabilities_background"
    assert {**ours["bands"][0], "name": "", "statistics": {}} == {**theirs["bands"][0], "name": "", "statistics": {}}
    assert {**ours, "bands": [], "href": ""} == {**theirs, "bands": [], "href": ""}


def test_a_finished_tile_is_computed_again_only_for_a_layer_that_it_lacks(folder: Path) -> None:
    assert _run(folder, BANDS) == ["success"]
    results = folder / "results" / "tile-000"
    before = standin.describe(folder / "results")["tile-000"][1]
    fingerprint = json.loads((results / "manifest.json").read_text())["fingerprint"]
    assert _run(folder, BOTH[:-1]) == ["success"]
    after = standin.describe(folder / "results")["tile-000"][1]
    new = {"probabilities_background.tif", "probabilities_background.qml"}
    assert set(after) - set(before) == new
    written = {"item.json", "prediction_segments.gpkg", "prediction_extent.gpkg"}  # name the configuration or the time
    assert {name: after[name] for name in set(before) - written} == {n: before[n] for n in set(before) - written}
    assert json.loads((results / "manifest.json").read_text())["fingerprint"] == fingerprint
    assert _run(folder, BOTH[:-1]) == ["skipped"]
    assert _run(folder, BANDS) == ["skipped"]
    assert (results / "probabilities_background.tif").exists()
    assert _run(folder, BOTH) == ["success"]
    assert _run(folder, BOTH) == ["skipped"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("detachmnt", "slump (target), detachment. Did you mean 'probabilities_detachment'?"),
        ("lake", "band 'probabilities_lake' is unknown: model 'model' has the classes background, slump (target), det"),
        ("*", "Known are: probabilities_background, probabilities_detachment."),
        ("slump", "detachment. The probabilities of the target are 'probabilities'."),
    ],
)
def test_a_class_that_no_model_has_is_refused_before_the_first_tile(folder: Path, asked: str, said: str) -> None:
    with pytest.raises(UnknownBandError, match=re.escape(said)):
        _run(folder, [*BANDS, f"probabilities_{asked}"])
    assert not (folder / "results").exists()


def test_models_of_one_class_have_no_other_layer(folder: Path) -> None:
    one = standin.write_model(folder / "one.safetensors")
    said = (
        "Export band 'probabilities_background' is unknown: model 'one' has the class thaw-slump (target). The "
        "probabilities of the target are 'probabilities'."
    )
    with pytest.raises(UnknownBandError, match=re.escape(said)):
        _run(folder, BOTH, model_files=one)
    files = [folder / "model.safetensors", one]
    assert plan(standin.make_pipeline(folder, export_bands=BOTH, model_files=files)).todo
    with pytest.raises(UnknownBandError, match=r"'model' has the classes .*; model 'one' has the class thaw-slump"):
        _run(folder, [*BANDS, "probabilities_lake"], model_files=files)


def test_another_unknown_name_does_not_list_what_is_asked_for_as_known(folder: Path) -> None:
    with pytest.raises(UnknownBandError, match=r"'probabilites' is unknown; did you mean") as caught:
        _run(folder, ["probabilites", "probabilities_lake"])
    assert "lake" not in str(caught.value)


def test_a_variable_that_images_bring_is_asked_of_no_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = standin.StandInPipeline._load_tile
    monkeypatch.setattr(
        standin.StandInPipeline,
        "_load_tile",
        lambda self, key: (tile := load(self, key)).assign(probabilities_lake=tile["quality_data_mask"] * 0.25),
    )
    variables = (*standin.StandInPipeline._optical_variables, "probabilities_lake")
    monkeypatch.setattr(standin.StandInPipeline, "_optical_variables", variables)
    assert _run(folder, [*BANDS, "probabilities_lake"]) == ["success"]
    results = folder / "results" / "tile-000"
    assert set(np.unique(_read(results, "probabilities_lake")[_reliable(results)])) == {50}


def test_report_and_project_show_the_layer(folder: Path) -> None:
    _run(folder, BOTH, report=False)
    from darts.report import write_report

    target = write_report(folder / "results").parent
    page = (target / "tiles" / "tile-000.html").read_text()
    assert '<input type="checkbox" data-layer="probabilities_detachment"> Probabilities of detachment' in page
    assert '"probabilities_detachment": {"url": ["data:image/png' in page.replace('":{', '": {').replace(':["', ': ["')
    shared = (target / "assets" / "tile-map.js").read_text()
    assert {'"probabilities_detachment"', '"probabilities_detachment view"'} <= set(re.findall(r'"[^"]*"', shared))
    project = (target / "darts.qgs").read_text()
    assert re.search(r'name="tile-000 probabilities of detachment"[^>]*checked="Qt::Unchecked"', project)


# The real thing


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=0))
    return raised / raised.sum(axis=0)


@pytest.mark.slow
def test_the_map_of_a_class_is_what_the_networks_say(folder: Path) -> None:
    """Two networks that look at one pixel each, one by softmax, one by sigmoid with two targets; oracle in float64."""
    import torch

    from darts_segmentation import EnsembleV1, ModelCard, SMPSegmenter

    rng = np.random.default_rng(3)
    weights = {"model": rng.normal(0, 3, (3, 2)), "other": rng.normal(0, 3, (3, 2))}
    described = {
        "model": DESCRIBED,
        "other": {"classes": ("slump", "detachment", "lake"), "target": ("slump", "lake"), "activation": "sigmoid"},
    }
    files = [standin.write_model(folder / f"{name}.safetensors", **described[name]) for name in weights]

    def network(name: str) -> SMPSegmenter:
        layer = torch.nn.Conv2d(2, 3, 1, bias=False)
        layer.weight.data = torch.from_numpy(weights[name][:, :, None, None].astype(np.float32))
        unet = {"arch": "unet", "encoder_name": "resnet18"}
        card = ModelCard(name=name, architecture=unet, bands=["nir", "red"], **described[name])
        return SMPSegmenter.from_network(layer, card, "cpu")

    def open_session(pipeline: Any, context: Any) -> NetworkSession:
        ensemble = EnsembleV1.from_segmenters({name: network(name) for name in context.models})
        return NetworkSession(ensemble, pipeline, "fp32", bool(context.subsets), bool(context.classes))

    asked = [*BOTH, "probabilities_slump", "probabilities_lake"]
    assert _run(folder, asked, open_session, model_files=files) == ["success"]
    with rasterio.open(folder / "images" / "tile-000.tif") as file:
        image = file.read([4, 3]).astype(np.float64) / 10000
    scaled = np.clip((image + 0.1) / 0.6, 0, 1)
    soft = dict(zip(CLASSES, _softmax(np.tensordot(weights["model"], scaled, axes=1)), strict=True))
    logits = np.tensordot(weights["other"], scaled, axes=1)
    single = dict(zip(described["other"]["classes"], 1 / (1 + np.exp(-logits)), strict=True))
    expected = {
        "probabilities": (soft["slump"] + np.minimum(single["slump"] + single["lake"], 1)) / 2,
        "probabilities_background": soft["background"],
        "probabilities_detachment": (soft["detachment"] + single["detachment"]) / 2,
        "probabilities_slump": (soft["slump"] + single["slump"]) / 2,
        "probabilities_lake": single["lake"],
    }
    results = folder / "results" / "tile-000"
    reliable = _reliable(results)
    for name, values in expected.items():
        found = _read(results, name)
        assert ((found != 255) == reliable).all(), name
        assert np.abs(found[reliable] - 100 * values[reliable]).max() < 0.501, name


@pytest.mark.slow
def test_models_of_files_give_layers_of_classes(folder: Path) -> None:
    import segmentation_models_pytorch as smp
    import torch

    from darts_segmentation import ModelCard, save_model

    unet = {"arch": "unet", "encoder_name": "mobilenet_v2", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    card = ModelCard(name="three", architecture=unet, bands=["red", "nir"], **DESCRIBED)
    torch.manual_seed(0)
    network = smp.create_model(**card.architecture, encoder_weights=None)
    network.segmentation_head[0].weight.data *= 1000  # so that pixels differ
    save_model(folder / "three.safetensors", network, card)
    assert _run(folder, BOTH, open_networks, model_files=folder / "three.safetensors") == ["success"]
    results = folder / "results" / "tile-000"
    layers = [_read(results, name).astype(int) for name in ("probabilities", *BOTH[-2:])]
    total = np.sum(layers, axis=0)[_reliable(results)]
    assert np.abs(total - 100).max() <= 1
    assert len(np.unique(layers)) > 5
