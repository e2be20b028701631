"""Read a model file of any kind, tell its kind by its content, and say what it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_segmentation.card import ModelCard
from darts_segmentation.errors import BrokenModelError, ModelNotFoundError, UnsafeModelError
from darts_segmentation.programfile import count_parameters
from darts_segmentation.store import (
    hash_model,
    is_program,
    is_stored_model,
    model_files,
    read_stored_card,
    read_stored_model,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ModelFile:
    """A model as it lies on disk.

    Attributes:
        path: Where it was read from.
        kind: "safetensors" (our own format), "DARTS v1", "DARTS v2" or "Lightning".
        card: The model card.
        state_dict: State dict of the network.
    """

    path: Path
    kind: str
    card: ModelCard
    state_dict: "Mapping[str, torch.Tensor]"

    @property
    def states(self) -> "Mapping[str, torch.Tensor]":
        """The earlier name of `state_dict`."""
        return self.state_dict


@dataclass(frozen=True)
class ModelInfo:
    """What there is to say about a model file.

    Attributes:
        path: The file or folder.
        kind: As in :class:`ModelFile`, or "OpenVINO" for a program of OpenVINO.
        sha256: See :func:`hash_model`.
        size_bytes: Size of the file; of weights and card in our own format.
        parameters: Number of numbers in the weights.
        card: The model card.
    """

    path: Path
    kind: str
    sha256: str
    size_bytes: int
    parameters: int
    card: ModelCard


def read_model(path: Path | str, **described: Any) -> ModelFile:
    """Read a model file as data: nothing in it is executed.

    Args:
        path: A folder or ``.safetensors`` file in our own format, or a ``.pt`` or ``.ckpt`` file. What a file is, its
            content decides, not its name.
        **described: Fields of the card (`classes`, `target`, `activation`) that replace those of the file, or that it
            lacks.

    Returns:
        Card and weights. Whether the weights fit the architecture shows when the network is built.

    Raises:
        ModelNotFoundError: If there is nothing, or the model card is missing.
        UnsafeModelError: If the file contains more than data.
        BrokenModelError: If it is truncated, damaged or of another kind.
        ModelCardError: If its description lacks something or contradicts itself.
        UnknownBandError: If it names a band that the band table does not know.
    """
    path = Path(path)
    if not path.exists():
        raise ModelNotFoundError(f"There is no model at {path}; give a file or folder that exists.")
    if is_stored_model(path):
        card, state_dict = read_stored_model(path)
        return ModelFile(path, "safetensors", replace(card, **described), state_dict)
    _check_kind(path)
    from darts_segmentation.checkpoints import read_checkpoint

    kind, card, state_dict = read_checkpoint(path, described)
    return ModelFile(path, kind, card, state_dict)


def read_card(path: Path | str) -> ModelCard:
    """Read the card of a model, without its weights and without torch where it is in our own format.

    Args:
        path: As in :func:`read_model`.

    Returns:
        The card.

    Raises:
        ModelFileError: As in :func:`read_model`.
        UnknownBandError: If it names a band that the band table does not know.
    """
    path = Path(path)
    return read_stored_card(path) if path.exists() and is_stored_model(path) else read_model(path).card


def model_info(path: Path | str) -> ModelInfo:
    """Read a model file, check that its weights fit, and return what there is to say about it.

    Args:
        path: As in :func:`read_model`.

    Returns:
        Kind, hash, size, number of parameters, card.

    Raises:
        ModelFileError: As in :func:`read_model`; also if the weights do not fit the architecture.
        UnknownBandError: If it names a band that the band table does not know.
    """
    from darts_segmentation.network import check_weights

    if Path(path).exists() and is_program(Path(path)):
        return _program_info(Path(path))
    model = read_model(path)
    check_weights(model.card, model.state_dict)
    return ModelInfo(
        path=model.path,
        kind=model.kind,
        sha256=hash_model(path),
        size_bytes=sum(part.stat().st_size for part in model_files(model.path)),
        parameters=sum(tensor.numel() for tensor in model.state_dict.values()),
        card=model.card,
    )


def _program_info(path: Path) -> ModelInfo:
    return ModelInfo(
        path=path,
        kind="OpenVINO",
        sha256=hash_model(path),
        size_bytes=sum(part.stat().st_size for part in model_files(path)),
        parameters=count_parameters(path),
        card=read_stored_card(path),
    )


_SIGNATURES = (
    (b"version https://git-lfs", "the placeholder of a file in Git LFS; fetch the file itself with `git lfs pull`"),
    (b"<", "a web page or XML; the download went wrong, get the file again"),
    (b"\x89PNG", "a PNG image"),
    (b"\x89HDF", "an HDF5 or NetCDF file"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x1f\x8b", "compressed by gzip; decompress it first"),
    (
        b"{",
        (
            "JSON; if this is a model card, name the folder or the .safetensors file it belongs to; if it is "
            "an ensemble, name its members one by one, or open it by `EnsembleV1.from_file`"
        ),
    ),
)


def _check_kind(path: Path) -> None:
    """Raise an error unless a file begins like a checkpoint of torch."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PK\x03\x04"):
        return
    expected = "expected a checkpoint of torch (.pt, .ckpt) or a .safetensors file with its card"
    if start[:1] == b"\x80":
        _refuse_bare_pickle(path)
    if start[8:9] == b"{":
        raise BrokenModelError(
            f"{path} holds safetensors, but is not named so; rename it to {path.with_suffix('.safetensors').name} and "
            f"put its model card beside it as {path.with_suffix('.json').name}."
        )
    if not start:
        raise BrokenModelError(f"{path} is empty; {expected}. Get it again.")
    for signature, what in _SIGNATURES:
        if start.lstrip().startswith(signature):
            raise BrokenModelError(f"{path} is {what}; {expected}.")
    raise BrokenModelError(f"{path} begins with {start[:8]!r}; {expected}.")


def _refuse_bare_pickle(path: Path) -> None:
    """Say what a pickle that no zip file surrounds contains; torch before 1.6 and much else wrote such files."""
    from darts_segmentation.archive import HOW_TO_CONVERT, refuse_imports
    from darts_segmentation.pickles import MAX_PICKLE_BYTES, scan_pickle

    with path.open("rb") as file:
        content = file.read(MAX_PICKLE_BYTES)
    try:
        names = scan_pickle(content).names
    except BrokenModelError as error:
        raise BrokenModelError(f"{path}: {error} {HOW_TO_CONVERT}") from error
    refuse_imports(path, names)
    raise UnsafeModelError(f"{path} is a bare pickle, as torch before 1.6 wrote them; it is not read. {HOW_TO_CONVERT}")
