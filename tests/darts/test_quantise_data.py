"""`darts model quantise`: what DATA may be. What is done with it, the tests of darts-segmentation show."""

import numpy as np
import pytest

from darts.cli.quantisation import quantise
from darts.errors import ConfigurationError
from darts_segmentation import ModelCard, QuantisationCost, cut_patches
from darts_segmentation.quantise import _draw_patches
from darts_training import SampleFormat
from support.standin import write_model
from support.training import CHANNELS, labelled_tile, make_samples


@pytest.fixture
def given(monkeypatch):
    """What the command hands on to be quantised."""
    found = []

    def quantise_model(file, data, out):
        found.extend(read() for read in data)
        return QuantisationCost(1.0, 0.0, len(found), 1)

    monkeypatch.setattr("darts.cli.quantisation.quantise_model", quantise_model)
    return found


def _card(ranges):
    return ModelCard(
        name="x",
        architecture={"arch": "unet", "encoder_name": "resnet18"},
        bands=tuple(ranges),
        normalization=ranges,
        patch_size=64,
    )


def _write(path, card):
    write_model(path).with_suffix(".json").write_text(card.to_json())
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_patches_of_training_data_are_what_the_network_gets_where_there_are_labels(tmp_path, given, dtype):
    form = SampleFormat(channels=CHANNELS, patch_size=64, overlap=0, dtype=dtype)
    make_samples(tmp_path / "samples", seeds=(0,), form=form)
    card = _card({each.band: (each.low, each.high) for each in CHANNELS})
    quantise(_write(tmp_path / "model.safetensors", card), tmp_path / "samples", tmp_path / "out")
    tile, _ = labelled_tile(0)
    valid, cut = cut_patches(tile, CHANNELS, 64)
    patches = list(cut)
    assert len(given) == len(patches) == 4
    for (values, counted), patch in zip(given, patches, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, patch.values.astype(dtype).astype(np.float32))
        shown = valid[np.ix_(patch.rows, patch.columns)]
        np.testing.assert_array_equal(counted, shown)  # the labelled area is the whole tile
    # And they are the patches that the tile itself would give.
    expected = _draw_patches([tile], card)
    drawn = _draw_patches([lambda patch=patch: patch for patch in given], card)
    for (values, counted), (one, where) in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(values, one, atol=1e-3 if dtype == "float16" else 0)
        np.testing.assert_array_equal(counted, where)


@pytest.mark.parametrize("ranges", [{"red": (0.0, 0.5)}, {"red": (0.0, 0.5), "ndvi": (-1.0, 0.5)}])
def test_samples_of_other_bands_are_refused(tmp_path, given, ranges):
    make_samples(tmp_path / "samples", seeds=(0,))
    model = _write(tmp_path / "model.safetensors", _card(ranges))
    with pytest.raises(ConfigurationError, match=r"show red, ndvi; the model .* takes red.* --model-files"):
        quantise(model, tmp_path / "samples", tmp_path / "out")
    assert not given


def test_a_folder_without_either_is_refused(tmp_path, given):
    with pytest.raises(ConfigurationError, match=r"neither training data .* nor tiles"):
        quantise(write_model(tmp_path / "model.safetensors"), tmp_path, tmp_path / "out")
