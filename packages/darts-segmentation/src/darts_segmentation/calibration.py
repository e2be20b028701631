"""Calibration: one number, fitted on held-out ground, that brings probabilities to the frequencies they stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darts_segmentation.arrays import Array, logit, sigmoid
from darts_segmentation.errors import ModelCardError

FIELD = "darts:calibration"
"""Field of a model card and of an ensemble's file."""
_METHOD = "temperature"


@dataclass(frozen=True)
class Calibration:
    """A temperature, by which logits are divided before they become probabilities (Guo et al. 2017, section 4.2).

    It leaves the probability 0.5 of a model of one class where it is, and the order of all others.

    Attributes:
        parameter: The temperature: above 1 for a model that is too sure, below 1 for one that is not sure enough.
        ece_before: Expected calibration error without it, on ground that it was not fitted on; None where unknown.
        ece_after: With it, likewise.

    Raises:
        ModelCardError: If the temperature is no finite number above 0.
    """

    parameter: float
    ece_before: float | None = None
    ece_after: float | None = None

    def __post_init__(self) -> None:
        value: Any = self.parameter
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ModelCardError(f"The temperature of a calibration is {value!r}; expected a finite number above 0.")

    def to_json(self) -> dict[str, object]:
        """Return the field as JSON has it."""
        errors = {"ece_before": self.ece_before, "ece_after": self.ece_after}
        known = {name: value for name, value in errors.items() if value is not None}
        return {"method": _METHOD, "parameter": self.parameter, **known}

    @classmethod
    def from_json(cls, content: object) -> "Calibration | None":
        """Read the field; None means no calibration.

        Raises:
            ModelCardError: If it cannot be understood.
        """
        if content is None:
            return None
        if not isinstance(content, Mapping) or content.get("method") != _METHOD:
            raise ModelCardError(
                f"{FIELD!r} is {content!r}; expected an object with the method {_METHOD!r} and its 'parameter'."
            )
        return cls(content.get("parameter"), content.get("ece_before"), content.get("ece_after"))  # type: ignore[arg-type]

    def apply(self, probabilities: Array) -> Any:
        """Return calibrated probabilities, of the mean of an ensemble for example: sigmoid(logit(p) / temperature).

        Args:
            probabilities: float32 of any shape, 0…1, of numpy or torch; 0 and 1 stay what they are. Not changed.

        Returns:
            float32 of the same shape, 0…1; NaN stays NaN.
        """
        return sigmoid(logit(probabilities) / self.parameter)
