"""Read a part of a shard straight into an array, for the layout that `lay_out` writes.

Zarr copies each value three times, in one thread: loading a tile of PlanetScope with its auxiliary data would take 1.4
times as long, and a window of a warm cube 2.5 times. Other layouts are left to it.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.cube.grid import Chunk, Window, chunk_block, chunks_in

if TYPE_CHECKING:
    from zarr.abc.store import Store

_CHECKSUM_BYTES = 4
_NEVER_WRITTEN = 2**64 - 1


def find_decoder(array: Any, chunk_px: int) -> Any:
    """Return the codec of numcodecs that decompresses the Zarr chunks of a zarr array, None for one of another layout.

    Read are shards of `chunk_px` squared with their index at the end, in which each Zarr chunk, square and
    little-endian, is compressed by Blosc or Zstandard and ends, as the index does, with its CRC-32C.
    """
    from numcodecs import Blosc, Zstd

    if array.shards != (chunk_px, chunk_px) or array.chunks[0] != array.chunks[1]:
        return None
    codecs = [codec.to_dict() for codec in array.metadata.codecs]
    if [codec["name"] for codec in codecs] != ["sharding_indexed"]:
        return None
    sharding = codecs[0]["configuration"]
    index, inner = ([each["name"] for each in sharding[name]] for name in ("index_codecs", "codecs"))
    is_little = all(
        codec.get("configuration", {}).get("endian", "little") == "little"
        for codec in (*sharding["index_codecs"], *sharding["codecs"])
    )
    known = {"blosc": Blosc, "zstd": Zstd}
    if index != ["bytes", "crc32c"] or inner[::2] != index or len(inner) != 3 or inner[1] not in known:
        return None
    return known[inner[1]]() if is_little and sharding["index_location"] == "end" else None


def read_shard(store: "Store", array: Any, decoder: Any, chunk: Chunk, part: Window, out: np.ndarray) -> None:
    """Read pixels of a shard: `part`, counted from its first row and column, into `out`, of the array's dtype.

    Raises:
        ValueError: If a checksum differs, or a part of the shard is absent.
        RuntimeError: If a Zarr chunk cannot be decompressed.
    """
    inner = array.chunks[0]
    block = chunk_block(part, inner)
    places = chunks_in(block)
    key = f"{array.path}/c/{chunk.row}/{chunk.col}"
    contents = asyncio.run(_fetch(store, key, array.shards[0] // inner, places))
    dtype = np.dtype(array.dtype).newbyteorder("<")
    for (row, col), content in zip(places, contents, strict=True):
        pixels = Window.of(row * inner, (row + 1) * inner, col * inner, (col + 1) * inner)
        wanted = pixels.intersection(part)
        if wanted is None:
            continue
        values: Any = array.fill_value
        if content is not None:
            decoded = np.frombuffer(decoder.decode(checked(content)), dtype).reshape(inner, inner)
            values = decoded[wanted.relative_to(pixels)]
        out[wanted.relative_to(part)] = values


async def _fetch(store: "Store", key: str, per_edge: int, places: Sequence[Chunk]) -> "list[np.ndarray | None]":
    """Read the compressed bytes of Zarr chunks with their checksums; None for those that were never written."""
    from zarr.abc.store import RangeByteRequest, SuffixByteRequest
    from zarr.buffer import default_buffer_prototype

    async def get(part: Any) -> "np.ndarray | None":
        found = await store.get(key, default_buffer_prototype(), part)
        return None if found is None else np.frombuffer(found.as_numpy_array(), "uint8")

    end = await get(SuffixByteRequest(16 * per_edge**2 + _CHECKSUM_BYTES))
    if end is None:
        return [None] * len(places)
    index = np.frombuffer(checked(end), "<u8").reshape(per_edge, per_edge, 2)
    spans = {place: index[place].tolist() for place in places if index[place][0] != _NEVER_WRITTEN}
    if not spans:
        return [None] * len(places)
    first, last = min(start for start, _ in spans.values()), max(sum(span) for span in spans.values())
    found: dict[Chunk, np.ndarray | None]
    if 2 * sum(length for _, length in spans.values()) >= last - first:  # With one request, if most of it is wanted.
        whole = await get(RangeByteRequest(first, last))
        found = {} if whole is None else {at: whole[start - first :][:length] for at, (start, length) in spans.items()}
    else:
        ranges = [RangeByteRequest(start, start + length) for start, length in spans.values()]
        found = dict(zip(spans, await asyncio.gather(*map(get, ranges)), strict=True))
    if any(found.get(place) is None for place in spans):
        raise ValueError("the shard is gone")
    return [found.get(place) for place in places]


def checked(content: np.ndarray) -> np.ndarray:
    """Return bytes without the checksum at their end; ValueError if it is not theirs."""
    from google_crc32c import value

    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if value(body).to_bytes(4, "little") != checksum.tobytes():
        raise ValueError("a checksum differs")
    return body
