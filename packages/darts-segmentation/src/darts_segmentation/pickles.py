"""Find out what a pickle would do, without doing it."""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from darts_segmentation.errors import BrokenModelError

MAX_PICKLE_BYTES = 16 * 2**20
"""Longest pickle that is looked at: the longest of real checkpoints have less than a tenth of it."""


@dataclass(frozen=True)
class PickleContent:
    """What a pickle asks for.

    Attributes:
        protocol: Version of the pickle protocol.
        names: Full names of the classes and functions that it would import, as Python 3 calls them.
        opcodes: Names of the instructions in it.
    """

    protocol: int
    names: frozenset[str]
    opcodes: frozenset[str]


def scan_pickle(content: bytes) -> PickleContent:
    """List what a pickle imports, by reading its instructions and following none.

    Args:
        content: The pickle.

    Returns:
        What it asks for. Names that it puts together in a way that cannot be followed stand as "?".

    Raises:
        BrokenModelError: If it is no pickle, ends early, or is longer than any real one.

    Examples:
        >>> import pickle, collections
        >>> sorted(scan_pickle(pickle.dumps(collections.Counter("aa"))).names)
        ['collections.Counter']
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise BrokenModelError(f"The pickle has {len(content)} bytes; expected at most {MAX_PICKLE_BYTES}.")
    protocol = 0
    names: set[str] = set()
    opcodes: set[str] = set()
    try:
        for name, argument in _imports_and_opcodes(content, opcodes):
            if name == "PROTO":
                protocol = int(argument)
            else:
                names.add(_today(argument) if protocol < 3 else argument)
    except (ValueError, IndexError, OverflowError, UnicodeError) as error:
        raise BrokenModelError(f"The pickle is damaged or ends early: {error}.") from error
    return PickleContent(protocol, frozenset(names), frozenset(opcodes))


def _today(name: str) -> str:
    """Return what Python 3 calls a name; readers of protocols before 3 translate those of Python 2."""
    module, _, attribute = name.rpartition(".")
    translated: tuple[str, str] = NAME_MAPPING.get((module, attribute), (IMPORT_MAPPING.get(module, module), attribute))
    return ".".join(translated) if module else name


_TEXTS = frozenset(
    {"BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_IMPORTS = frozenset({"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})


def _imports_and_opcodes(content: bytes, opcodes: set[str]) -> Iterator[tuple[str, str]]:
    """Yield ("PROTO", version) and ("import", full name); collect the names of all instructions in `opcodes`."""
    texts: list[str | None] = [None, None]  # the last two values pushed, as far as they are texts
    memo: dict[int, str | None] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        opcodes.add(opcode.name)
        if opcode.name == "PROTO":
            yield "PROTO", str(argument)
        elif opcode.name in ("GLOBAL", "INST"):
            yield "import", str(argument).replace(" ", ".", 1)
        elif opcode.name == "STACK_GLOBAL":
            yield "import", "?" if None in texts else f"{texts[0]}.{texts[1]}"
        elif opcode.name in _IMPORTS:
            yield "import", "?"
        if opcode.name in _TEXTS:
            texts = [texts[1], str(argument)]
        elif opcode.name in _PUTS:
            memo[len(memo) if argument is None else argument] = texts[1]
        elif opcode.name in _GETS:
            texts = [texts[1], memo.get(argument)]
        else:
            texts = [texts[1], None]
