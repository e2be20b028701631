"""Networks: built, taken from a model, put to work, averaged over steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from darts_segmentation import ModelCard, hash_model, read_model
from darts_segmentation.forward import class_probabilities, target_probability
from darts_segmentation.network import load_network
from darts_segmentation.startup import segmentation_models
from darts_training.errors import SamplesError, TrainingError
from darts_training.heldout import Predict
from darts_training.options import TrainingOptions
from darts_training.samples import SampleFormat


@dataclass(frozen=True)
class Start:
    """What a training begins with.

    Attributes:
        network: The network, on the CPU.
        card: Describes it, as far as that is known before training.
        origin: SHA-256 of the model that it comes from, "" for random weights.
    """

    network: torch.nn.Module
    card: ModelCard
    origin: str = ""


def begin(form: SampleFormat, options: TrainingOptions, base: Path | str | None, name: str) -> Start:
    """Build the network to train.

    Args:
        form: Of the samples: says what the network sees.
        options: Architecture, and the seed of the first weights.
        base: Model to go on from, whose architecture is taken; None for random weights.
        name: Name of the model.

    Raises:
        SamplesError: If the samples show other bands, or scale them otherwise, than the model takes.
        TrainingError: If the architecture cannot be built, or the model has several classes.
        ModelFileError: If the model cannot be used.
    """
    ranges = {channel.band: (channel.low, channel.high) for channel in form.channels}
    bands = [channel.band for channel in form.channels]
    if base is not None:
        model = read_model(base)
        if len(model.card.outputs.classes) > 1:
            raise TrainingError(f"{base} tells {len(model.card.outputs.classes)} classes apart; expected one.")
        theirs = {band: tuple(map(float, model.card.normalization[band])) for band in model.card.bands}
        if list(theirs.items()) != list(ranges.items()):
            raise SamplesError(
                f"The samples show {', '.join(bands)}, and {base} takes {', '.join(theirs)}, or scales them otherwise; "
                "make samples for this model."
            )
        network = load_network(model.card, model.state_dict).requires_grad_(True)
        card = ModelCard(name=name, architecture=model.card.architecture, bands=bands, normalization=ranges)
        return Start(network, card, hash_model(base))
    architecture: dict[str, object] = {
        "arch": options.arch.lower(), "encoder_name": options.encoder, **dict(options.architecture),
    }  # fmt: skip
    card = ModelCard(name=name, architecture=architecture, bands=bands, normalization=ranges)
    # The loss takes logits, and what makes probabilities of them is applied outside, here and in inference.
    arguments = {key: value for key, value in card.architecture.items() if key != "activation"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        try:
            network = segmentation_models().create_model(**arguments, encoder_weights=None)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
            reason = str(error.args[0]) if error.args else type(error).__name__
            raise TrainingError(f"{options.arch} with {options.encoder} cannot be built: {reason}") from error
    return Start(network, card)


def predictor(network: torch.nn.Module, card: ModelCard, device: torch.device) -> Predict:
    """Return what predicts patches with a network in evaluation mode, in float32."""

    def predict(patches: NDArray[np.float32]) -> torch.Tensor:
        with torch.no_grad():
            given = torch.from_numpy(patches).to(device).contiguous(memory_format=torch.channels_last)
            found = class_probabilities(network, card.outputs, given)
            return target_probability(found, card.outputs).cpu()

    return predict


def average(averaged: torch.nn.Module, network: torch.nn.Module, decay: float, step: int) -> None:
    """Move the average of a network's weights and statistics on by one step; it follows faster in the beginning."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        state_dict = network.state_dict()
        for name, mean in averaged.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(state_dict[name], share)
            else:
                mean.copy_(state_dict[name])


@contextmanager
def repeatable(device: torch.device, threads: int) -> Iterator[None]:
    """Let torch give the same numbers each time on the CPU; on a GPU nothing is promised."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(before)
