"""Plain values that checkpoints hold beside weights: which are taken for harmless, and what stands in their place."""

import re
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_DTYPES = "bfloat16 bool complex64 complex128 float16 float32 float64 int8 int16 int32 int64 uint8"
_STORAGES = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
ALLOWED_NAMES = frozenset(
    {
        *("builtins.bytearray", "builtins.complex", "builtins.set", "_codecs.encode"),
        *("collections.Counter", "collections.OrderedDict", "torch.Size", "torch.device"),
        *("torch._utils._rebuild_parameter", "torch._utils._rebuild_tensor_v2"),
        *(f"torch.{kind}Storage" for kind in _STORAGES),
        *(f"torch.{kind}" for kind in _DTYPES.split()),
    }
)
"""What a checkpoint may import as it is: torch builds it with ``weights_only=True``."""

# Of Python's own library: dates, numbers, paths, containers. Inert objects take their place, and nothing is imported.
_PLAIN_NAMES = frozenset(
    f"{module}.{name}"
    for module, names in {
        "argparse": "Namespace",
        "builtins": "Ellipsis bool bytes dict float frozenset getattr int list object range slice str tuple type",
        "collections": "ChainMap UserDict UserList UserString defaultdict deque",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "functools": "partial",
        "ipaddress": "IPv4Address IPv4Network IPv6Address IPv6Network",
        "pandas._libs.tslibs.timestamps": "_unpickle_timestamp",
        "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "torch.torch_version": "TorchVersion",
        "types": "SimpleNamespace",
        "typing": "Any Dict FrozenSet List Literal Mapping Optional Sequence Set Tuple Union",
        "uuid": "SafeUUID UUID",
        "zoneinfo": "ZoneInfo ZoneInfo._unpickle",
    }.items()
    for name in names.split()
)
_OF_NUMPY = re.compile(
    r"numpy\.(ndarray|dtype|_?core\.multiarray\.(scalar|_reconstruct)|(bool|str|bytes|u?int|float|complex)[0-9]*_?)"
)
_OF_TORCH = ("torch.nn.modules.", "torch.optim.")
_STAND_IN_NAMES = ("Bands", "Band")


def is_plain(name: str) -> bool:
    """Tell whether an object of a class may be in a checkpoint, with an inert one in its place.

    That holds for dates, paths, numbers and containers of Python and numpy, and for the classes of other libraries and
    of the user (enumerations, dataclasses, configurations), as far as they are named like classes. Functions are none,
    and neither is what else comes with Python or torch.

    Examples:
        >>> [is_plain(name) for name in ("datetime.date", "my.training.Loss", "os.system", "my.training.run")]
        [True, True, False, False]
    """
    package, attribute = name.partition(".")[0], name.rpartition(".")[2]
    if name in _PLAIN_NAMES or attribute in _STAND_IN_NAMES or _OF_NUMPY.fullmatch(name):
        return True
    if package in sys.stdlib_module_names or (package == "torch" and not name.startswith(_OF_TORCH)):
        return False
    return "." in name and attribute[:1].isupper()


class Placeholder:
    """Takes the place of an object of a foreign class, and keeps what the pickle says about it.

    Attributes:
        full_name: Name of the foreign class.
        arguments: What the foreign class would have been called with.
        state: What the foreign object would have been filled with.
    """

    full_name = ""

    def __new__(cls, *arguments: object) -> Any:
        """Make an object that does nothing."""
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __init__(self, *arguments: object) -> None:
        self.arguments: tuple[Any, ...] = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def make_stand_ins(names: Iterable[str], containers: Mapping[str, str]) -> dict[str, type]:
    """Make a class for each name whose objects do nothing; fresh ones, for a pickle may set their attributes.

    Args:
        names: Full names of foreign classes.
        containers: Those that are filled item by item, "list" or "dict"; torch fills true lists and dicts only.

    Returns:
        The classes by name.
    """
    made: dict[str, type] = {}
    for name in names:
        methods: dict[str, object] = {"full_name": name}
        if name == "builtins.getattr":
            # The scan has named every attribute, so that each has a stand-in of its own.
            methods["__new__"] = lambda cls, owner, attribute: made[f"{owner.full_name}.{attribute}"]  # noqa: ARG005
        elif name in containers:
            kind = list if containers[name] == "list" else OrderedDict
            methods["__new__"] = lambda cls, *arguments, kind=kind: kind()  # noqa: ARG005
        made[name] = type(name.rpartition(".")[2], (Placeholder,), methods)
    return made


_DEEPEST = 40


def plain(value: object) -> object:
    """Turn what a checkpoint holds into dicts, lists, texts and numbers, where it is clear what stands for what.

    An object with attributes (a dataclass, a namespace, a configuration of OmegaConf) becomes a dict; one that is made
    from one value (a member of an enumeration, a number of numpy) becomes that value, one from several becomes a tuple.

    Examples:
        >>> plain({"arch": make_stand_ins(["my.Arch"], {})["my.Arch"]("unet"), "depth": 5})
        {'arch': 'unet', 'depth': 5}
    """
    return _plain(value, {}, _DEEPEST)


def _plain(value: object, known: dict[int, tuple[object, object]], depth: int) -> object:
    # A pickle can share one list among others so often that following each would never end.
    if id(value) not in known:
        known[id(value)] = value, None  # what a cycle leads back to; the value is kept, or its id would be given anew
        known[id(value)] = value, _convert(value, known, depth - 1) if depth else None
    return known[id(value)][1]


def _convert(value: object, known: dict[int, tuple[object, object]], depth: int) -> object:
    if isinstance(value, Placeholder):
        return _plain(_meaning(value), known, depth)
    if isinstance(value, Mapping):
        return {_plain(key, known, depth): _plain(item, known, depth) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        items = [_plain(item, known, depth) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def _meaning(value: Placeholder) -> object:
    """Return what a stand-in stands for, out of its own parts."""
    state, arguments = value.state, value.arguments
    if value.full_name.endswith(".multiarray.scalar"):
        return _number(arguments)
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], Mapping):  # attributes in slots
        state = {**(state[0] or {}), **state[1]}
    if isinstance(state, Mapping) and state:
        for content in ("_content", "_val"):  # OmegaConf's containers and nodes
            if content in state:
                return state[content]
        return state["data"] if set(state) == {"data"} else state
    if isinstance(state, list):  # values in slots that cannot be set
        return tuple(state)
    return arguments[0] if len(arguments) == 1 else arguments


def _number(arguments: tuple[Any, ...]) -> object:
    """Return the number that numpy pickles as its type and its bytes, None where they do not fit."""
    try:
        dtype, content = arguments
        return np.frombuffer(content, np.dtype(dtype.arguments[0])).item()
    except (TypeError, ValueError, AttributeError, IndexError):
        return None
