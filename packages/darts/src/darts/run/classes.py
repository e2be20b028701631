"""The classes beside thaw slumps whose probabilities a run exports, as ``probabilities_{class}``."""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from darts.run.task import Pipeline
from darts_utils import UnknownBandError, class_of

if TYPE_CHECKING:
    from darts_segmentation import ModelCard


def divide_layers(pipeline: Pipeline) -> tuple[tuple[str, ...], list[str]]:
    """Tell the layers of an export that only the models can give, those of classes, from all others.

    A variable of such a name that the images of a pipeline bring with them is none.

    Args:
        pipeline: The pipeline.

    Returns:
        Names ``probabilities_{class}``, each once, sorted; the other names that are to be exported.
    """
    brought = pipeline._variables()
    of_classes = {name for name in pipeline.export_bands if class_of(name) is not None and name not in brought}
    return tuple(sorted(of_classes)), [name for name in pipeline.export_bands if name not in of_classes]


def check_class_layers(layers: tuple[str, ...], cards: "Mapping[str, ModelCard]") -> None:
    """Check that a model gives each layer.

    Args:
        layers: Names ``probabilities_{class}``.
        cards: Cards of the models by name.

    Raises:
        UnknownBandError: If none does; the message lists the classes of the models, and suggests the nearest layer.
    """
    given = sorted({name for card in cards.values() for name in card.outputs.others})
    for layer in layers:
        name = class_of(layer)
        if name is not None and name not in given:
            models = "; ".join(_describe(*each) for each in cards.items())
            raise UnknownBandError(f"Export band {layer!r} is unknown: {models}. {_hint(name, given, cards)}")


def _describe(name: str, card: "ModelCard") -> str:
    return f"model {name!r} has the class{'es' * (len(card.outputs.classes) > 1)} {card.outputs.describe()}"


def _hint(name: str, given: list[str], cards: "Mapping[str, ModelCard]") -> str:
    """Say what to ask for instead of a class that is not among those given."""
    near = difflib.get_close_matches(name, given, n=1)
    if near:
        return f"Did you mean 'probabilities_{near[0]}'?"
    if not given or any(name in card.outputs.target for card in cards.values()):
        return "The probabilities of the target are 'probabilities'."
    return f"Known are: {', '.join(f'probabilities_{each}' for each in given)}."
