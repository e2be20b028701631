"""How a datacube lies in its Icechunk repository: an array per variable, two for what is known of the chunks."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from google_crc32c import value as crc32c
from numcodecs import Blosc, Zstd
from numcodecs.abc import Codec
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from darts_acquisition.cube.product import Chunk, CubeProduct, CubeVariable, Window

if TYPE_CHECKING:
    import icechunk

STATE = "state"
"""Name of the array that holds a `ChunkState` per chunk. Each is a chunk of its own, so that writers of different
chunks never touch the same object; Icechunk keeps such small ones in its manifest, they cost no file."""
DIGEST = "chunk_digest"
"""Name of the array that holds a digest per filled chunk, each likewise a chunk of its own. A cube of a release without
digests gets it when it is first written."""
DIGEST_BYTES = 16
"""Enough to tell all chunks of all cubes apart; every commit writes the digests of a whole cube once more."""
_ROWS = 128
"""Rows that are brought to their canonical form at once: they stay in a processor's cache."""


class ChunkState(IntEnum):
    """What a datacube knows about a chunk."""

    MISSING = 0
    FILLED = 1
    EMPTY = 2


def lay_out(session: "icechunk.Session", product: CubeProduct) -> None:
    """Write the metadata of a cube in which every chunk is missing."""
    group = zarr.create_group(store=session.store, attributes=product.to_attrs())
    for variable in product.variables:
        group.create_array(
            variable.name,
            shape=tuple(product.geobox.shape),
            dtype=variable.dtype,
            shards=(product.chunk_px, product.chunk_px),
            chunks=(product.inner_px, product.inner_px),
            fill_value=variable.nodata,
            compressors=_codecs(variable),
            dimension_names=("y", "x"),
            attributes={**variable.attrs},
        )
    group.create_array(
        STATE,
        shape=product.window.in_chunks(product.chunk_px).shape,
        dtype="uint8",
        chunks=(1, 1),
        fill_value=int(ChunkState.MISSING),
        compressors=None,
        dimension_names=("chunk_y", "chunk_x"),
        attributes={"long_name": "what is known of a chunk (0 missing, 1 filled, 2 empty at the provider)"},
    )
    add_digests(group, uuid.uuid4().hex)


def add_digests(group: Any, cube_id: str) -> None:
    """Create the array of digests in a cube that has none; no chunk has a digest then.

    No other cube has this id, which is the identity of what was written before there were digests.
    """
    group.create_array(
        DIGEST,
        shape=(*group[STATE].shape, DIGEST_BYTES),
        dtype="uint8",
        chunks=(1, 1, DIGEST_BYTES),
        fill_value=0,
        compressors=None,
        dimension_names=("chunk_y", "chunk_x", "byte"),
        attributes={"long_name": "SHA-256 of the content of a filled chunk, its first bytes", "cube_id": cube_id},
    )


def digest_of(arrays: Mapping[str, np.ndarray], product: CubeProduct) -> bytes:
    """Return the digest of a chunk: equal for equal content, whatever wrote it, and in every cube.

    The first 16 bytes of the SHA-256 over all variables in the product's order: of each, a line of JSON with its name,
    its dtype and its shape, then its values row by row, little-endian, all NaNs as numpy's.
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


def _codecs(variable: CubeVariable) -> list[BytesBytesCodec]:
    """Return Zstandard and a checksum, which costs 3 % of the time to read and finds what a storage has damaged.

    Of floats the bytes are shuffled first, which makes a DEM smaller by 40 % and twice as fast to read. Level 4 is
    smaller and faster to read than 3, and as small as 5 in three quarters of the time to write (docs/performance.md).
    """
    if np.dtype(variable.dtype).kind == "f":
        return [BloscCodec(cname="zstd", clevel=4, shuffle="shuffle"), Crc32cCodec()]
    return [ZstdCodec(level=3), Crc32cCodec()]


_CHECKSUM_BYTES = 4
_NEVER_WRITTEN = 2**64 - 1


def find_decoder(array: Any, chunk_px: int) -> Codec | None:
    """Return the codec of numcodecs that decompresses the Zarr chunks of a zarr array, None for one of another layout.

    Read are shards of `chunk_px` squared with their index at the end, in which each Zarr chunk, square and
    little-endian, is compressed by Blosc or Zstandard and ends, as the index does, with its CRC-32C.
    """
    if array.shards != (chunk_px, chunk_px) or array.chunks[0] != array.chunks[1]:
        return None
    sharding = array.metadata.codecs[0].to_dict()["configuration"]
    index, inner = (codec_names(sharding[name]) for name in ("index_codecs", "codecs"))
    known = {"blosc": Blosc, "zstd": Zstd}
    if index != ["bytes", "crc32c"] or inner[::2] != index or len(inner) != 3 or inner[1] not in known:
        return None
    return known[inner[1]]() if sharding["index_location"] == "end" else None


def codec_names(codecs: Iterable[Any]) -> list[str]:
    """Name codecs of zarr, given as they are or as JSON; one that writes big-endian numbers is "big"."""
    described = [codec if isinstance(codec, dict) else codec.to_dict() for codec in codecs]
    return ["big" if each.get("configuration", {}).get("endian") == "big" else each["name"] for each in described]


def read_shard(store: Store, array: Any, decoder: Codec, chunk: Chunk, part: Window, out: np.ndarray) -> None:
    """Read pixels of a shard: `part`, counted from its first row and column, into `out`, of the array's dtype.

    ValueError if a checksum differs, or a part of the shard is absent; RuntimeError if a Zarr chunk cannot be
    decompressed.
    """
    inner = array.chunks[0]
    chunks = part.in_chunks(inner).chunks()
    key = f"{array.path}/c/{chunk.row}/{chunk.col}"
    contents = asyncio.run(_fetch(store, key, array.shards[0] // inner, chunks))
    dtype = np.dtype(array.dtype).newbyteorder("<")
    for (row, col), content in zip(chunks, contents, strict=True):
        pixels = Window.of(row * inner, (row + 1) * inner, col * inner, (col + 1) * inner)
        wanted = pixels.intersection(part)
        if wanted is None:
            continue
        values: object = array.fill_value
        if content is not None:
            decoded = np.frombuffer(decoder.decode(checked(content)), dtype).reshape(inner, inner)
            values = decoded[wanted.relative_to(pixels)]
        out[wanted.relative_to(part)] = values


async def _fetch(store: Store, key: str, per_edge: int, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
    """Read the compressed bytes of Zarr chunks with their checksums; None for those that were never written."""

    async def get(part: ByteRequest) -> np.ndarray | None:
        found = await store.get(key, default_buffer_prototype(), part)
        return None if found is None else np.frombuffer(found.as_numpy_array(), "uint8")

    end = await get(SuffixByteRequest(16 * per_edge**2 + _CHECKSUM_BYTES))
    if end is None:
        return [None] * len(chunks)
    index = np.frombuffer(checked(end), "<u8").reshape(per_edge, per_edge, 2)
    spans = {chunk: index[chunk].tolist() for chunk in chunks if index[chunk][0] != _NEVER_WRITTEN}
    if not spans:
        return [None] * len(chunks)
    first, last = min(start for start, _ in spans.values()), max(sum(span) for span in spans.values())
    found: dict[Chunk, np.ndarray | None]
    if 2 * sum(length for _, length in spans.values()) >= last - first:  # With one request, if most of it is wanted.
        whole = await get(RangeByteRequest(first, last))
        found = {} if whole is None else {at: whole[start - first :][:length] for at, (start, length) in spans.items()}
    else:
        ranges = [RangeByteRequest(start, start + length) for start, length in spans.values()]
        found = dict(zip(spans, await asyncio.gather(*map(get, ranges)), strict=True))
    if any(found.get(chunk) is None for chunk in spans):
        raise ValueError("the shard is gone")
    return [found.get(chunk) for chunk in chunks]


def checked(content: np.ndarray) -> np.ndarray:
    """Return bytes without the checksum at their end; ValueError if it is not theirs."""
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if crc32c(body).to_bytes(4, "little") != checksum.tobytes():
        raise ValueError("a checksum differs")
    return body
