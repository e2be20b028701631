"""Read checkpoints that torch wrote, as data: nothing in them is executed, and nothing expands beyond the file's size.

There are four lines of defence. The directory of the zip file says how much there is to read; the pickle in it is
read as a list of instructions, and what it imports must be plain data, for which inert objects stand in; ``torch.load``
runs with ``weights_only=True``, which builds nothing but those; and tensors must be as large as what is stored.
"""

import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from darts_segmentation.errors import BrokenModelError, UnsafeModelError
from darts_segmentation.pickles import PickleContent, scan_pickle
from darts_segmentation.plain import ALLOWED_NAMES, is_plain, make_stand_ins

# What torch may build while it reads a file is set for the whole process.
_reading = threading.Lock()

HOW_TO_CONVERT = (
    "Where you trust its source, load it there with the library that wrote it, and save plain data: "
    'torch.save({"config": {"model": {…}, "bands": ["red", …]}, "statedict": network.state_dict()}, "plain.pt"); '
    "`darts model convert plain.pt OUT` then makes a safe file of it."
)
_MAX_MEMBERS = 100_000


def load_checkpoint(path: Path) -> object:
    """Return the content of a zip file that ``torch.save`` wrote.

    Args:
        path: The file.

    Returns:
        Plain data and tensors on the CPU; :class:`darts_segmentation.plain.StandIn` objects for those of other classes.

    Raises:
        UnsafeModelError: If the file would import anything that is not on the list, or expand beyond its size.
        BrokenModelError: If it is damaged, or no checkpoint.
    """
    content = _check_pickle(path, _read_pickle(path))
    try:
        return _load(path, make_stand_ins(content.names - ALLOWED_NAMES, content.containers))
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise BrokenModelError(
            f"{path} is damaged, or torch does not read it as data ({reason[0] if reason else 'no reason given'}). "
            f"{HOW_TO_CONVERT}"
        ) from error


def _read_pickle(path: Path) -> bytes:
    """Check the directory of the zip file and the data that it lists, and return the pickle in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_directory(path, members)
            name = _pickle_name(path, [member.filename for member in members])
            damaged = archive.testzip()
            if damaged is not None:
                raise BrokenModelError(f"{path} is damaged: the checksum of {damaged!r} in it is wrong. Get it again.")
            return archive.read(name)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, UnicodeError, OverflowError) as error:
        raise BrokenModelError(
            f"{path} is truncated or damaged, it begins like a checkpoint but its directory cannot be read ({error}). "
            "Get it again."
        ) from error


def _check_directory(path: Path, members: list[zipfile.ZipInfo]) -> None:
    size = path.stat().st_size
    packed = [
        member.filename for member in members if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1
    ]
    total = sum(member.file_size for member in members)
    if packed or total > size or len(members) > _MAX_MEMBERS:
        detail = f", {packed[0]!r} in it is compressed or encrypted" if packed else ""
        raise UnsafeModelError(
            f"{path} has {size} bytes and would become {total} bytes in {len(members)} parts{detail}; torch.save "
            f"stores everything as it is. {HOW_TO_CONVERT}"
        )


def _pickle_name(path: Path, names: list[str]) -> str:
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise UnsafeModelError(
            f"{path} is a TorchScript program; expected a checkpoint, which is data. {HOW_TO_CONVERT}"
        )
    if any(name.endswith(("/models/model.json", "serialized_exported_program.json")) for name in names):
        raise BrokenModelError(f"{path} is a torch.export program; expected a checkpoint, from which it was made.")
    pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        shown = ", ".join(names[:5])
        raise BrokenModelError(
            f"{path} is a zip file, but no checkpoint: expected one 'data.pkl' in it, found {len(pickles)} "
            f"among {shown}."
        )
    return pickles[0]


def _check_pickle(path: Path, content: bytes) -> PickleContent:
    try:
        found = scan_pickle(content)
    except BrokenModelError as error:
        raise BrokenModelError(f"{path}: {error} Get it again.") from error
    refuse_imports(path, found.names)
    if found.protocol != 2:
        raise BrokenModelError(
            f"{path} is a pickle of protocol {found.protocol}; torch.save writes protocol 2, and only that is read. "
            f"{HOW_TO_CONVERT}"
        )
    return found


def refuse_imports(path: Path, names: frozenset[str]) -> None:
    """Raise an UnsafeModelError if a pickle imports anything but data, see :func:`darts_segmentation.plain.is_plain`.

    Args:
        path: The file, for the message.
        names: Full names of what it imports.
    """
    refused = sorted(name for name in names - ALLOWED_NAMES if not is_plain(name))
    if refused:
        raise UnsafeModelError(
            f"{path} is not only data: reading it would import and could run {', '.join(refused)}. Nothing was run. "
            f"{HOW_TO_CONVERT}"
        )


def _load(path: Path, stand_ins: Mapping[str, type]) -> object:
    with _reading, torch.serialization.safe_globals([(made, name) for name, made in stand_ins.items()]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def check_stored(path: Path, tensors: Mapping[object, object]) -> None:
    """Raise an error if a value is no tensor, or is larger than what the file stores for it.

    Args:
        path: The file, for the message.
        tensors: Tensors by name.

    Raises:
        BrokenModelError: If a value is no tensor.
        UnsafeModelError: If a tensor would become larger when used.
    """
    for name, tensor in _tensors(path, tensors):
        stored = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > stored:
            raise UnsafeModelError(
                f"{path}: the weight {name!r} claims {tensor.numel()} numbers, but {stored} bytes are stored for it."
            )


def _tensors(path: Path, tensors: Mapping[object, object]) -> Iterator[tuple[str, Any]]:
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise BrokenModelError(
                f"{path}: {name!r} in the state dict is a {type(tensor).__name__}; expected a dense tensor."
            )
        yield name, tensor
