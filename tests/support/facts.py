"""Plain facts of all kinds that trainers put among the hyperparameters of a checkpoint."""

import argparse
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import pathlib
import types
import uuid
import zoneinfo

import numpy as np
import torch


class Arch(enum.Enum):
    UNET = "unet"


class Encoder(str, enum.Enum):  # noqa: UP042  # as older programs write it
    MOBILENET = "mobilenet_v2"


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Outer:
    class Inner(enum.Enum):
        A = 1


class AttributeDict(dict):
    """A dict with attributes, as many libraries have one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__["seen"] = 1


class ListOfOwn(list):
    pass


class Pair(collections.namedtuple("Pair", "a b")):
    __slots__ = ()


@dataclasses.dataclass
class Config:
    model: dict
    bands: list


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int = 1


def shared():
    """A list that holds another one so often that following each would never end."""
    value = ["a"]
    for _ in range(60):
        value = [value, value]
    return value


def cycle():
    value = []
    value.append(value)
    return value


FACTS = {
    "date": dt.date(2026, 5, 4),
    "datetime": dt.datetime(2026, 5, 4, 12),  # noqa: DTZ001  # what people write
    "datetime in UTC": dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC),
    "datetime in a zone": dt.datetime(2026, 5, 4, 12, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "timedelta": dt.timedelta(1, 2, 3),
    "path": pathlib.Path("data/train"),
    "path of Windows": pathlib.PureWindowsPath("C:\\data"),
    "path of POSIX": pathlib.PurePosixPath("/data"),
    "set": {1, "a"},
    "frozen set": frozenset([1, 2]),
    "enumeration": Arch.UNET,
    "enumeration of texts": Encoder.MOBILENET,
    "flags": Flags.A | Flags.B,
    "enumeration in a class": Outer.Inner.A,
    "enumeration as a key": {Arch.UNET: 1, pathlib.Path("x"): 2},
    "class": Arch,
    "fraction": fractions.Fraction(1, 3),
    "decimal": decimal.Decimal("0.1"),
    "uuid": uuid.UUID(int=7),
    "address": ipaddress.ip_address("127.0.0.1"),
    "deque": collections.deque([1, 2], 3),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "OrderedDict": collections.OrderedDict(a=1),
    "Counter": collections.Counter("aab"),
    "ChainMap": collections.ChainMap({"a": 1}),
    "UserDict": collections.UserDict(a=1),
    "named tuple": Pair(1, 2),
    "dict with attributes": AttributeDict(a=1),
    "list of its own": ListOfOwn([1, 2]),
    "dataclass": Config({}, []),
    "frozen dataclass": Frozen(),
    "namespace": argparse.Namespace(a=1),
    "simple namespace": types.SimpleNamespace(b=2),
    "float32 of numpy": np.float32(0.5),
    "bool of numpy": np.bool_(True),
    "text of numpy": np.str_("a"),
    "date of numpy": np.datetime64("2026-05-04"),
    "array of numpy": np.arange(3),
    "dtype of numpy": np.dtype("f4"),
    "type of numpy": np.float64,
    "dtype of torch": torch.float32,
    "device of torch": torch.device("cpu"),
    "size of torch": torch.Size([1, 2]),
    "tensor": torch.ones(2),
    "parameter": torch.nn.Parameter(torch.ones(1)),
    "layer": torch.nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)),
    "optimiser": functools.partial(torch.optim.AdamW, lr=0.1),
    "range": range(3),
    "complex": 1j,
    "bytes": b"ab",
    "no bytes": b"",
    "bytearray": bytearray(b"a"),
    "no bytearray": bytearray(),
    "slice": slice(1, 2),
    "ellipsis": ...,
    "large integer": 2**80,
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "shared lists": shared(),
    "cycle": cycle(),
}
