"""Find models that hold the same network, whatever kind of file it lies in."""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from darts_segmentation.card import ModelCard
from darts_segmentation.modelfile import read_card, read_model
from darts_segmentation.store import CARD_NAME, hash_model, is_program, is_stored_model

if TYPE_CHECKING:
    import torch

NETWORK = "darts:network_sha256"
"""Field of the card of a program of OpenVINO: :func:`digest_network` of the model that it was translated from."""

Name = TypeVar("Name", bound=Hashable)


def repeated_models(models: Mapping[Name, Path]) -> list[list[Name]]:
    """Group the models that compute the same: copies of one, a checkpoint and what it was converted into.

    Only models whose cards agree are compared, beyond their hashes, and torch is needed only where a checkpoint lies
    beside a model in DARTS's own format, in which equal networks are equal files. Two checkpoints of torch of one
    network are known for that only where they are equal files.

    Args:
        models: Models by name, in the formats of :class:`darts_segmentation.SMPSegmenter`.

    Returns:
        The names of each group of two and more, in the order given. A program of OpenVINO belongs to the model that it
        was translated from, where it says so; one with eight-bit integers computes something else.

    Raises:
        ModelFileError: If a model cannot be read.
        UnknownBandError: If a card names a band that the band table does not know.
    """
    hashes = {name: hash_model(path) for name, path in models.items()}
    return group_repeats(models, hashes, lambda name: read_card(models[name]))


def group_repeats(
    models: Mapping[Name, Path], hashes: Mapping[Name, str], card_of: Callable[[Name], ModelCard]
) -> list[list[Name]]:
    """Do what :func:`repeated_models` does, with what is known of the models already.

    Args:
        models: Models by name.
        hashes: SHA-256 of each, see :func:`darts_segmentation.hash_model`.
        card_of: Returns the card of one; it is asked for only where it matters.

    Returns:
        As :func:`repeated_models`.
    """
    keys = dict(hashes)
    if _may_be_converted(models.values()):
        identities = {name: json.dumps(card_of(name).identity(), sort_keys=True) for name in models}
        for group in _groups(identities):
            if _may_be_converted(models[name] for name in group):
                keys |= {name: _hash_network(models[name]) for name in group}
    return list(_groups(keys))


def digest_network(card: ModelCard, state_dict: "Mapping[str, torch.Tensor]") -> str:
    """Return the SHA-256 of what a network computes: its weights under today's names, and what its card decides.

    Args:
        card: The card.
        state_dict: State dict of the network.

    Raises:
        ModelFileError: If the weights do not fit the card.
    """
    import torch

    from darts_segmentation.network import check_weights

    digest = hashlib.sha256(json.dumps(card.identity(), sort_keys=True).encode())
    for name, tensor in sorted(check_weights(card, state_dict).items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _may_be_converted(paths: Iterable[Path]) -> bool:
    """Tell whether among models there is one that DARTS may have written, and one of another kind than its own."""
    kinds = {"program" if is_program(path) else is_stored_model(path) for path in paths}
    return len(kinds) > 1 or kinds == {"program"}


def _hash_network(path: Path) -> str:
    if is_program(path):
        told = json.loads((path / CARD_NAME).read_text(encoding="utf-8-sig")).get(NETWORK)
        return str(told or hash_model(path))
    model = read_model(path)
    return digest_network(model.card, model.state_dict)


def _groups(keys: Mapping[Name, str]) -> Iterable[list[Name]]:
    """Return the names that share a key, where two or more do."""
    found: dict[str, list[Name]] = {}
    for name, key in keys.items():
        found.setdefault(key, []).append(name)
    return (group for group in found.values() if len(group) > 1)
