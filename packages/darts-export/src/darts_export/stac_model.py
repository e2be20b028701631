"""The models in a STAC Item, as the Machine Learning Model extension wants them.

The fields of one model are those of its card. An ensemble is described as one model that takes the inputs of all its
members, with the mean of their outputs.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

_TASKS = ["semantic-segmentation"]
_DIM_ORDER = ["batch", "channel", "height", "width"]
_PICKLES = (".pt", ".pth", ".ckpt")
# Fields that describe the model as a whole, which a card may have and one model's Item takes over.
_CARD_FIELDS = (
    "mlm:architecture",
    "mlm:tasks",
    "mlm:framework",
    "mlm:framework_version",
    "mlm:input",
    "mlm:output",
    "mlm:hyperparameters",
    "mlm:total_parameters",
)

Models = Mapping[str, Mapping[str, Any]]


def is_public(address: object) -> bool:
    """Tell whether an address leads to the same thing from every machine, and carries no signature."""
    parts = urlsplit(address) if isinstance(address, str) else None
    return parts is not None and parts.scheme in ("https", "s3") and bool(parts.netloc) and not parts.query


def without_private_address(metadata: object) -> Any:
    """Return metadata without their `href` where that is none for others; anything else as it is."""
    if not isinstance(metadata, Mapping) or "href" not in metadata or is_public(metadata["href"]):
        return metadata
    return {name: value for name, value in metadata.items() if name != "href"}


def model_properties(models: Models, *, described: bool) -> dict[str, Any]:
    """Return the properties that describe the models; none where there is no model.

    Args:
        models: Metadata by name of the model; `card` is used where it is there, the rest is copied.
        described: Whether the Item has an asset for a model, without which the extension allows none of its fields.

    Returns:
        ``darts:models`` with what is known of each, its SHA-256 above all; where the models are described also the
        fields `mlm:*` and the bands that the inputs refer to.
    """
    if not models:
        return {}
    known = {"darts:models": {name: _properties(metadata) for name, metadata in models.items()}}
    if not described:
        return known
    cards = {name: _card(metadata) for name, metadata in models.items()}
    inputs = [entry for name, card in cards.items() for entry in _inputs(name, card, len(cards) > 1)]
    properties: dict[str, Any] = {
        "mlm:name": _name(list(models)),
        "mlm:architecture": _joined(cards.values(), "mlm:architecture", "unknown"),
        "mlm:framework": _joined(cards.values(), "mlm:framework", "PyTorch"),
        "mlm:tasks": _TASKS,
        "mlm:input": inputs,
        "mlm:output": [_output("probabilities")],
    }
    if len(cards) == 1:
        (card,) = cards.values()
        properties |= {name: card[name] for name in _CARD_FIELDS if card.get(name)}
    bands = list(dict.fromkeys(_band_name(band) for entry in inputs for band in entry.get("bands", [])))
    if bands:
        properties["bands"] = [{"name": band} for band in bands]
    return properties | known


def model_assets(models: Models) -> dict[str, dict[str, Any]]:
    """Return an asset for the file of each model that anybody can get.

    Args:
        models: Metadata by name of the model: `href` and `sha256` where known.

    Returns:
        Assets by key. A model without a public address has none.
    """
    public = {name: metadata for name, metadata in models.items() if is_public(metadata.get("href"))}
    return {f"model-{name}": _asset(name, metadata) for name, metadata in public.items()}


def _asset(name: str, metadata: Mapping[str, object]) -> dict[str, Any]:
    href = str(metadata["href"])
    is_pickle = PurePath(urlsplit(href).path).suffix in _PICKLES
    asset: dict[str, Any] = {
        "href": href,
        "title": f"Model {name}",
        "type": "application/octet-stream; framework=pytorch" if is_pickle else "application/octet-stream",
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "torch.save" if is_pickle else "safetensors.torch.save_file",
    }
    if metadata.get("sha256"):
        asset["darts:sha256"] = str(metadata["sha256"])
    return asset


def _properties(metadata: Mapping[str, object]) -> dict[str, Any]:
    """Copy the metadata of a model; of a file, the name alone, since its folder says nothing on another machine."""
    public = without_private_address(metadata)
    return {key: PurePath(str(value)).name if key == "file" else value for key, value in public.items()}


def _card(metadata: Mapping[str, object]) -> Mapping[str, Any]:
    card = metadata.get("card")
    return card if isinstance(card, dict) else {}


def _name(names: list[str]) -> str:
    """Join the names into one that fits the pattern of `mlm:name`: a letter first, letters and digits at the ends."""
    text = names[0] if len(names) == 1 else f"ensemble of {' and '.join(names)}"
    text = re.sub(r"[^a-zA-Z0-9_.\-\s]+", "-", text).strip(" _.-")
    return text if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", text) else f"model {text}".strip()


def _joined(cards: Iterable[Mapping[str, object]], field: str, otherwise: str) -> str:
    return ", ".join(dict.fromkeys(str(card[field]) for card in cards if card.get(field))) or otherwise


def _inputs(name: str, card: Mapping[str, Any], prefix: bool) -> list[dict[str, Any]]:
    tensor = {"shape": [-1, -1, -1, -1], "dim_order": _DIM_ORDER, "data_type": "float32"}
    entries = card.get("mlm:input") or [{"name": "tile", "bands": [], "input": tensor}]
    return [{**entry, "name": f"{name}: {entry['name']}" if prefix else entry["name"]} for entry in entries]


def _output(name: str) -> dict[str, Any]:
    result = {"shape": [-1, 1, -1, -1], "dim_order": _DIM_ORDER, "data_type": "float32"}
    return {"name": name, "tasks": _TASKS, "result": result}


def _band_name(band: object) -> str:
    return str(band["name"]) if isinstance(band, dict) else str(band)
