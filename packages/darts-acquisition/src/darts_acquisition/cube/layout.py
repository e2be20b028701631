"""How a datacube lies in its Icechunk repository: an array per variable, two for what is known of the chunks."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.cube.grid import chunk_block, full_window
from darts_acquisition.cube.product import CubeProduct, CubeVariable

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
    import zarr

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
        shape=chunk_block(full_window(product.geobox), product.chunk_px).shape,
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


def _codecs(variable: CubeVariable) -> list[Any]:
    """Return Zstandard and a checksum, which costs 3 % of the time to read and finds what a storage has damaged.

    Of floats the bytes are shuffled first, which makes a DEM smaller by 40 % and twice as fast to read. Level 4 is
    smaller and faster to read than 3, and as small as 5 in three quarters of the time to write (docs/performance.md).
    """
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    if np.dtype(variable.dtype).kind == "f":
        return [BloscCodec(cname="zstd", clevel=4, shuffle="shuffle"), Crc32cCodec()]
    return [ZstdCodec(level=3), Crc32cCodec()]
