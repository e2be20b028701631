"""Find out what a pickle would do, without doing it."""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from darts_segmentation.errors import BrokenModelError

MAX_PICKLE_BYTES = 16 * 2**20
"""Longest pickle that is looked at: the longest of real checkpoints have less than a tenth of it."""

UNKNOWN = "?"
"""The name of what a pickle puts together in a way that cannot be followed."""


@dataclass(frozen=True)
class PickleContent:
    """What a pickle asks for.

    Attributes:
        protocol: Version of the pickle protocol.
        names: Full names of the classes and functions that it would import, as Python 3 calls them.
        containers: Those of them whose objects it fills item by item, and whether as a list or as a dict.
    """

    protocol: int
    names: frozenset[str]
    containers: Mapping[str, Literal["list", "dict"]]


def scan_pickle(content: bytes) -> PickleContent:
    """List what a pickle imports, by reading its instructions and following none.

    Args:
        content: The pickle.

    Returns:
        What it asks for. Attributes of what it imports stand under their full names; names that it puts together in a
        way that cannot be followed stand as "?". Calls that make bytes in another way than pickles of bytes do stand as
        ``_codecs.encode(…)`` and ``builtins.bytearray(…)``.

    Raises:
        BrokenModelError: If it is no pickle, ends early, or is longer than any real one.

    Examples:
        >>> import pickle, collections
        >>> sorted(scan_pickle(pickle.dumps(collections.Counter("aa"))).names)
        ['collections.Counter']
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise BrokenModelError(f"The pickle has {len(content)} bytes; expected at most {MAX_PICKLE_BYTES}.")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            machine.follow(opcode, argument)
    except (ValueError, IndexError, OverflowError, UnicodeError, KeyError) as error:
        raise BrokenModelError(f"The pickle is damaged or ends early: {error}.") from error
    return PickleContent(machine.protocol, frozenset(machine.names), machine.containers)


def _today(name: str) -> str:
    """Return what Python 3 calls a name; readers of protocols before 3 translate those of Python 2."""
    module, _, attribute = name.rpartition(".")
    translated: tuple[str, str] = NAME_MAPPING.get((module, attribute), (IMPORT_MAPPING.get(module, module), attribute))
    return ".".join(translated) if module else name


@dataclass(frozen=True)
class _Imported:
    """What an import leaves on the stack, or what calling it does."""

    name: str
    is_called: bool = False


_TEXTS = frozenset(
    {"BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_TUPLES = frozenset({"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_FILLS: Mapping[str, Literal["list", "dict"]] = {
    "APPEND": "list",
    "APPENDS": "list",
    "SETITEM": "dict",
    "SETITEMS": "dict",
}


class _Machine:
    """Goes through the motions of an unpickler: on its stack lie texts, tuples, imported names, and None for others."""

    def __init__(self) -> None:
        self.protocol = 0
        self.names: set[str] = set()
        self.containers: dict[str, Literal["list", "dict"]] = {}
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow one instruction."""
        kind = opcode.name
        if kind == "PROTO":
            self.protocol = int(argument)
        elif kind in _PUTS:
            self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1]
        elif kind in _GETS:
            self._stack.append(self._memo[int(argument)])
        else:
            popped = self._pop(opcode.stack_before)
            self._stack += self._results(kind, argument, popped, len(opcode.stack_after))

    def _pop(self, before: list[pickletools.StackObject]) -> list[object]:
        """Take from the stack what an instruction takes; of marks, all that lies above the last one."""
        popped: list[object] = []
        if pickletools.markobject in before:
            while (top := self._stack.pop()) is not pickletools.markobject:
                popped.append(top)
            before = before[: before.index(pickletools.markobject)]
        popped += [self._stack.pop() for _ in before]
        return popped[::-1]

    def _results(self, kind: str, argument: object, popped: list[object], count: int) -> list[object]:
        """Return what an instruction puts on the stack."""
        match kind:
            case "MARK":
                return [pickletools.markobject]
            case "DUP":
                return popped * 2
            case "GLOBAL":
                return [self._import(str(argument).replace(" ", ".", 1))]
            case "INST":
                return [self._call(self._import(str(argument).replace(" ", ".", 1)), popped)]
            case "STACK_GLOBAL":
                return [self._import(".".join(part if isinstance(part, str) else UNKNOWN for part in popped))]
            case "EXT1" | "EXT2" | "EXT4":
                return [self._import(UNKNOWN)]
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX" | "OBJ":
                return [self._call(popped[0], popped[1:])]
            case "BUILD" | "ADDITEMS":
                return popped[:1]
        if kind in _FILLS:
            if isinstance(popped[0], _Imported):
                self.containers[popped[0].name] = _FILLS[kind]
            return popped[:1]
        if kind in _TEXTS:
            return [str(argument)]
        return [tuple(popped)] if kind in _TUPLES else [None] * count

    def _import(self, name: str) -> _Imported:
        name = UNKNOWN if UNKNOWN in name else _today(name) if self.protocol < 3 else name
        self.names.add(name)
        return _Imported(name)

    def _call(self, function: object, arguments: list[object]) -> object:
        """Return what a call leaves on the stack: an object of an imported class, or an attribute of one."""
        if not isinstance(function, _Imported):
            return None
        given = arguments[0] if arguments and isinstance(arguments[0], tuple) else ()
        first, second = (*given, None, None)[:2]
        if function.name == "builtins.getattr":
            follows = isinstance(first, _Imported) and not first.is_called and isinstance(second, str)
            return self._import(f"{first.name}.{second}" if follows and len(given) == 2 else UNKNOWN)
        # torch lets files call these two with whatever they like; pickles of bytes call them in one way.
        if function.name == "_codecs.encode" and not (isinstance(first, str) and second == "latin1"):
            self.names.add("_codecs.encode(…)")
        if function.name == "builtins.bytearray" and given and first is None:
            self.names.add("builtins.bytearray(…)")
        return _Imported(function.name, is_called=True)
