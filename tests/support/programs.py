"""A small network with random weights, and what becomes of it."""

import segmentation_models_pytorch as smp
import torch

from darts_segmentation import ModelCard, save_model

BANDS = ("red", "ndvi", "slope")
SMALL = {"arch": "unet", "encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
PROGRAM_FILES = ("model.xml", "model.bin", "model.json")


def write_network(path, architecture=SMALL, seed=0, **fields):
    """Write a network with random weights, whose batch normalisation does something."""
    card = ModelCard(name=path.stem, architecture=architecture, bands=BANDS, **fields)
    torch.manual_seed(seed)
    network = smp.create_model(**card.architecture, encoder_weights=None)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 2)
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.1)
    return save_model(path, network, card)
