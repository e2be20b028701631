"""Our own model format: weights as safetensors, and a model card in JSON beside them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from darts_segmentation.card import ModelCard
from darts_segmentation.errors import BrokenModelError, ModelCardError, ModelNotFoundError, ModelWeightsError
from darts_utils import write_atomically

if TYPE_CHECKING:
    import torch

WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "model.json"
PROGRAM_NAME = "model.xml"
_PROGRAM_WEIGHTS_NAME = "model.bin"
_MAX_CARD_BYTES = 2**20


def model_paths(path: Path | str) -> tuple[Path, Path]:
    """Return where weights and card of a model in our own format lie.

    Args:
        path: A folder, which holds ``model.safetensors`` and ``model.json``; or a ``.safetensors`` file, which has its
            card beside it under the same name with the ending ``.json``.

    Returns:
        Path of the weights, path of the card.

    Examples:
        >>> [p.as_posix() for p in model_paths("models/slumps.safetensors")]
        ['models/slumps.safetensors', 'models/slumps.json']
        >>> [p.as_posix() for p in model_paths("models/slumps")]
        ['models/slumps/model.safetensors', 'models/slumps/model.json']
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return path, path.with_suffix(".json")
    return path / WEIGHTS_NAME, path / CARD_NAME


def is_stored_model(path: Path) -> bool:
    """Tell whether a path is meant to be a model in our own format: it is a folder or is named ``.safetensors``."""
    return path.is_dir() or path.suffix == ".safetensors"


def is_program(path: Path) -> bool:
    """Tell whether a path is the folder of a whole program of OpenVINO, see :mod:`darts_segmentation.program`."""
    return (path / PROGRAM_NAME).is_file() and (path / CARD_NAME).is_file() and not (path / WEIGHTS_NAME).exists()


def stored_files(path: Path) -> dict[str, Path]:
    """Return the files of a model in our own format or of a program, by what they are, in the order of their hash."""
    weights, card = model_paths(path)
    if is_program(path):
        return {"weights": path / _PROGRAM_WEIGHTS_NAME, "program": path / PROGRAM_NAME, "model card": card}
    return {"weights": weights, "model card": card}


def read_stored_model(path: Path | str) -> "tuple[ModelCard, dict[str, torch.Tensor]]":
    """Read a model in our own format.

    Args:
        path: Folder or ``.safetensors`` file, see :func:`model_paths`.

    Returns:
        Card, state dict.

    Raises:
        ModelNotFoundError: If weights or card are missing.
        BrokenModelError: If the weights are no safetensors, or truncated.
        ModelCardError: If the card cannot be understood.
        UnknownBandError: If the card names a band that the band table does not know.
    """
    from safetensors.torch import load_file

    card = read_stored_card(path)
    if is_program(Path(path)):
        raise BrokenModelError(
            f"{path} holds a program of OpenVINO, which no other engine runs and whose weights cannot be read; choose "
            "engine 'openvino', or take the model that it was made from."
        )
    weights_path, _ = model_paths(path)
    try:
        return card, load_file(weights_path, device="cpu")
    except (SafetensorError, ValueError, KeyError) as error:
        raise BrokenModelError(
            f"{weights_path} is truncated, damaged or no safetensors ({error}). Get it again."
        ) from error


def read_stored_card(path: Path | str) -> ModelCard:
    """Read the card of a model in our own format, of which both files must be there.

    Args:
        path: Folder or ``.safetensors`` file, see :func:`model_paths`.

    Raises:
        ModelNotFoundError: If weights or card are missing.
        ModelCardError: If the card cannot be understood.
        UnknownBandError: If the card names a band that the band table does not know.
    """
    files = stored_files(Path(path))
    for what, part in files.items():
        if not part.is_file():
            raise ModelNotFoundError(
                f"The model {path} has no {what}: there is no file {part}. Weights alone do not say which bands they "
                "take; copy both files."
            )
    return _read_card(files["model card"])


def _read_card(path: Path) -> ModelCard:
    size = path.stat().st_size
    if size > _MAX_CARD_BYTES:
        raise ModelCardError(f"{path} has {size} bytes; expected a model card of at most {_MAX_CARD_BYTES}.")
    try:
        return ModelCard.from_json(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ModelCardError(f"{path} is no text in UTF-8: {error}.") from error
    except ModelCardError as error:
        raise ModelCardError(f"{path}: {error}") from error


def save_model(path: Path | str, network: "torch.nn.Module | Mapping[str, torch.Tensor]", card: ModelCard) -> Path:
    """Write a network in our own format, so that every DARTS release reads it without running code from it.

    The same network and card give the same bytes. Each of the two files appears complete or not at all.

    Args:
        path: Folder or ``.safetensors`` file to write, see :func:`model_paths`. Parents are made; files are replaced.
        network: A network made by ``segmentation_models_pytorch.create_model(**card.architecture)``, or its state dict.
        card: Describes the network.

    Returns:
        The `path` that :class:`SMPSegmenter` reads the model from.

    Raises:
        ModelCardError: If the card cannot be written as JSON, or describes another number of channels than the network
            takes.
        ModelWeightsError: If the weights are not those of the architecture that the card names.
    """
    from safetensors.torch import save

    from darts_segmentation.network import check_weights

    state_dict: Mapping[str, torch.Tensor] = network if isinstance(network, Mapping) else network.state_dict()
    tensors = {name: _plain(name, tensor) for name, tensor in state_dict.items()}
    text = card.to_json()
    tensors = check_weights(card, tensors)
    weights_path, card_path = model_paths(path)
    weights_path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(weights_path, save(tensors, metadata={"format": "pt"}))
    write_atomically(card_path, text.encode())
    return Path(path)


def _plain(name: str, tensor: "torch.Tensor") -> "torch.Tensor":
    try:
        return tensor.detach().cpu().contiguous().clone()
    except AttributeError as error:
        raise ModelWeightsError(
            f"{name!r} in the state dict is a {type(tensor).__name__}; expected a tensor."
        ) from error


def hash_model(path: Path | str) -> str:
    """Return the SHA-256 that identifies a model.

    Args:
        path: As in :func:`darts_segmentation.read_model`.

    Returns:
        64 hexadecimal digits: of the file's bytes, as ``sha256sum`` prints it; in our own format of the weights' bytes
        followed by what of the card decides about probabilities (:meth:`ModelCard.identity` as JSON with sorted keys):
        architecture, bands, scaling, classes and calibration; texts, metrics and licence may change. Of a program of
        OpenVINO, of the bytes of ``model.bin`` and ``model.xml`` and the same of the card.

    Raises:
        ModelNotFoundError: If a file is missing.
        ModelCardError: If the card cannot be understood.
        UnknownBandError: If the card names a band that the band table does not know.
    """
    path = Path(path)
    stored, digest = is_stored_model(path), hashlib.sha256()
    for part in model_files(path)[: -1 if stored else None]:
        with part.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    if stored:
        digest.update(json.dumps(read_stored_card(path).identity(), sort_keys=True).encode())
    return digest.hexdigest()


def model_files(path: Path) -> tuple[Path, ...]:
    """Return the files of a model: the checkpoint, or weights and card, the card last.

    Raises:
        ModelNotFoundError: If one is missing.
    """
    parts = tuple(stored_files(path).values()) if is_stored_model(path) else (path,)
    missing = [part for part in parts if not part.is_file()]
    if missing:
        raise ModelNotFoundError(f"There is no file {missing[0]}, which belongs to the model {path}.")
    return parts
