"""A cube that smart-geocubes itself has made, in an environment of its own (it needs odc-geo below 0.5)."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from darts_acquisition import Chunk, Datacube, import_cube

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has smart-geocubes."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("smart-geocubes is installed by uv, which is not there")
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    for command in (
        ["venv", "-q", "--clear", "--python", sys.executable, folder],
        ["pip", "install", "-q", "--python", python, "smart-geocubes", "dask[array]"],
    ):
        done = subprocess.run([uv, *command], capture_output=True, text=True, timeout=500)
        if done.returncode:
            pytest.skip(f"smart-geocubes cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    if sys.version_info < (3, 12):  # It says that it runs there, but for one statement that Python 3.12 brought.
        for file in folder.rglob("smart_geocubes/core/toi.py"):
            lines = file.read_text().splitlines()
            file.write_text("\n".join("TOI = object" if line.startswith("type TOI") else line for line in lines) + "\n")
    return python


def test_import_of_a_real_cube_is_equal_and_a_patch_that_broke_off_is_missing(python: Path, tmp_path: Path) -> None:
    old = tmp_path / "arcticdem_32m.icechunk"
    script = Path(__file__).parents[1] / "support" / "fill_smart_geocube.py"
    done = subprocess.run([python, script, old], capture_output=True, text=True, timeout=900)
    assert done.returncode == 7, done.stderr
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    report = import_cube(old, tmp_path / "new")
    assert (report.filled, report.empty, report.damaged) == (1, 0, {})
    assert report.incomplete == 8
    cube = Datacube.open(tmp_path / "new")
    assert list(cube.known()) == [Chunk(7, 7)]
    geobox = cube.chunk_geobox(Chunk(7, 7))
    y, x = (coordinate.values for coordinate in geobox.coordinates.values())
    down, right = ((y - 16) / 32).astype(int)[:, None], ((x - 16) / 32).astype(int)[None, :]
    read = cube.read(geobox)
    np.testing.assert_array_equal(read["dem"], (down % 211 + (right % 307) / 512).astype("float32"))
    np.testing.assert_array_equal(read["arcticdem_data_mask"], (down % 5 + right % 3) > 0)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
