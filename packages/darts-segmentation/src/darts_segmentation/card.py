"""The model card: everything about a network that its weights do not say, as JSON.

The fields follow the Machine Learning Model extension of STAC (https://github.com/stac-extensions/mlm, version 1.4).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from darts_segmentation.calibration import FIELD as CALIBRATION
from darts_segmentation.calibration import Calibration
from darts_segmentation.classes import Outputs, classes_from_json
from darts_segmentation.errors import ModelCardError
from darts_utils import UnknownBandError, get_band

PIXEL_SIZE = "darts:pixel_size"
CARD_VERSION = 1
"""Version of the layout that this module writes, in the field ``darts:card_version``."""

_LONGEST_LIST = 64
_MOST_BANDS = 256
_TASK = "semantic-segmentation"
_DIM_ORDER = ["batch", "channel", "height", "width"]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Describes a network: how to build it, what it takes, where it comes from.

    Attributes:
        name: Name of the model.
        architecture: Arguments of ``segmentation_models_pytorch.create_model``: ``arch``, ``encoder_name`` and whatever
            else the architecture takes. ``in_channels`` and ``classes`` are filled in (the numbers of bands and of
            classes); ``encoder_weights`` is dropped, since nothing is fetched from a hub.
        bands: Names of the network's input channels, in its order, all of them in the band table.
        normalization: Range (low, high) in the band's unit that is mapped to 0…1, by band. Bands that are not given
            take the range of the band table.
        classes: Names of the network's output channels, in its order; None for one class, thaw slumps.
        target: The classes that count as thaw slumps: their probabilities add up to ``probabilities``, 1 at most.
        activation: "sigmoid", where each class stands for itself, or "softmax", where every pixel belongs to one class.
            May be None for one class, and where the architecture names it.
        patch_size: Edge length in pixels of the patches that the network was trained on, None where unknown.
        pixel_size: Edge length in metres of the pixels that the network was trained on, None where unknown.
        training_data: What the network was trained on.
        license: Licence of the weights, as an SPDX identifier where there is one.
        metrics: Figures measured with the network, by name.
        description: What the network is for.
        version: Version of the model.
        calibration: Temperature by which the network's logits are divided, None for none.

    Raises:
        ModelCardError: If a field has the wrong type or contradicts another one.
        UnknownBandError: If the band table does not know a band.

    Examples:
        >>> unet = {"arch": "unet", "encoder_name": "resnet18"}
        >>> card = ModelCard(name="demo", architecture=unet, bands=["red", "ndvi"])
        >>> card.architecture["in_channels"], card.normalization["ndvi"]
        (2, (-1.0, 1.0))
        >>> ModelCard.from_dict(card.to_dict()) == card
        True
    """

    name: str
    architecture: Mapping[str, Any]
    bands: Sequence[str]
    normalization: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    target: Sequence[str] | None = None
    activation: str | None = None
    patch_size: int | None = None
    pixel_size: float | None = None
    training_data: str = ""
    license: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    description: str = ""
    version: str = ""
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        bands = _checked_bands(self.bands)
        object.__setattr__(self, "bands", bands)
        architecture = _checked_architecture(self.architecture, bands)
        outputs = Outputs.checked(self.classes, self.target, self.activation, architecture)
        object.__setattr__(self, "architecture", architecture | {"classes": len(outputs.classes)})
        for name, value in vars(outputs).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "normalization", _checked_ranges(self.normalization, bands))
        object.__setattr__(self, "metrics", dict(self.metrics))
        size = self.patch_size
        if size is not None and (not _is_integer(size) or size < 1):
            raise ModelCardError(f"The patch size of a model card is {size!r}; expected a positive integer or null.")
        object.__setattr__(self, "pixel_size", _checked_pixel_size(self.pixel_size))

    @property
    def outputs(self) -> Outputs:
        """What the network's output channels mean."""
        return Outputs.checked(self.classes, self.target, self.activation, self.architecture)

    def to_dict(self) -> dict[str, Any]:
        """Return the card as the JSON object that :meth:`from_dict` reads."""
        of_output, of_card = self.outputs.to_json()
        edge = -1 if self.patch_size is None else self.patch_size
        ranges = [self.normalization[band] for band in self.bands]
        tensor = {"dim_order": _DIM_ORDER, "data_type": "float32"}
        return {
            "darts:card_version": CARD_VERSION,
            "description": self.description,
            "version": self.version,
            "license": self.license,
            "mlm:name": self.name,
            "mlm:architecture": self.architecture["arch"],
            "mlm:framework": "PyTorch",
            "mlm:tasks": [_TASK],
            "mlm:input": [
                {
                    "name": "tile",
                    "description": "Bands scaled to 0…1 between minimum and maximum, clipped, missing values set to 0.",
                    "bands": list(self.bands),
                    "input": {"shape": [-1, len(self.bands), edge, edge], **tensor},
                    "value_scaling": [{"type": "min-max", "minimum": low, "maximum": high} for low, high in ranges],
                }
            ],
            "mlm:output": [
                {
                    "name": "logits",
                    "description": self._describe_output(),
                    "tasks": [_TASK],
                    "result": {"shape": [-1, len(self.outputs.classes), edge, edge], **tensor},
                    **of_output,
                }
            ],
            **of_card,
            "mlm:hyperparameters": dict(self.architecture),
            **({} if self.pixel_size is None else {PIXEL_SIZE: self.pixel_size}),
            "darts:training_data": self.training_data,
            "darts:metrics": dict(self.metrics),
            **({} if self.calibration is None else {CALIBRATION: self.calibration.to_json()}),
        }

    def _describe_output(self) -> str:
        if len(self.outputs.classes) == 1:
            return "The sigmoid of the logits is the probability of a thaw slump."
        of = " or ".join(self.outputs.target)
        return f"The {self.activation} of the logits are the probabilities of the classes, of thaw slumps that of {of}."

    def identity(self) -> dict[str, object]:
        """Return what of the card decides about the network's probabilities, as JSON has it: no free text."""
        outputs = self.outputs
        return {
            "architecture": dict(self.architecture),
            "bands": list(self.bands),
            "scaling": [list(map(float, self.normalization[band])) for band in self.bands],
            "classes": [list(outputs.classes), list(outputs.target), outputs.activation],
            "calibration": None if self.calibration is None else float(self.calibration.parameter),
        }

    def to_json(self) -> str:
        """Return the card as JSON text, the same for equal cards.

        Raises:
            ModelCardError: If a field holds something that JSON has no word for.
        """
        try:
            return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise ModelCardError(f"The model card of {self.name!r} cannot be written as JSON: {error}.") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "ModelCard":
        """Read a card from the JSON object that :meth:`to_dict` returns.

        Args:
            content: The JSON object. Fields that DARTS does not use are ignored.

        Raises:
            ModelCardError: If a field is missing, has the wrong type or contradicts another one.
            UnknownBandError: If the band table does not know a band.
        """
        version = content.get("darts:card_version", CARD_VERSION)
        if version != CARD_VERSION:
            raise ModelCardError(
                f"The model card has layout version {version!r}, this release reads {CARD_VERSION}; "
                "install a newer darts-segmentation."
            )
        given = _only_input(content)
        bands = _required(given, "bands", list)
        bands = [band.get("name") if isinstance(band, dict) else band for band in bands]
        shape = given.get("input", {}).get("shape", [])
        return cls(
            name=_required(content, "mlm:name", str),
            architecture=_required(content, "mlm:hyperparameters", dict),
            bands=bands,
            normalization=_read_ranges(given.get("value_scaling"), bands),
            **classes_from_json(content),
            patch_size=_read_patch_size(shape, len(bands)),
            pixel_size=content.get(PIXEL_SIZE),
            training_data=_optional(content, "darts:training_data", str, ""),
            license=_optional(content, "license", str, ""),
            metrics=_optional(content, "darts:metrics", dict, {}),
            description=_optional(content, "description", str, ""),
            version=_optional(content, "version", str, ""),
            calibration=Calibration.from_json(content.get(CALIBRATION)),
        )

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Read a card from JSON text.

        Args:
            text: The JSON object that :meth:`to_json` returns.

        Returns:
            The card.

        Raises:
            ModelCardError: If the text is no JSON object, or as in :meth:`from_dict`.
            UnknownBandError: If the band table does not know a band.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelCardError(f"The model card is not JSON: {error}.") from error
        if not isinstance(content, dict):
            raise ModelCardError(f"The model card holds a JSON {type(content).__name__}; expected an object.")
        return cls.from_dict(content)


def _only_input(content: Mapping[str, object]) -> dict[str, Any]:
    inputs = _required(content, "mlm:input", list)
    if len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise ModelCardError(f"The model card has {len(inputs)} entries under 'mlm:input'; expected one object.")
    given = inputs[0]
    if not isinstance(given.get("input", {}), dict) or not isinstance(given.get("input", {}).get("shape", []), list):
        raise ModelCardError("The model card's 'mlm:input' has no readable 'input.shape'; expected a list of integers.")
    if (order := given.get("input", {}).get("dim_order", _DIM_ORDER)) != _DIM_ORDER:
        raise ModelCardError(f"The model card's 'mlm:input' has the 'dim_order' {order!r}; expected {_DIM_ORDER}.")
    return given


def _read_patch_size(shape: list[Any], bands: int) -> int | None:
    """Read the edge of patches from ``input.shape``, None where it is not told."""
    if not shape:
        return None
    if len(shape) != len(_DIM_ORDER) or shape[1] not in (-1, bands) or shape[2] != shape[3]:
        raise ModelCardError(
            f"The model card's 'mlm:input' has the 'input.shape' {shape!r}; expected {_DIM_ORDER}, with the number of "
            f"its bands, {bands}, and height and width alike, -1 where any will do."
        )
    return shape[-1] if shape[-1] != -1 else None


def _required(content: Mapping[str, object], key: str, kind: type) -> Any:
    if key not in content:
        raise ModelCardError(f"The model card lacks {key!r}; add it (a {kind.__name__}).")
    return _optional(content, key, kind, None)


def _optional(content: Mapping[str, object], key: str, kind: type, otherwise: object) -> Any:
    value = content.get(key, otherwise)
    if not isinstance(value, kind):
        raise ModelCardError(f"{key!r} in the model card is a {type(value).__name__}; expected a {kind.__name__}.")
    return value


def _read_ranges(scaling: object, bands: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Read ``value_scaling``; None means the ranges of the band table."""
    if scaling is None:
        return {}
    if not isinstance(scaling, list) or len(scaling) != len(bands):
        raise ModelCardError(f"'value_scaling' in the model card does not have one entry for each of {list(bands)}.")
    ranges = {}
    for band, entry in zip(bands, scaling, strict=True):
        if not isinstance(entry, dict) or entry.get("type") != "min-max":
            raise ModelCardError(
                f"'value_scaling' of {band!r} in the model card is {entry!r}; expected type 'min-max'."
            )
        ranges[band] = (entry.get("minimum"), entry.get("maximum"))
    return ranges  # type: ignore[return-value]  # checked by the constructor


def _checked_bands(bands: Any) -> tuple[str, ...]:
    if isinstance(bands, str) or not 1 <= len(bands) <= _MOST_BANDS or not all(isinstance(band, str) for band in bands):
        raise ModelCardError("The bands of a model are no list of names; expected the names of its channels, in order.")
    twice = sorted({band for band in bands if list(bands).count(band) > 1})
    if twice:
        raise ModelCardError(f"The bands of a model contain {', '.join(twice)} twice.")
    for band in bands:
        try:
            get_band(band)
        except UnknownBandError as error:
            raise UnknownBandError(f"The model needs a band that DARTS does not have: {error}") from error
    return tuple(bands)


def _checked_architecture(architecture: object, bands: Sequence[str]) -> dict[str, object]:
    if not isinstance(architecture, Mapping) or not isinstance(architecture.get("arch"), str):
        raise ModelCardError(
            "The architecture of a model lacks 'arch', or is no mapping; expected the arguments of "
            "segmentation_models_pytorch.create_model."
        )
    complex_ones = sorted(str(name) for name, value in architecture.items() if not _is_plain(value))
    if complex_ones or not all(isinstance(name, str) for name in architecture):
        raise ModelCardError(
            f"Arguments of the architecture ({', '.join(complex_ones)}) are not plain; expected texts, numbers, true, "
            "false, null, or short lists of them."
        )
    full = {"in_channels": len(bands), "classes": None} | dict(architecture)
    full.pop("encoder_weights", None)
    if full["in_channels"] != len(bands):
        raise ModelCardError(
            f"The architecture takes {full['in_channels']!r} channels, but there are {len(bands)} bands: "
            f"{', '.join(bands)}."
        )
    return full


def _checked_pixel_size(size: object) -> float | None:
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < math.inf:
        raise ModelCardError(f"The pixel size of a model card is {size!r}; expected metres, more than 0, or null.")
    return float(size)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= _LONGEST_LIST and all(_is_scalar(item) for item in value)
    return _is_scalar(value)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _checked_ranges(ranges: Mapping[str, tuple[float, float]], bands: Sequence[str]) -> dict[str, tuple[float, float]]:
    extra = sorted(set(ranges) - set(bands))
    if extra:
        raise ModelCardError(f"The model has a normalisation for {', '.join(extra)}, which are not among its bands.")
    checked = {}
    for band in bands:
        entry = get_band(band)
        try:
            low, high = (float(end) for end in ranges.get(band, (entry.low, entry.high)))
        except (TypeError, ValueError) as error:
            raise ModelCardError(f"The normalisation of {band!r} is {ranges[band]!r}; expected (low, high).") from error
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ModelCardError(
                f"The normalisation of {band!r} is ({low}, {high}); expected finite numbers, low < high."
            )
        checked[band] = (low, high)
    return checked
