"""Digests of what the chunks of a datacube hold: whether two are the same, without reading a pixel of either."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.cube.bookkeeping import ChunkState
from darts_acquisition.cube.grid import Chunk
from darts_acquisition.cube.layout import DIGEST, DIGEST_BYTES
from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.cube.reading import run_async
from darts_acquisition.cube.states import read_each, read_small

if TYPE_CHECKING:
    import icechunk

IDENTITIES = "chunk_identities"
"""Attribute of a Dataset that was read from a cube: the chunks it comes from and what they held, as JSON."""

_ROWS = 128
"""Rows that are brought to their canonical form at once: they stay in a processor's cache."""

_first_snapshots: dict[str, str] = {}
"""First snapshot of the cube that a snapshot belongs to, which never changes and takes a walk through its history."""
_MOST_SNAPSHOTS = 1024


def digest_of(arrays: Mapping[str, np.ndarray], product: CubeProduct) -> bytes:
    """Return the digest of a chunk: equal for equal content, whatever wrote it, and in every cube.

    The first 16 bytes of the SHA-256 over all variables in the product's order: of each, a line of JSON with its name,
    its dtype and its shape, then its values row by row, little-endian, all NaNs as numpy's.

    Args:
        arrays: For each variable of the product an array of the chunk's shape.
        product: What the cube holds.
    """
    content = hashlib.sha256()
    for variable in product.variables:
        values = arrays[variable.name]
        dtype = np.dtype(variable.dtype).newbyteorder("<")
        content.update(json.dumps([variable.name, dtype.str, list(values.shape)]).encode() + b"\n")
        for start in range(0, len(values), _ROWS):
            part = np.ascontiguousarray(values[start : start + _ROWS], dtype)
            if dtype.kind == "f":
                part = np.where(np.isnan(part), np.array(np.nan, dtype), part).astype(dtype, copy=False)
            content.update(part.data)
    return content.digest()[:DIGEST_BYTES]


def identities_of(
    repository: "icechunk.Repository", session: "icechunk.Session", chunks: Sequence[Chunk], states: np.ndarray
) -> dict[Chunk, str]:
    """Return what tells whether chunks still hold the same, see `Datacube.identities`.

    Args:
        repository: The repository.
        session: The state to look at.
        chunks: The chunks.
        states: Their states in that session, 1-D uint8.
    """
    known = dict(zip(chunks, np.asarray(states).tolist(), strict=True))
    filled = [chunk for chunk, state in known.items() if state == ChunkState.FILLED]
    cube_id, digests = run_async(lambda: _read(session, filled)) if filled else ("", {})
    if len(digests) < len(filled):
        cube_id = cube_id or first_snapshot(repository, session.snapshot_id)
    names = {state.value: state.name.lower() for state in ChunkState} | {ChunkState.FILLED: f"legacy:{cube_id}"}
    return {chunk: digests[chunk].hex() if chunk in digests else names[state] for chunk, state in known.items()}


def to_attribute(identities: Mapping[Chunk, str]) -> str:
    """Write identities as JSON: ``{"row,column": identity}``, row by row."""
    return json.dumps({f"{chunk.row},{chunk.col}": identities[chunk] for chunk in sorted(identities)})


def from_attribute(text: str) -> dict[Chunk, str]:
    """Read what `to_attribute` wrote."""
    return {Chunk(*map(int, place.split(","))): identity for place, identity in json.loads(text).items()}


def first_snapshot(repository: "icechunk.Repository", snapshot: str) -> str:
    """Return the snapshot that a cube began with: copies of a cube share it, and no two cubes do.

    Costs about 0.1 ms per commit on a disk the first time that a process asks.

    Args:
        repository: The repository.
        snapshot: Where to begin, any of its snapshots.
    """
    passed: list[str] = []
    for each in repository.ancestry(snapshot_id=snapshot):
        if each.id in _first_snapshots:
            found = _first_snapshots[each.id]
            break
        passed.append(each.id)
    else:
        found = passed[max(0, len(passed) - 2)]  # The last one is the root, which all repositories share.
    if len(_first_snapshots) >= _MOST_SNAPSHOTS:
        _first_snapshots.clear()
    _first_snapshots[snapshot] = found
    return found


def digest_key(chunk: Chunk) -> str:
    """Return the name that the store has for the digest of a chunk."""
    return f"{DIGEST}/c/{chunk.row}/{chunk.col}/0"


async def _read(session: "icechunk.Session", chunks: Sequence[Chunk]) -> tuple[str, dict[Chunk, bytes]]:
    """Return the id of a cube, and the digests that it has of some chunks; "" and none for one without digests."""
    (about,) = await read_each(session.store, [f"{DIGEST}/zarr.json"])
    if about is None:
        return "", {}
    stored = await read_small(session, DIGEST, [(*chunk, 0) for chunk in chunks])
    digests = {Chunk(row, col): content for (row, col, _), content in stored.items()}
    return json.loads(about)["attributes"]["cube_id"], digests
