"""Digests where content is damaged, and where a writer is killed."""

import signal
import subprocess
import sys
import time

import pytest

from darts_acquisition import CubeDamagedError, Datacube, Window, verify_cube
from support.datacube import arrays_for
from support.digests import CORNER, FIRST, SECOND, filled, only_the_mask, oracle, window_of, write_without_digest

# Damage, and writers that die


def test_verify_finds_content_that_is_not_its_digests(cube):
    """Checksums of the pieces are right: somebody has written who knows nothing of digests."""
    contents = filled(cube, [FIRST, SECOND, CORNER])
    identity = cube.identities()[SECOND]
    changed = {name: values.copy() for name, values in contents[SECOND].items()}
    only_the_mask(changed)
    write_without_digest(cube, window_of(SECOND), changed)
    assert cube.identities()[SECOND] == identity
    found = verify_cube(cube.path)
    assert (found.checked, list(found.damaged)) == (3, [SECOND])
    assert "row 0, column 1 holds is not what its digest was taken of" in found.damaged[SECOND]
    assert verify_cube(cube.path, repair=True).damaged == found.damaged
    assert cube.identities([SECOND, FIRST]) == {SECOND: "missing", FIRST: oracle(contents[FIRST])}
    assert verify_cube(cube.path).damaged == {}
    assert cube.complete({SECOND: changed}) == [SECOND]
    assert cube.identities()[SECOND] == oracle(changed)


def test_a_part_of_a_chunk_that_is_damaged_elsewhere_cannot_be_written(cube):
    """There is nothing that a digest of it could be taken of."""
    window = window_of(FIRST)
    arrays = arrays_for(window)
    cube.write(window, arrays)
    before = cube.identities()
    part = Window.of(0, 4, 0, 4)
    refused = 0
    for file in sorted((cube.path / "chunks").iterdir()):
        intact = file.read_bytes()
        for place in range(0, len(intact) - 70, 40):
            content = bytearray(intact)
            content[place] ^= 0x10
            file.write_bytes(content)
            # Zarr itself refuses where it reads the damaged piece.
            with pytest.raises((CubeDamagedError, ValueError, RuntimeError)) as caught:
                cube.write(part, {name: values[part] for name, values in arrays.items()})
            refused += isinstance(caught.value, CubeDamagedError)
            assert cube.identities() == before
        file.write_bytes(intact)
    assert refused > 5
    assert verify_cube(cube.path).damaged == {}


WRITER = """
import sys
import numpy as np
from darts_acquisition import Datacube, Window


cube = Datacube.open(sys.argv[1])
for number in range(1, 2000):
    window = Window.of(number % 7, 20 + number % 9, number % 5, 24 + number % 11)
    values = np.full(window.shape, number)
    cube.write(window, {"height": values.astype("float32"), "kind": values.astype("uint8")}, complete=True)
    if number == 1:
        print("ready", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_writer_leaves_data_and_digests_together(cube):
    """It writes parts of the same chunks over and over, filled ones too."""
    for seconds in (0.11, 0.23):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(cube.path)], stdout=subprocess.PIPE, text=True)
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(seconds)
        finally:
            writer.kill()
            writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        for chunk, identity in Datacube.open(cube.path).identities().items():
            ds = cube.read(cube.product.chunk_window(chunk))
            assert identity == oracle({name: ds[name].values for name in ("height", "kind")})
    assert cube.known()
