"""Check a file against a multihash, the form in which STAC items give checksums (multiformats.io/multihash)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darts_acquisition.errors import SceneError

_ALGORITHMS = {
    0x11: "sha1",
    0x12: "sha256",
    0x13: "sha512",
    0x14: "sha3_512",
    0x15: "sha3_384",
    0x16: "sha3_256",
    0x17: "sha3_224",
    0x20: "sha384",
    0xD5: "md5",
}
"""Codes of the table of multicodec."""


@dataclass(frozen=True)
class Multihash:
    """A checksum that says how it was computed.

    Attributes:
        algorithm: Name as in hashlib.
        digest: The checksum.
    """

    algorithm: str
    digest: bytes

    @classmethod
    def parse(cls, text: str, name: str) -> "Multihash":
        """Read a multihash.

        Args:
            text: Hexadecimal: the algorithm's code and the length, each as a varint, and the digest.
            name: Whose it is, for the message.

        Raises:
            SceneError: If it is none, or of an algorithm that is not known here.
        """
        try:
            content = bytes.fromhex(text)
            code, rest = _varint(content)
            length, digest = _varint(rest)
        except (ValueError, TypeError, IndexError):
            raise SceneError(f"{name}: file:checksum is {text!r}; expected a multihash in hexadecimal.") from None
        algorithm = _ALGORITHMS.get(code)
        if (
            algorithm is None
            or length != len(digest)
            or length != hashlib.new(algorithm, usedforsecurity=False).digest_size
        ):
            raise SceneError(
                f"{name}: file:checksum is {text!r}, of algorithm 0x{code:x}, which cannot be verified; known are "
                f"{', '.join(_ALGORITHMS.values())}."
            )
        return cls(algorithm, digest)

    def fits(self, file: Path) -> bool:
        """Say whether a file has this checksum."""
        with file.open("rb") as stream:
            hashed: Any = hashlib.file_digest(stream, lambda: hashlib.new(self.algorithm, usedforsecurity=False))
        return bool(hashed.digest() == self.digest)


def _varint(content: bytes) -> tuple[int, bytes]:
    """Read an unsigned varint: seven bits per byte, the lowest first; return it and what follows."""
    value = 0
    for index in range(9):
        value |= (content[index] & 0x7F) << (7 * index)
        if content[index] < 0x80:
            return value, content[index + 1 :]
    raise ValueError("too long")
