"""The model that ships: small, labelled as a demonstration, and good enough on landscapes that it has never seen."""

import subprocess
import sys

import numpy as np
import pytest

from darts.demo import DEMO_SEED, demo_model, make_landscape
from darts.demo.evaluate import evaluate_model
from darts.demo.train import BANDS, ENCODER, TEST_SEEDS, TRAINING_SEEDS, training_options
from darts_segmentation import ModelCard, model_paths, read_model


def test_the_card_says_what_the_model_is():
    weights, card_file = model_paths(demo_model())
    assert weights.stat().st_size < 4_000_000
    card = ModelCard.from_json(card_file.read_text(encoding="utf-8"))
    assert card.description.startswith("For demonstration only")
    assert tuple(card.bands) == BANDS
    assert card.architecture["encoder_name"] == ENCODER
    assert card.architecture.items() >= dict(training_options().architecture).items()
    assert card.license == "MIT"
    assert f"seeds {TRAINING_SEEDS.start} to {TRAINING_SEEDS.stop - 1}" in card.training_data
    assert card.metrics["lowest_iou"] >= 0.6
    assert card.metrics["lowest_object_f1"] >= 0.7


def test_the_weights_are_finite_numbers():
    state = read_model(demo_model()).state_dict
    assert sum(tensor.numel() for tensor in state.values()) < 1_000_000
    assert all(np.isfinite(tensor.numpy()).all() for tensor in state.values())


def test_the_demo_is_no_exercise():
    assert DEMO_SEED not in TRAINING_SEEDS
    assert DEMO_SEED not in TEST_SEEDS
    assert not set(TRAINING_SEEDS) & set(TEST_SEEDS)


@pytest.mark.slow
def test_it_finds_slumps_that_it_has_never_seen():
    figures = evaluate_model(demo_model(), DEMO_SEED, 512).figures
    assert figures["pixels"]["iou"].value >= 0.6
    assert figures["objects"]["f1@0.5"].value >= 0.7
    assert figures["objects"]["recall@0.5"].value * figures["objects"]["labels"].value >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [DEMO_SEED, 21, 22, 23])
def test_it_is_good_enough_for_the_demo(seed):
    figures = evaluate_model(demo_model(), seed, 2048).figures
    assert figures["pixels"]["iou"].value >= 0.6
    assert figures["objects"]["f1@0.5"].value >= 0.7
    found = figures["objects"]["recall@0.5"].value * figures["objects"]["labels"].value
    assert found >= 0.7 * len(make_landscape(seed, 2048).slumps)
    print(seed, figures["pixels"]["iou"], found, figures["objects"])


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, darts.demo; print(sorted({'numpy', 'scipy', 'torch', 'rasterio', 'PIL'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_every_public_name_is_there():
    import darts.demo

    assert list(darts.demo.__all__) == sorted(darts.demo.__all__)
    for name in darts.demo.__all__:
        assert getattr(darts.demo, name) is not None
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = darts.demo.nothing
