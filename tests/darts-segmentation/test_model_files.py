"""Model files: what is written can be read, published layouts load, and what does not fit is named."""

import hashlib
import json
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darts_segmentation import (
    ModelCard,
    SMPSegmenter,
    hash_model,
    model_paths,
    read_model,
    save_model,
)
from darts_segmentation.network import load_network
from support.model_files import CARD, expected_probabilities, found_probabilities
from support.segmentation import BANDS, UNET


@pytest.mark.parametrize("name", ["model", "slumps.safetensors"])
def test_a_saved_model_computes_what_the_network_computed(tmp_path, network, name):
    saved = save_model(tmp_path / "deep" / name, network, CARD)
    assert saved == tmp_path / "deep" / name
    np.testing.assert_array_equal(found_probabilities(saved), expected_probabilities(network))
    assert SMPSegmenter(str(saved), "cpu").card == CARD
    assert sorted(path.name for path in saved.parent.rglob("*") if path.is_file()) == sorted(
        path.name for path in model_paths(saved)
    )


def test_the_same_model_gives_the_same_bytes(tmp_path, network):
    save_model(tmp_path / "a", network, CARD)
    save_model(tmp_path / "b", OrderedDict(reversed(network.state_dict().items())), CARD)
    assert hash_model(tmp_path / "a") == hash_model(tmp_path / "b")
    for one, other in zip(model_paths(tmp_path / "a"), model_paths(tmp_path / "b"), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_hash_is_that_of_weights_and_what_decides(tmp_path, network):
    weights, _ = model_paths(save_model(tmp_path / "a", network, CARD))
    decides = json.dumps(CARD.identity(), sort_keys=True).encode()
    assert hash_model(tmp_path / "a") == hashlib.sha256(weights.read_bytes() + decides).hexdigest()
    assert SMPSegmenter(tmp_path / "a", "cpu").model_hash == hash_model(tmp_path / "a")


def test_the_card_may_begin_with_a_byte_order_mark(tmp_path, network):
    _, card = model_paths(save_model(tmp_path / "a", network, CARD))
    card.write_bytes(b"\xef\xbb\xbf" + card.read_bytes().replace(b"\n", b"\r\n"))
    assert SMPSegmenter(tmp_path / "a", "cpu").card == CARD


def test_the_card_follows_the_extension(tmp_path, network):
    _, card = model_paths(save_model(tmp_path / "a", network, CARD))
    content = json.loads(card.read_text())
    assert content["mlm:name"] == "slumps"
    assert content["mlm:architecture"] == "unet"
    assert content["mlm:framework"] == "PyTorch"
    assert content["mlm:tasks"] == ["semantic-segmentation"]
    (given,) = content["mlm:input"]
    assert given["bands"] == list(BANDS)
    assert given["input"] == {
        "shape": [-1, 3, 64, 64],
        "dim_order": ["batch", "channel", "height", "width"],
        "data_type": "float32",
    }
    assert given["value_scaling"][0] == {"type": "min-max", "minimum": 0.0, "maximum": 0.3}
    assert content["mlm:output"][0]["result"]["shape"] == [-1, 1, 64, 64]
    assert content["mlm:hyperparameters"]["encoder_name"] == "mobilenet_v2"


texts = st.text(max_size=20)


@given(
    st.lists(st.sampled_from(["red", "green", "nir", "ndvi", "dem", "tc_wetness"]), min_size=1, unique=True),
    st.fixed_dictionaries(
        {"name": texts, "training_data": texts, "license": texts, "description": texts, "version": texts}
    ),
    st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False)),
    st.none() | st.integers(1, 4096),
    st.floats(-10, 10),
    st.floats(0.001, 10),
)
def test_a_card_survives_writing_and_reading(bands, fields, metrics, patch_size, low, span):
    card = ModelCard(
        architecture=UNET,
        bands=bands,
        metrics=metrics,
        patch_size=patch_size,
        normalization={bands[0]: (low, low + span)},
        **fields,
    )
    assert ModelCard.from_json(card.to_json()) == card


def test_weights_in_half_precision_load(tmp_path, network):
    states = {
        name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()
    }
    save_model(tmp_path / "a", states, CARD)
    loaded = load_network(CARD, read_model(tmp_path / "a").state_dict)
    for name, value in loaded.state_dict().items():
        assert value.dtype == (torch.float32 if states[name].is_floating_point() else states[name].dtype)
        assert torch.equal(value, states[name].to(value.dtype))


def test_loading_leaves_no_trace_in_torch(tmp_path, network):
    path = save_model(tmp_path / "a", network, CARD)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    SMPSegmenter(path, "cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_importing_the_package_imports_no_heavy_library():
    import subprocess

    code = (
        "import sys, darts_segmentation; "
        "print([name for name in ('torch', 'timm', 'segmentation_models_pytorch', 'xarray', 'safetensors') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert done.stdout.strip() == "[]"
