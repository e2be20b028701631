"""The classes that a network tells apart, and which of them are thaw slumps."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from darts_segmentation.errors import ModelCardError

Activation: TypeAlias = Literal["sigmoid", "softmax"]

CLASS_FIELDS = ("classes", "target", "activation")
"""Fields of a model card, and of the ``config`` of checkpoints, that describe a network's output channels."""

THAW_SLUMP = "thaw-slump"
_MOST_CLASSES = 64
_NAME = re.compile(r"[0-9A-Za-z_-]+")  # what STAC's classification extension allows
_BY_SMP: Mapping[object, Activation | None] = {
    None: None,
    "identity": None,
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "softmax2d": "softmax",
}
"""Last activations that smp builds, and what they say."""


@dataclass(frozen=True)
class Outputs:
    """What the output channels of a network mean.

    Attributes:
        classes: Names of the classes, one for each channel, in their order.
        target: Those of them whose probabilities add up to that of a thaw slump.
        activation: What turns logits into probabilities: "sigmoid", each channel for itself; "softmax", all together.
    """

    classes: tuple[str, ...]
    target: tuple[str, ...]
    activation: Activation

    @classmethod
    def checked(
        cls,
        classes: Sequence[str] | None,
        target: Sequence[str] | None,
        activation: str | None,
        architecture: Mapping[str, object],
    ) -> "Outputs":
        """Complete and check what a model says about its classes.

        Args:
            classes: Names; None for one class, thaw slumps.
            target: Names among them; None where there is one class only.
            activation: "sigmoid" or "softmax"; None where the architecture names one, or has one class.
            architecture: Arguments of ``create_model``: `classes` and `activation` are looked at.

        Raises:
            ModelCardError: If something is missing, unknown, or contradicts something else.
        """
        count = architecture.get("classes") or (1 if classes is None else len(classes))
        if classes is None and count == 1:
            classes = (THAW_SLUMP,)
        if classes is None or (target is None and len(classes) > 1):
            raise ModelCardError(
                f"The network has {count!r} output channels, and nothing says which of them are thaw slumps; give "
                "their names as 'classes', those that are slumps as 'target', 'sigmoid' or 'softmax' as 'activation'."
            )
        classes = _checked_names("classes", classes)
        if count != len(classes):
            raise ModelCardError(f"The network has {count!r} output channels, but {len(classes)} classes are named.")
        target = _checked_names("target", classes if target is None else target)
        if unknown := [name for name in target if name not in classes]:
            raise ModelCardError(f"The target {unknown[0]!r} is none of the classes {', '.join(classes)}.")
        return cls(classes, target, _checked_activation(activation, architecture.get("activation"), len(classes)))

    @property
    def target_channels(self) -> list[int]:
        """Channels of the target, ascending."""
        return [channel for channel, name in enumerate(self.classes) if name in self.target]

    @property
    def others(self) -> dict[str, int]:
        """Channels of the classes that are not the target by themselves, by name."""
        return {name: channel for channel, name in enumerate(self.classes) if self.target != (name,)}

    def describe(self) -> str:
        """Name the classes in their order, and say which are the target.

        Examples:
            >>> Outputs(("background", "slump"), ("slump",), "softmax").describe()
            'background, slump (target)'
        """
        return ", ".join(f"{name} (target)" if name in self.target else name for name in self.classes)

    def to_json(self) -> tuple[dict[str, object], dict[str, object]]:
        """Return the fields of a model card: those of its output, and those of the card itself."""
        first = 1 if len(self.classes) == 1 else 0
        described = [{"value": first + channel, "name": name} for channel, name in enumerate(self.classes)]
        card: dict[str, Any] = {"darts:target": list(self.target), "darts:activation": self.activation}
        return {"classification:classes": described}, {} if len(self.classes) == 1 else card


def classes_from_json(content: Mapping[str, object]) -> dict[str, Any]:
    """Read what a model card says about classes.

    Args:
        content: The card as a JSON object.

    Returns:
        Arguments `classes`, `target` and `activation` of :class:`darts_segmentation.ModelCard`, as far as the card has
        them.

    Raises:
        ModelCardError: If the classes cannot be understood.
    """
    given = {name: content[f"darts:{name}"] for name in CLASS_FIELDS if f"darts:{name}" in content}
    outputs = content.get("mlm:output")
    output = outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else None
    described = output.get("classification:classes") if isinstance(output, dict) else None
    if described is None:
        return given
    try:
        names = {entry["value"]: entry["name"] for entry in described}
    except (TypeError, KeyError) as error:
        raise ModelCardError(
            "'classification:classes' in the model card cannot be read; expected a list of objects with 'value' and "
            "'name'."
        ) from error
    if len(names) < len(described) or not all(type(value) is int for value in names):
        raise ModelCardError(
            "'classification:classes' in the model card do not have whole numbers as 'value', each another one; "
            "channels lie in their order."
        )
    return given | {"classes": [names[value] for value in sorted(names)]}


def _checked_names(what: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str):
        names = (names,)
    listed = isinstance(names, list | tuple) and 1 <= len(names) <= _MOST_CLASSES
    if not listed or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ModelCardError(f"The {what} of a model are {names!r}; expected names of letters, digits, '-' and '_'.")
    if len(set(names)) < len(names):
        raise ModelCardError(f"The {what} of a model, {', '.join(names)}, contain one twice.")
    return tuple(names)


def _checked_activation(given: Any, built: object, count: int) -> Activation:
    try:
        known = _BY_SMP[built]
    except (KeyError, TypeError) as error:
        raise ModelCardError(
            f"The activation of the network is {built!r}; expected None, 'sigmoid' or 'softmax2d'."
        ) from error
    if given is not None and given not in get_args(Activation):
        raise ModelCardError(f"The activation of a model is {given!r}; expected 'sigmoid' or 'softmax'.")
    if given and known and given != known:
        raise ModelCardError(f"The activation of the model is {given!r}, but its architecture has {built!r}.")
    activation: Activation | None = given or known or ("sigmoid" if count == 1 else None)
    if activation is None:
        raise ModelCardError(
            f"A network with {count} output channels does not say how logits become probabilities; give 'activation', "
            "'sigmoid' or 'softmax'."
        )
    if activation == "softmax" and count == 1:
        raise ModelCardError("The softmax of one output channel is 1 everywhere; expected 'sigmoid'.")
    return activation
