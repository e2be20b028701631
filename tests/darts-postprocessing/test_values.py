"""Probabilities that are none, and arrays of another kind, are one sentence."""

import numpy as np
import pytest
import xarray as xr

from darts_postprocessing import binarize, erode_mask, prepare_export
from darts_utils import DartsError, InputTypeError, ValueRangeError

RNG = np.random.default_rng(0)
PROBS = xr.DataArray(RNG.random((60, 70), dtype=np.float32), dims=("y", "x"), name="probabilities")
MASK = xr.ones_like(PROBS, dtype=np.uint8)


def _tile(probs: xr.DataArray) -> xr.Dataset:
    return xr.Dataset({"probabilities": probs, "quality_data_mask": 2 * MASK})


PERCENT = (PROBS * 100).round()
WRONG = {
    "percent as exported": (PERCENT.astype(np.uint8), "whole numbers .type uint8.; .* divided by 100"),
    "percent, wider": (PERCENT.astype(np.int16), "whole numbers .type int16."),
    "percent as floats": (PERCENT, r"expected|takes 0 to 1; divide the band by 100 first"),
    "logits": (20 - 40 * PROBS, "takes 0 to 1"),
}


def test_few_percent_are_told_by_their_unit() -> None:
    """Most pixels of a map are near 0, so that the values alone do not say."""
    few = (PROBS * 2).assign_attrs(units="percent")
    for run in (lambda: binarize(few, 0.5, 4, MASK, "cpu"), lambda: prepare_export(_tile(few), device="cpu")):
        with pytest.raises(ValueRangeError, match=r"'probabilities' is in 'percent' .*multiply it by 0\.01"):
            run()


@pytest.mark.parametrize("kind", [kind for kind in WRONG if kind != "logits"])
def test_what_is_no_probability_is_refused(kind: str) -> None:
    values, message = WRONG[kind]
    with pytest.raises(ValueRangeError, match=message):
        binarize(values, 0.5, 4, MASK, "cpu")
    with pytest.raises(ValueRangeError, match=message):
        prepare_export(_tile(values), device="cpu")


@pytest.mark.parametrize(
    "values", [PROBS, PROBS.astype(np.float64), PROBS > 0.5, PROBS * 0, PROBS * np.nan, PROBS * 1e-6]
)
def test_what_can_be_a_probability_passes(values: xr.DataArray) -> None:
    objects = binarize(values, 0.5, 4, MASK, "cpu")
    assert (objects.dtype, bool((objects & ~(values > 0.5)).any())) == (bool, False)
    if values.dtype != bool:
        exported = prepare_export(_tile(values), device="cpu")
        np.testing.assert_array_equal(exported["probabilities"], values)


@pytest.mark.parametrize(("value", "dtype"), [(255, "uint8"), (3, "float32"), (-1, "int16")])
def test_a_quality_that_is_none_is_refused(value: int, dtype: str) -> None:
    tile = _tile(PROBS)
    tile["quality_data_mask"] = tile["quality_data_mask"].astype(dtype)
    if dtype == "float32":
        tile["quality_data_mask"][5, 6] = np.nan
        prepare_export(tile, device="cpu")
    tile["quality_data_mask"][3, 4] = value
    with pytest.raises(ValueRangeError, match=r"quality_data_mask has values from .*; expected 0 \(invalid\)"):
        prepare_export(tile, device="cpu")


@pytest.mark.parametrize("wrong", [PROBS.values, _tile(PROBS), [[1.0]], None])
def test_anything_but_a_dataarray_is_one_sentence(wrong: object) -> None:
    for call in (
        lambda: binarize(wrong, 0.5, 4, MASK, "cpu"),
        lambda: binarize(PROBS, 0.5, 4, wrong, "cpu"),
        lambda: erode_mask(wrong, 1, "cpu"),
    ):
        with pytest.raises(InputTypeError, match=r"Expected an xarray\.DataArray, but got a ") as caught:
            call()
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, DartsError)


def test_percent_of_a_map_that_is_mostly_near_0_are_refused() -> None:
    """A typical pixel of such a map has 1 %, which is 1."""
    few = PROBS.round()
    few[3, 4] = 1 + 2**-20  # as rounding may leave it
    few[5, 6] = 1.2
    for values in (few, few.T):
        for run in (lambda: binarize(values, 0.5, 4, MASK, "cpu"), lambda: prepare_export(_tile(values), device="cpu")):  # noqa: B023
            with pytest.raises(ValueRangeError, match="has values above 1; expected probabilities from 0 to 1"):
                run()
    few[5, 6] = 1
    assert prepare_export(_tile(few), device="cpu").binarized_segmentation.any()


@pytest.mark.parametrize("kept_in", ["attrs", "encoding"])
@pytest.mark.parametrize("level", [0, 1])
def test_what_is_declared_to_be_no_data_is_none(kept_in: str, level: int) -> None:
    unknown = RNG.random(PROBS.shape) < 0.1
    quality = (2 * MASK).where(PROBS > 0.05, 0)
    tile = _tile(PROBS.where(~unknown)).assign(quality_data_mask=quality.where(~unknown.T.reshape(PROBS.shape)))
    stored = tile.fillna({"probabilities": -1, "quality_data_mask": 255})
    stored["quality_data_mask"] = stored["quality_data_mask"].astype(np.uint8)
    for name, mark in (("probabilities", -1), ("quality_data_mask", 255)):
        getattr(stored[name], kept_in)["_FillValue"] = mark
    options = {"quality_level": level, "mask_erosion_size": 1, "min_object_size": 4, "device": "cpu"}
    expected, found = prepare_export(tile, **options), prepare_export(stored, **options)
    for name in ("extent", "probabilities", "binarized_segmentation"):
        np.testing.assert_array_equal(found[name], expected[name])
    ours, theirs = (each["quality_data_mask"] for each in (stored, tile))
    np.testing.assert_array_equal(erode_mask(ours, 2, "cpu"), erode_mask(theirs, 2, "cpu"))
    np.testing.assert_array_equal(
        binarize(stored.probabilities, 0.5, 4, ours, "cpu"), binarize(tile.probabilities, 0.5, 4, theirs, "cpu")
    )
