"""`darts cube`: what it says about a cube, its exit codes, and what a repair leaves behind."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import shape

from darts.cli import run_command
from darts_acquisition import Chunk, CubeProduct, Datacube, Window, tcvis_product
from support.arcticdem import small_product
from support.commands import logging_restored
from support.foreign_cubes import write_smart_geocube
from support.lanes import mostly_slow


@pytest.fixture
def darts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path):
    """Run `darts cube …` in an empty folder; return code, output and error output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["darts", "cube", *arguments])
        with logging_restored(), pytest.raises(SystemExit) as ended:
            run_command()
        output = capsys.readouterr()
        return (0 if ended.value.code is None else int(ended.value.code)), output.out, output.err

    return run


def values_for(window: Window, product: CubeProduct) -> dict[str, np.ndarray]:
    random = np.random.default_rng(window.cols.start)
    return {
        each.name: random.integers(1, 2 if each.name.endswith("_mask") else 100, window.shape).astype(each.dtype)
        for each in product.variables
    }


@pytest.fixture
def cube(tmp_path: Path) -> Datacube:
    """A cube of 35 chunks: three filled in a row, the last one at the corner, two empty."""
    cube = Datacube.create(tmp_path / "cube", small_product())
    for window in (Window.of(0, 64, 0, 192), Window.of(256, 300, 384, 400)):
        cube.write(window, values_for(window, cube.product))
    cube.mark_empty([Chunk(2, 2), Chunk(3, 3)])
    return cube


def damage(cube: Datacube) -> None:
    """Remove the largest of the cube's files that hold data."""
    max((Path(cube.path) / "chunks").iterdir(), key=lambda file: file.stat().st_size).unlink()


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A cube of the first DARTS under its own name, in which everything is 0 but for one chunk."""
    product = tcvis_product("2001-2020")
    grid = product.geobox[Window.of(3600, 7200, 7200, 10800)]
    content = {each.name: np.full(grid.shape, 9, "uint8") for each in product.variables}
    (tmp_path / "aux").mkdir()
    return write_smart_geocube(tmp_path / "aux" / "TCTrend2020.icechunk", grid, content, ["0-0"], title="TCTrend2020")


def test_import_writes_beside_the_original_and_info_names_the_command(darts, original: Path) -> None:
    for command in ("info", "verify"):
        code, _, error = darts(command, str(original))
        assert code == 2
        assert f"darts cube import {original}" in error.replace("\n", "")
    code, _, error = darts("import", str(original), "--product", "tcvis-2000-2019")
    assert code == 2
    code, output, _ = darts("import", str(original))
    assert code == 0
    place = original.with_name("tctrend2020.darts.icechunk")
    assert output.startswith(
        f"1 chunks of users/ingmarnitze/TCTrend_SR_2001-2020_TCVIS are in {place} now, 0 hold nothing"
    )
    assert list(Datacube.open(place).known()) == [Chunk(1, 2)]
    code, output, _ = darts("import", str(original), "--to", str(place))
    assert (code, output[:8]) == (0, "0 chunks")


def test_info_shows_extent_size_and_area(darts, cube: Datacube) -> None:
    code, output, _ = darts("info", str(cube.path))
    assert code == 0
    assert "arcticdem v4.1, arcticdem-mosaics-v4.1-32m" in output
    assert "400 × 300 pixels of 32 in EPSG:3413" in output
    assert "4 filled, 2 empty at the provider, 29 missing; 64 × 64 pixels each" in output
    stored = sum(file.stat().st_size for file in Path(cube.path).rglob("*") if file.is_file())
    assert f"{stored / 1e6:.1f} MB" in output
    feature = json.loads(output.splitlines()[-1])
    assert feature["properties"] == {"collection": cube.product.collection, "version": "v4.1", "chunks": 4}
    to_metres = Transformer.from_crs(4326, 3413, always_xy=True)
    found = shapely.transform(shape(feature["geometry"]), lambda at: np.column_stack(to_metres.transform(*at.T)))
    pieces = [cube.geobox[0:64, 0:192], cube.geobox[256:300, 384:400]]
    expected = shapely.union_all([shapely.box(*piece.boundingbox.bbox) for piece in pieces])
    assert found.symmetric_difference(expected).area < 1e-4 * expected.area


def test_info_writes_the_area_into_a_file(darts, cube: Datacube, tmp_path: Path) -> None:
    code, output, _ = darts("info", str(cube.path), "--geojson", "area.geojson")
    assert code == 0
    assert "Wrote area.geojson." in output
    assert "Feature" not in output
    assert json.loads((tmp_path / "area.geojson").read_text("utf-8"))["type"] == "Feature"
    code, _, error = darts("info", str(cube.path), "--geojson", "absent/area.geojson")
    assert code == 2
    assert "correct --geojson" in error


def test_info_of_an_empty_cube(darts, tmp_path: Path) -> None:
    Datacube.create(tmp_path / "empty", small_product())
    code, output, _ = darts("info", "empty")
    assert code == 0
    assert "0 filled, 0 empty at the provider, 35 missing" in output
    assert json.loads(output.splitlines()[-1])["geometry"] is None


def test_a_sound_cube_is_code_0(darts, cube: Datacube) -> None:
    code, output, _ = darts("verify", str(cube.path))
    assert (code, output) == (0, "4 chunks read, 0 damaged.\n")


WAYS = ["gone", "changed", "cut off", "emptied"]


@pytest.mark.parametrize("how", mostly_slow(WAYS, WAYS[:2].__contains__))
def test_a_damaged_cube_is_code_1_and_can_be_repaired(darts, cube: Datacube, how: str) -> None:
    file = max((Path(cube.path) / "chunks").iterdir(), key=lambda each: each.stat().st_size)
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        size = {"changed": len(content), "cut off": len(content) // 2, "emptied": 0}[how]
        file.write_bytes(content[:size])
    code, output, _ = darts("verify", str(cube.path))
    assert code == 1
    assert "row 0, column " in output
    assert "4 chunks read, 1 damaged." in output
    assert darts("verify", str(cube.path))[0] == 1  # looking changes nothing
    code, output, _ = darts("verify", str(cube.path), "--repair")
    assert code == 1
    assert "They count as missing now" in output
    assert darts("verify", str(cube.path))[:2] == (0, "3 chunks read, 0 damaged.\n")
    again = Datacube.open(cube.path)
    (lost,) = again.missing(Window.of(0, 64, 0, 192))
    window = again.window(again.chunk_geobox(lost))
    values = values_for(window, again.product)
    assert again.complete({lost: values}) == [lost]
    assert darts("verify", str(cube.path))[:2] == (0, "4 chunks read, 0 damaged.\n")
    np.testing.assert_array_equal(again.read(window).dem, values["dem"])


def test_a_damaged_chunk_at_the_edge_can_be_fetched_again(darts, tmp_path: Path) -> None:
    """A chunk that the grid cuts off is written whole as well, not merged with what cannot be read."""
    cube = Datacube.create(tmp_path / "cube", small_product())
    window, last = Window.of(256, 300, 384, 400), Chunk(4, 6)
    values = values_for(window, cube.product)
    cube.write(window, values)
    damage(cube)
    assert darts("verify", "cube", "--repair")[0] == 1
    assert cube.complete({last: values}) == [last]
    assert darts("verify", "cube")[0] == 0
    np.testing.assert_array_equal(cube.read(window).dem, values["dem"])


def test_lost_lists_of_chunks_are_code_1_and_cannot_be_repaired(darts, cube: Datacube) -> None:
    for file in (Path(cube.path) / "manifests").iterdir():
        file.write_bytes(file.read_bytes()[:-10])
    for arguments in (("verify", str(cube.path)), ("verify", str(cube.path), "--repair")):
        code, output, _ = darts(*arguments)
        assert code == 1
        assert "put a copy in its place, or delete the cube" in output


@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_is_no_cube_is_wrong_usage(darts, tmp_path: Path, command: str) -> None:
    (tmp_path / "folder").mkdir()
    for path, message in (
        ("absent", "There is no datacube at"),
        ("folder", "is no datacube"),
        ("ftp://server/cube", "expected a folder, or s3://bucket/prefix"),
    ):
        code, _, error = darts(command, path)
        assert code == 2
        assert message in error
        assert len(error.splitlines()) == 1
