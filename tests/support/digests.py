"""What tests of digests share: content, its digest by hashlib, and cubes of a release without digests."""

import hashlib

import numpy as np
import zarr

from darts_acquisition import Chunk, Datacube, Window
from darts_acquisition.cube.layout import DIGEST
from darts_acquisition.cube.repository import BRANCH
from support.datacube import arrays_for

FIRST, SECOND, CORNER = Chunk(0, 0), Chunk(0, 1), Chunk(4, 5)


def window_of(chunk):
    """The pixels of a chunk; the last ones of the grid are cut off."""
    return Window.of(16 * chunk[0], min(16 * chunk[0] + 16, 70), 16 * chunk[1], min(16 * chunk[1] + 16, 90))


def oracle(arrays):
    """The digest of a chunk, written down once more."""
    height, kind = arrays["height"].copy(), arrays["kind"]
    rows, cols = height.shape
    bits = height.view("uint32")
    bits[np.isnan(height)] = 0x7FC00000
    content = b'["height", "<f4", [%d, %d]]\n' % (rows, cols) + bits.astype("<u4").tobytes()
    content += b'["kind", "|u1", [%d, %d]]\n' % (rows, cols) + kind.tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


def filled(cube, chunks, seed=0):
    """Fill chunks of a cube; return what they hold."""
    contents = {chunk: arrays_for(window_of(chunk), seed + index) for index, chunk in enumerate(chunks)}
    cube.complete(contents)
    return contents


def make_legacy(cube):
    """Make a cube look as if it had been written before there were digests."""
    session = cube._repository.writable_session(BRANCH)
    group = zarr.open_group(session.store, mode="r+")
    assert DIGEST in group
    del group[DIGEST]
    session.commit("Forget that there are digests")
    return Datacube.open(cube.path)


def write_without_digest(cube, window, arrays):
    """Write data as a release without digests does."""
    session = cube._repository.writable_session(BRANCH)
    group = zarr.open_group(session.store, mode="r+")
    for name, values in arrays.items():
        group[name][window] = values
    session.commit("Write")


def only_the_mask(arrays):
    arrays["kind"][15, 15] ^= 1
