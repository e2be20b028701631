"""Divide the tiles of a run among several processes that need not know of one another: its shards."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

_EXPECTED = "expected i/n with i from 0 to n-1, such as 0/4"
_KEY = "shard"


def shard_of(tile_id: str, of: int) -> int:
    """Return the number of the shard that a tile belongs to: SHA-256 of its name, modulo the number of shards.

    It depends on nothing else, so that a tile that comes or goes moves no other.

    Examples:
        >>> [shard_of(name, 4) for name in ("a", "b", "c")]
        [3, 1, 2]
    """
    return int.from_bytes(hashlib.sha256(_bytes(tile_id)).digest(), "big") % of


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several shards of a run.

    Attributes:
        number: Which one, from 0 on.
        of: How many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``i/n``.

        Raises:
            ValueError: If it is something else, or i is not from 0 to n-1.
        """
        match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        if match is None or int(match[1]) >= int(match[2]):
            raise ValueError(_EXPECTED)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def suffix(self) -> str:
        """What the names of its runs end with."""
        return f"-s{self.number}of{self.of}"

    @property
    def lock_file(self) -> str:
        """Name of the file in the folder of results that it locks."""
        return f".darts-run.s{self.number}of{self.of}.lock"

    @property
    def owner_file(self) -> str:
        """Name of the file that stands in for the lock where the file system has none."""
        return f".darts-run.s{self.number}of{self.of}.owner"

    def holds(self, tile_id: str) -> bool:
        """Say whether a tile belongs to it."""
        return shard_of(tile_id, self.of) == self.number


@dataclass(frozen=True, slots=True)
class ShardMetadata:
    """What a shard's run knew of all shards when it began; stands in the header of its journal.

    Attributes:
        shard: The shard.
        digest: Digest of the configuration, which shards of one run have in common.
        tiles: How many tiles each shard had.
        lists: Digest of the names of each shard's tiles.
        listed: When the tiles were listed, UTC in ISO 8601.
    """

    shard: Shard
    digest: str
    tiles: tuple[int, ...]
    lists: tuple[str, ...]
    listed: str

    @classmethod
    def of_tiles(cls, shard: Shard, digest: str, tile_ids: Iterable[str], listed: str) -> "ShardMetadata":
        """Describe the shards of a list of tiles.

        Args:
            shard: The shard that is about to run.
            digest: Digest of the configuration.
            tile_ids: Names of the tiles of all shards.
            listed: When they were listed, UTC in ISO 8601.
        """
        names: list[list[str]] = [[] for _ in range(shard.of)]
        for tile_id in tile_ids:
            names[shard_of(tile_id, shard.of)].append(tile_id)
        return cls(shard, digest, tuple(map(len, names)), tuple(map(_digest, names)), listed)

    @classmethod
    def of_header(cls, header: Mapping[str, object]) -> "ShardMetadata | None":
        """Read them from the header of a journal; None where it is not that of a shard, or is damaged."""
        found = header.get(_KEY)
        try:
            shard = Shard.parse(f"{found['number']}/{found['of']}")  # type: ignore[index]
            tiles, lists = tuple(map(int, found["tiles"])), tuple(map(str, found["lists"]))  # type: ignore[index]
            digest, listed = str(found["digest"]), str(found["listed"])  # type: ignore[index]
        except (TypeError, LookupError, ValueError):
            return None
        return cls(shard, digest, tiles, lists, listed) if len(tiles) == len(lists) == shard.of else None

    @property
    def division(self) -> tuple[str, int]:
        """What the shards of one run have in common: digest of the configuration, and how many there are."""
        return self.digest, self.shard.of

    def differs_from(self, later: "ShardMetadata") -> bool:
        """Say whether another list of the tiles of all shards has other ones for this shard."""
        return self.lists[self.shard.number] != later.lists[self.shard.number]

    def to_header(self) -> dict[str, object]:
        """Return what the header of the journal says of them."""
        about = {"number": self.shard.number, "of": self.shard.of, "digest": self.digest, "listed": self.listed}
        return {_KEY: about | {"tiles": list(self.tiles), "lists": list(self.lists)}}


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ranges.

    Examples:
        >>> ranges([7, 1, 2, 3, 9, 10])
        '1-3, 7, 9, 10'
    """
    apart = groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])  # The same within a range.
    parts = [[number for _, number in pairs] for _, pairs in apart]
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256(b"\0".join(sorted(map(_bytes, names)))).hexdigest()[:16]


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
