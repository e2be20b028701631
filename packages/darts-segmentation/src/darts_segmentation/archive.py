"""Read checkpoints that torch wrote, as data: nothing in them is executed, and nothing expands beyond the file's size.

Four walls stand one behind the other. The directory of the zip file says how much there is to read; the pickle in it is
read as a list of instructions, and whatever it imports must be on a short list; ``torch.load`` runs with
``weights_only=True``, which builds nothing but plain data; and tensors must be as large as what is stored for them.
"""

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from darts_segmentation.errors import BrokenModelError, UnsafeModelError
from darts_segmentation.pickles import PickleContent, scan_pickle

_STORAGES = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
ALLOWED_NAMES = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        *(f"torch.{kind}Storage" for kind in _STORAGES),
    }
)
"""Everything that a checkpoint may import. In addition classes named ``Bands`` or ``Band`` of any module are accepted:
inert objects take their place, and the module is not imported."""

HOW_TO_CONVERT = (
    "Where you trust its source, load it there with the library that wrote it, and save plain data: "
    'torch.save({"config": {"model": {…}, "bands": ["red", …]}, "statedict": network.state_dict()}, "plain.pt"); '
    "`darts model convert plain.pt OUT` then makes a safe file of it."
)
_STAND_IN_NAMES = ("Bands", "Band")
_MAX_MEMBERS = 100_000


class StandIn:
    """Takes the place of an object of a foreign class, and keeps what the pickle says about it.

    Attributes:
        arguments: What the foreign class would have been called with.
        state: What the foreign object would have been filled with.
    """

    def __new__(cls, *arguments: Any) -> Any:
        """Make an object that does nothing."""
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __init__(self, *arguments: Any) -> None:
        self.arguments: tuple[Any, ...] = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def load_checkpoint(path: Path) -> Any:
    """Return the content of a zip file that ``torch.save`` wrote.

    Args:
        path: The file.

    Returns:
        Plain data and tensors on the CPU; :class:`StandIn` objects for those of foreign classes named ``Bands`` or
        ``Band``.

    Raises:
        UnsafeModelError: If the file would import anything that is not on the list, or expand beyond its size.
        BrokenModelError: If it is damaged, or no checkpoint.
    """
    content = _check_pickle(path, _read_pickle(path))
    foreign = sorted(name for name in content.names if name not in ALLOWED_NAMES)
    kinds: tuple[Callable[[str], type], ...] = (_object_class,)
    if foreign:
        kinds = (_object_class, _list_class, _dict_class)
    for make in kinds:
        stand_ins = [(make(name), name) for name in foreign]
        try:
            return _load(path, stand_ins)
        except Exception as error:  # noqa: BLE001  # a damaged file can make torch's reader fail in any way
            reason = str(error).strip().splitlines()
    raise BrokenModelError(f"{path} is damaged, torch cannot read it: {reason[0] if reason else 'no reason given'}")


def _read_pickle(path: Path) -> bytes:
    """Check the directory of the zip file and the data behind it, and return the pickle in it."""
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
    """Raise an UnsafeModelError if a pickle imports anything beyond :data:`ALLOWED_NAMES` and the stand-ins.

    Args:
        path: The file, for the message.
        names: Full names of what it imports.
    """
    refused = sorted(name for name in names - ALLOWED_NAMES if name.rpartition(".")[2] not in _STAND_IN_NAMES)
    if refused:
        raise UnsafeModelError(
            f"{path} is not only data: reading it would import and could run {', '.join(refused)}. Nothing was run. "
            f"{HOW_TO_CONVERT}"
        )


def _load(path: Path, stand_ins: list[Any]) -> Any:
    import torch

    context = torch.serialization.safe_globals(stand_ins) if stand_ins else contextlib.nullcontext()
    with context:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


# A fresh class for every file: a pickle may set attributes of what it imports.
def _object_class(name: str) -> type:
    return type(name.rpartition(".")[2], (StandIn,), {"__slots__": ()})


def _list_class(name: str) -> type:
    """Stand in for a subclass of list, which pickles fill item by item; torch lets them fill true lists only."""
    if name.endswith(".Band"):
        return _object_class(name)
    return type("Bands", (), {"__new__": lambda cls, *arguments: list(*arguments), "__slots__": ()})  # noqa: ARG005


def _dict_class(name: str) -> type:
    if name.endswith(".Band"):
        return _object_class(name)
    return type("Bands", (), {"__new__": lambda cls, *arguments: dict(*arguments), "__slots__": ()})  # noqa: ARG005


def check_stored(path: Path, tensors: Mapping[Any, Any]) -> None:
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


def _tensors(path: Path, tensors: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    import torch

    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise BrokenModelError(
                f"{path}: {name!r} in the state dict is a {type(tensor).__name__}; expected a dense tensor."
            )
        yield name, tensor
