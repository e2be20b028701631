"""What OpenVINO and patches of a chosen size save, and what they change: ratios and agreements in one process.

``pytest -n 0 --benchmark-only tests/benchmarks/test_darts_segmentation_engines.py -s`` prints the figures.
"""

import statistics
import time

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from darts.demo import demo_model
from darts_demo import arcticdem_dataset, make_landscape, optical_dataset
from darts_preprocessing import preprocess_v2
from darts_segmentation import ModelCard, SMPSegmenter, quantise_model, save_model

PAIRS = 5
UNSEEN = (9001, 9002, 9003, 9004)
THREADS = 2

pytestmark = pytest.mark.timeout(7200)


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def medians(*calls, pairs=PAIRS):
    """Return the median seconds of calls that take turns, after one turn that nobody counts."""
    turns = [[seconds(call) for call in calls] for _ in range(pairs + 1)][1:]
    return [statistics.median(turn) for turn in zip(*turns, strict=True)]


def agreement(first, second):
    """Return the intersection over union of two maps at 0.5, and their largest difference."""
    a, b = (np.nan_to_num(values) >= 0.5 for values in (first, second))
    return float((a & b).sum() / max((a | b).sum(), 1)), float(np.nanmax(np.abs(first - second)))


@pytest.fixture(scope="module", autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def landscapes():
    """Landscapes that the demo's model has not seen, with all their features."""
    made = {seed: make_landscape(seed, 2048) for seed in UNSEEN}
    return {
        seed: (preprocess_v2(optical_dataset(one), arcticdem_dataset(one), None, device="cpu"), one.label > 0)
        for seed, one in made.items()
    }


def test_patches_of_a_chosen_size_on_unseen_landscapes(benchmark, landscapes):
    model = SMPSegmenter(demo_model(), "cpu")
    rows = []
    for seed, (tile, truth) in landscapes.items():
        maps = [model.segment_tile(tile, patch_size=size)["probabilities"].values for size in (1024, "auto")]
        of_truth = [agreement(one, truth.astype(np.float32))[0] for one in maps]
        rows.append((seed, *of_truth, *agreement(*maps)))
        print("\nseed {}: IoU {:.4f} default, {:.4f} auto; IoU of maps {:.4f}, difference {:.3f}".format(*rows[-1]))
    tile = landscapes[UNSEEN[0]][0]
    default, auto = medians(lambda: model.segment_tile(tile), lambda: model.segment_tile(tile, patch_size="auto"))
    print(f"default {default:.2f} s, auto {auto:.2f} s: {auto / default:.2f}")
    benchmark.extra_info.update(rows=rows, ratio=auto / default)
    benchmark.pedantic(lambda: model.segment_tile(tile, patch_size="auto"), rounds=1)


def test_engines_on_one_patch(benchmark, tmp_path_factory):
    bands = ("red", "green", "blue", "nir", "ndvi", "tc_brightness", "tc_greenness", "tc_wetness", "slope", "hillshade")
    card = ModelCard(name="unet", architecture={"arch": "unet", "encoder_name": "resnet34"}, bands=bands)
    torch.manual_seed(0)
    network = smp.create_model(**card.architecture, encoder_weights=None)
    path = save_model(tmp_path_factory.mktemp("models") / "unet", network, card)
    networks = {engine: SMPSegmenter(path, "cpu", engine=engine) for engine in ("torch", "openvino")}
    patches = np.random.default_rng(0).random((1, len(bands), 1024, 1024), np.float32)
    of_torch = torch.from_numpy(patches).contiguous(memory_format=torch.channels_last)

    def run(engine, precision, given):
        segmenter = networks[engine]
        with segmenter._engine.threads(THREADS), segmenter._engine.computing(precision):
            segmenter._member.network(given)

    cases = [("torch", "fp32", of_torch), ("torch", "bf16", of_torch), ("openvino", "fp32", patches)]
    if networks["openvino"]._engine.fastest_format() == "bf16":
        cases.append(("openvino", "bf16", patches))
    # For its speed alone: whether a network bears integers is for its map to say.
    quantised = path.parent / "quantised"
    quantise_model(path, [lambda: (patches[0, :, :256, :256], np.ones((256, 256), bool))] * 4, quantised, least_iou=0.0)
    networks["quantised"] = SMPSegmenter(quantised, "cpu", engine="openvino")
    cases.append(("quantised", networks["quantised"]._engine.fastest_format(), patches))
    taken = medians(*(lambda case=case: run(*case) for case in cases))
    for (engine, precision, _), one in zip(cases, taken, strict=True):
        print(f"\n{engine} {precision}: {one:.2f} s, {taken[0] / one:.2f} times as fast as torch in fp32")
        benchmark.extra_info[f"{engine} {precision}"] = taken[0] / one
    benchmark.pedantic(lambda: run(*cases[-1]), rounds=1)


def test_engines_on_unseen_landscapes(benchmark, landscapes):
    engines = {engine: SMPSegmenter(demo_model(), "cpu", engine=engine) for engine in ("torch", "openvino")}
    for seed, (tile, _) in landscapes.items():
        exact = engines["torch"].segment_tile(tile)["probabilities"].values
        for precision in ("fp32", "auto"):
            found = engines["openvino"].segment_tile(tile, precision=precision)["probabilities"].values
            print(
                "\nseed {}, {}: IoU of maps {:.5f}, difference {:.1e}".format(seed, precision, *agreement(exact, found))
            )
    tile = landscapes[UNSEEN[0]][0]
    calls = [
        lambda: engines["torch"].segment_tile(tile),
        lambda: engines["openvino"].segment_tile(tile),
        lambda: engines["openvino"].segment_tile(tile, precision="auto"),
    ]
    taken = medians(*calls)
    print(
        f"torch {taken[0]:.2f} s; OpenVINO fp32 {taken[0] / taken[1]:.2f}, auto {taken[0] / taken[2]:.2f} times as fast"
    )
    benchmark.pedantic(calls[1], rounds=1)
