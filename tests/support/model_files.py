"""Model files for tests: a small network, its card, layouts that others write, and what they compute."""

from darts_segmentation import ModelCard, SMPSegmenter
from support.segmentation import BANDS, UNET, random_tile

CARD = ModelCard(
    name="slumps",
    architecture=UNET,
    bands=BANDS,
    normalization={"red": (0.0, 0.3)},
    patch_size=64,
    training_data="made up",
    license="CC-BY-4.0",
    metrics={"iou": 0.5},
    description="for tests",
    version="1.2.0",
)


def found_probabilities(path):
    """What a model file gives for a random tile."""
    tile = random_tile((70, 80), missing=0.1)
    return SMPSegmenter(path, "cpu").segment_tile(tile, 32, 8)["probabilities"].values


def expected_probabilities(network, card=CARD):
    """What its network gives for the same tile."""
    model = SMPSegmenter.from_network(network, card, "cpu")
    return model.segment_tile(random_tile((70, 80), missing=0.1), 32, 8)["probabilities"].values


def expected_of_published(network):
    """What it gives where a file says nothing of ranges."""
    return expected_probabilities(network, ModelCard(name="x", architecture=UNET, bands=BANDS))


def darts_v2(network, bands):
    """The content of a file of DARTS v2."""
    return {"config": {"model": dict(UNET), "bands": bands}, "statedict": network.state_dict()}
