"""Importing what other programs filled: pixels are equal, only what is provably complete counts, nothing is lost."""

import asyncio
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import icechunk
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import Blosc
from odc.geo.geobox import GeoBox
from zarr.buffer import default_buffer_prototype
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec

from darts_acquisition import (
    Chunk,
    ChunkState,
    CubeError,
    CubeNotFoundError,
    Datacube,
    ForeignCubeError,
    Window,
    arcticdem_product,
    import_cube,
    inspect_origin,
    tcvis_product,
)
from darts_acquisition.auxiliary.arcticdem import tile_window
from darts_acquisition.imports import importing, smart_geocubes
from darts_acquisition.imports.importing import coverage_of
from darts_acquisition.imports.smart_geocubes import SmartGeocube
from darts_utils import ParameterError
from support.arcticdem import small_product
from support.foreign_cubes import random_content, write_smart_geocube, write_tile
from support.lanes import mostly_slow

GRID = 10
"""Edge of a chunk of the small cubes of smart-geocubes, in pixels."""


def small_trends(chunk_px: int = 16):
    """A piece of TCVIS in small chunks; the grid of its origin is larger, and its chunks lie askew to these."""
    product = tcvis_product()
    affine = product.geobox.affine * Affine.translation(100_000, 50_000)
    geobox = GeoBox((64, 96), affine, "EPSG:4326")
    return replace(product, geobox=geobox, chunk_px=chunk_px, inner_px=chunk_px // 2)


def digest(folder: Path) -> dict[str, tuple[int, str]]:
    """Describe every file of a folder by time and content, and its folders."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        if path.is_file()
        else (path.stat().st_mtime_ns, "")
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch):
    """Let titles name small products."""

    def make(**products):
        for where in (smart_geocubes, importing):
            monkeypatch.setattr(where, "product_named", lambda name: products[name.replace("-", "_")])

    return make


@pytest.mark.slow
@pytest.mark.parametrize("top", [pytest.param(0, marks=pytest.mark.slow), 7])
def test_import_of_loaded_chunks_is_equal_and_all_others_are_missing(tmp_path: Path, known, top: int) -> None:
    product = small_trends()
    known(tcvis_2000_2019=product)
    outer = GeoBox((90, 130), product.geobox.affine * Affine.translation(-5, -top), "EPSG:4326")
    content = random_content(product, outer.shape)
    loaded = [f"{row}-{col}" for row in range(9) for col in range(13) if (row, col) not in {(3, 3), (6, 9)}]
    old = write_smart_geocube(tmp_path / "old", outer, content, loaded, title="TCTrend2019", chunk_px=GRID)
    before = digest(old)
    report = import_cube(old, tmp_path / "new")
    cube = Datacube.open(tmp_path / "new")
    there = np.zeros(outer.shape, bool)
    for patch in loaded:
        row, col = (int(number) * GRID for number in patch.split("-"))
        there[row : row + GRID, col : col + GRID] = True
    states = cube.states(Window.of(0, 64, 0, 96))
    for (row, col), state in np.ndenumerate(states):
        rows = slice(row * 16 + top, row * 16 + 16 + top)
        cols = slice(col * 16 + 5, col * 16 + 21)
        assert (state == ChunkState.FILLED) == there[rows, cols].all()
        if state:
            read = cube.read(cube.chunk_geobox(Chunk(row, col)))
            for name, values in content.items():
                np.testing.assert_array_equal(read[name], values[rows, cols])
    assert (report.filled, report.incomplete) == ((states == 1).sum(), (states == 0).sum())
    assert digest(old) == before


CODECS = {
    "Blosc": None,
    "Zstandard": {"compressors": [ZstdCodec()]},
    "plain": {"compressors": None},
    "big-endian": {"serializer": BytesCodec(endian="big"), "compressors": [BloscCodec()]},
}


@pytest.mark.parametrize(
    ("codecs", "chunk_px"),
    mostly_slow(
        [("Blosc", 50), ("Blosc", 70), ("Zstandard", 70), ("plain", 70), ("big-endian", 70)],
        ("Blosc", 70).__eq__,
    ),
)
def test_import_of_arcticdem_takes_the_tiles_that_are_listed(tmp_path: Path, known, codecs, chunk_px) -> None:
    product = small_product(300, 400, chunk_px=64)
    known(arcticdem_32m=product)
    content = random_content(product, (300, 400))
    names = {name: tile_window(name, product) for name in ("42_17_32m_v4.1", "42_16_32m_v4.1", "43_17_32m_v4.1")}
    inside = {name: place for name, place in names.items() if place.intersection(Window.of(0, 300, 0, 400))}
    (name,) = inside
    old = write_smart_geocube(
        tmp_path / "old",
        product.geobox,
        content,
        [name, "no tile"],
        title="ArcticDEM32m",
        chunk_px=chunk_px,
        codecs=CODECS[codecs],
    )
    report = import_cube(old, tmp_path / "new", "arcticdem-32m")
    assert (report.filled, report.incomplete, report.damaged) == (35, 0, {})
    read = Datacube.open(tmp_path / "new").read(product.geobox)
    for variable, values in content.items():
        np.testing.assert_array_equal(read[variable], values)


def test_tiles_of_the_mosaic_are_where_their_names_say() -> None:
    """Item 14_52_2_1_2m_v4.1 holds a place at 64.168° N, 21.736° W, as the provider's catalogue says."""
    from pyproj import Transformer

    product = arcticdem_product(2)
    x, y = Transformer.from_crs(4326, 3413, always_xy=True).transform(-21.736, 64.168)
    row, col = (4_100_000 - y) / 2, (x + 4_000_000) / 2
    for name, holds in {"14_52_2_1": True, "14_52_1_1": False, "14_52_2_2": False, "52_14_2_1": False}.items():
        rows, cols = tile_window(f"{name}_2m_v4.1", product)
        assert (rows.start <= row < rows.stop and cols.start <= col < cols.stop) == holds
        assert (rows.stop - rows.start, cols.stop - cols.start) == (25_000, 25_000)
    assert tile_window("14_52_10m_v4.1", arcticdem_product(10)).shape == (10_000, 10_000)
    for name in ("14_52_2m_v4.1", "14_52_2_1_2m_v3.0", "14_52_3_1_2m_v4.1", "14_52_2_1_10m_v4.1"):
        assert tile_window(name, product) is None


def test_unmeasured_zeros_of_a_cube_that_begins_with_zeros_are_no_data(tmp_path: Path, known) -> None:
    product = small_product(64, 64)
    known(arcticdem_32m=product)
    content = {"dem": np.zeros((64, 64), "float32"), "arcticdem_data_mask": np.zeros((64, 64), "uint8")}
    content["dem"][:32] = 5
    content["arcticdem_data_mask"][:, :8] = 1
    old = {"title": "ArcticDEM32m", "chunk_px": 64, "loaded": ["42_17_32m_v4.1"]}
    for fill_value in (0.0, np.nan):
        folder = tmp_path / str(fill_value)
        write_smart_geocube(folder / "old", product.geobox, content, fill_value=fill_value, **old)
        import_cube(folder / "old", folder / "new")
        dem = Datacube.open(folder / "new").read(product.geobox)["dem"].values
        expected = content["dem"].copy()
        if fill_value == 0:
            expected[32:, 8:] = np.nan
        np.testing.assert_array_equal(dem, expected)


@pytest.mark.slow
def test_import_goes_on_where_it_was_killed(tmp_path: Path, known, monkeypatch: pytest.MonkeyPatch) -> None:
    product = small_trends()
    known(tcvis_2000_2019=product)
    content = random_content(product, product.geobox.shape)
    loaded = [f"{row}-{col}" for row in range(7) for col in range(10)]
    old = write_smart_geocube(tmp_path / "old", product.geobox, content, loaded, title="TCTrend", chunk_px=GRID)

    def die(done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_cube(old, tmp_path / "new", progress=die)
    assert len(Datacube.open(tmp_path / "new").known()) == 5
    report = import_cube(old, tmp_path / "new")
    assert (report.filled, report.present) == (19, 5)
    read = Datacube.open(tmp_path / "new").read(product.geobox)
    for name, values in content.items():
        np.testing.assert_array_equal(read[name], values)
    assert import_cube(old, tmp_path / "new").filled == 0


def test_a_damaged_chunk_is_missing_and_named(tmp_path: Path, known) -> None:
    product = small_trends()
    known(tcvis_2000_2019=product)
    content = random_content(product, product.geobox.shape)
    loaded = [f"{row}-{col}" for row in range(2) for col in range(3)]
    old = write_smart_geocube(tmp_path / "old", product.geobox, content, loaded, title="TCTrend2019", chunk_px=32)
    file = max((old / "chunks").iterdir(), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-20])
    report = import_cube(old, tmp_path / "new")
    assert (len(report.damaged), report.filled) == (4, 20)
    assert Datacube.open(tmp_path / "new").missing(product.geobox) == list(report.damaged)


def test_a_chunk_of_fewer_pixels_is_damaged(tmp_path: Path, known) -> None:
    """It says itself how long it is; what was decoded before it would show through otherwise."""
    product = small_trends()
    known(tcvis_2000_2019=product)
    content = random_content(product, product.geobox.shape)
    old = write_smart_geocube(tmp_path / "old", product.geobox, content, ["0-0"], title="TCTrend2019", chunk_px=32)
    session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(old))).writable_session("main")
    short = Blosc().encode(np.arange(100, dtype="uint8"))
    asyncio.run(session.store.set("TCB_slope/c/0/0", default_buffer_prototype().buffer.from_bytes(short)))
    session.commit("damaged")
    report = import_cube(old, tmp_path / "new")
    assert report.filled == 0
    assert {reason.rpartition(": ")[2] for reason in report.damaged.values()} == {
        "it has 100 bytes of pixels; expected 1024."
    }


@pytest.mark.parametrize(
    ("name", "value", "dtype", "says"),
    [
        ("dem", 1e30, "float32", r"dem is 1e\+30 at row 40, column 50"),
        ("dem", -9999, "float32", "dem is -9999 at row 40, column 50, which is no"),
        ("datamask", 55, "uint8", "datamask in .* cannot be decoded: it holds what is neither True nor False"),
    ],
)
def test_a_chunk_that_holds_no_elevations_is_damaged(tmp_path: Path, known, name, value, dtype, says) -> None:
    """A byte that is turned round within what Blosc compressed is decoded to something."""
    product = small_product(64, 128)
    known(arcticdem_32m=product)
    content = random_content(product, (64, 128))
    made = {"loaded": ["42_17_32m_v4.1"], "title": "ArcticDEM32m", "chunk_px": 64}
    old = write_smart_geocube(tmp_path / "old", product.geobox, content, **made)
    session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(old))).writable_session("main")
    values = np.ones((64, 64), dtype)
    values[:32] = 0
    values[40, 50] = value
    chunk = default_buffer_prototype().buffer.from_bytes(Blosc().encode(values))
    asyncio.run(session.store.set(f"{name}/c/0/1", chunk))
    session.commit("damaged")
    report = import_cube(old, tmp_path / "new")
    assert (report.filled, list(report.damaged)) == (1, [Chunk(0, 1)])
    assert re.search(says, report.damaged[Chunk(0, 1)])


def test_shards_are_read_and_other_shapes_of_chunks_refused(tmp_path: Path, known) -> None:
    product = small_product(128, 128)
    known(arcticdem_32m=product)
    content = random_content(product, (128, 128))
    made = {"loaded": ["42_17_32m_v4.1"], "title": "ArcticDEM32m", "chunk_px": 16}
    old = write_smart_geocube(tmp_path / "old", product.geobox, content, codecs={"shards": (64, 64)}, **made)
    read = SmartGeocube(old, product).read(Window.of(0, 128, 0, 128))
    for variable, values in content.items():
        np.testing.assert_array_equal(read[variable], values)
    oblong = write_smart_geocube(tmp_path / "oblong", product.geobox, content, codecs={"shards": (64, 32)}, **made)
    with pytest.raises(CubeError, match=r"has chunks of \(64, 32\) .*; expected square ones"):
        import_cube(oblong, tmp_path / "new")


def test_what_cannot_be_imported_is_named(tmp_path: Path, known) -> None:
    product = small_trends()
    content = random_content(product, product.geobox.shape)
    made = {"loaded": ["0-0"], "chunk_px": GRID}
    old = write_smart_geocube(tmp_path / "old", product.geobox, content, title="TCTrend2020", **made)
    with pytest.raises(CubeError, match=r"titled 'TCTrend2020' and holds .*2001-2020_TCVIS; expected .*2000-2019"):
        import_cube(old, tmp_path / "new", "tcvis-2000-2019")
    with pytest.raises(ParameterError, match=r"product is 'dem'; expected one of arcticdem-2m"):
        import_cube(old, tmp_path / "new", "dem")
    with pytest.raises(CubeError, match="one lies in the other"):
        import_cube(old, old / "new")
    with pytest.raises(CubeNotFoundError, match="nothing at"):
        import_cube(tmp_path / "none", tmp_path / "new")
    with pytest.raises(
        ForeignCubeError, match=r"is no datacube of DARTS. It is a datacube of smart-geocubes \(TCTrend"
    ):
        Datacube.open(old)
    ours = Datacube.create(tmp_path / "ours", small_product())
    with pytest.raises(CubeError, match="no attribute 'loaded_patches'"):
        import_cube(ours.path, tmp_path / "new")
    shifted = GeoBox((64, 96), product.geobox.affine * Affine.translation(0.3, 0), "EPSG:4326")
    other = write_smart_geocube(tmp_path / "shifted", shifted, content, title="TCTrend2019", **made)
    with pytest.raises(CubeError, match="expected pixels of users/ingmarnitze"):
        import_cube(other, tmp_path / "new")
    unnamed = write_smart_geocube(tmp_path / "unnamed", product.geobox, content, title="mine", **made)
    with pytest.raises(CubeError, match="say what it holds"):
        inspect_origin(unnamed)
    assert not (tmp_path / "new").exists()


@given(st.lists(st.tuples(*[st.integers(0, 290), st.integers(1, 120), st.integers(0, 390), st.integers(1, 120)])))
def test_complete_chunks_are_those_that_windows_cover(edges: list[tuple[int, int, int, int]]) -> None:
    product = small_product()
    windows = [
        Window.of(top, min(300, top + height), left, min(400, left + width)) for top, height, left, width in edges
    ]
    covered = np.zeros((300, 400), bool)
    for window in windows:
        covered[window] = True
    parts = {
        (row, col): covered[row * 64 : row * 64 + 64, col * 64 : col * 64 + 64] for row in range(5) for col in range(7)
    }
    complete, partial = coverage_of(product, windows)
    assert complete == [chunk for chunk, part in parts.items() if part.all()]
    assert partial == sum(part.any() and not part.all() for part in parts.values())


@pytest.fixture
def tiles(tmp_path: Path):
    """Four files of tiles that overlap by six pixels, a chunk from the edges of the product, and what they hold."""
    product = small_product(192, 256)
    content = random_content(product, (192, 256))
    for row, (top, bottom) in enumerate([(64, 134), (128, 192)]):
        for col, (left, right) in enumerate([(64, 164), (158, 256)]):
            window = Window.of(top, bottom, left, right)
            write_tile(tmp_path / "tiles", f"{row}_{col}", product, window, content)
    return product, content, tmp_path / "tiles"


def test_import_of_a_geotiff_is_equal(tiles, tmp_path: Path, known) -> None:
    product, content, folder = tiles
    known(arcticdem_32m=product)
    report = import_cube(folder / "0_0_dem.tif", tmp_path / "new")
    cube = Datacube.open(tmp_path / "new")
    assert list(cube.known()) == [Chunk(1, 1)]
    assert (report.filled, report.incomplete) == (1, 3)
    read = cube.read(cube.chunk_geobox(Chunk(1, 1)))
    for name, values in content.items():
        np.testing.assert_array_equal(read[name], values[64:128, 64:128])
    (folder / "0_1_datamask.tif").unlink()
    with pytest.raises(CubeError, match="says elevations only"):
        import_cube(folder / "0_1_dem.tif", tmp_path / "other")
    for wrong in (Affine(32, 1, 0, 0, -32, 0), Affine(32, 0, 0, 1, -32, 0), Affine(32, 0, 0, 0, 32, 0)):
        with rasterio.open(folder / "0_0_dem.tif", "r+") as file:
            file.transform = wrong
        with pytest.raises(CubeError, match="is rotated"):
            import_cube(folder / "0_0_dem.tif", tmp_path / "other")
    (folder / "1_1_dem.tif").write_bytes(b"no image")
    with pytest.raises(CubeError, match="cannot be opened"):
        import_cube(folder / "1_1_dem.tif", tmp_path / "other")


def _build_vrt(folder: Path, kind: str) -> Path:
    """Write a VRT of all tiles as gdalbuildvrt does."""
    with rasterio.open(folder / f"0_0_{kind}.tif") as first:
        left, top, dtype = first.transform.c, first.transform.f, "Float32" if kind == "dem" else "Byte"
    sources = []
    for file in sorted(folder.glob(f"*_{kind}.tif")):
        with rasterio.open(file) as tile:
            at = f'xSize="{tile.width}" ySize="{tile.height}"'
            place = f'xOff="{(tile.transform.c - left) / 32}" yOff="{(top - tile.transform.f) / 32}"'
        sources.append(
            f'<ComplexSource><SourceFilename relativeToVRT="1">{file.name}</SourceFilename><SourceBand>1</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" {at}/><DstRect {place} {at}/>'
            f"{'<NODATA>-9999</NODATA>' if kind == 'dem' else ''}</ComplexSource>"
        )
    nodata = "<NoDataValue>-9999</NoDataValue>" if kind == "dem" else ""
    target = folder / f"mosaic_{kind}.vrt"
    target.write_text(
        f'<VRTDataset rasterXSize="192" rasterYSize="128"><SRS>EPSG:3413</SRS>'
        f"<GeoTransform>{left}, 32, 0, {top}, 0, -32</GeoTransform>"
        f'<VRTRasterBand dataType="{dtype}" band="1">{nodata}{"".join(sources)}</VRTRasterBand></VRTDataset>'
    )
    return target


def test_import_of_a_vrt_takes_what_its_files_hold(tiles, tmp_path: Path, known, caplog) -> None:
    product, content, folder = tiles
    known(arcticdem_32m=product)
    _build_vrt(folder, "datamask")
    mosaic = _build_vrt(folder, "dem")
    report = import_cube(mosaic, tmp_path / "whole")
    assert (report.filled, report.incomplete, report.damaged) == (6, 0, {})
    read = Datacube.open(tmp_path / "whole").read(product.geobox[64:, 64:])
    for name, values in content.items():
        np.testing.assert_array_equal(read[name], values[64:, 64:])
    (folder / "1_1_dem.tif").unlink()
    report = import_cube(mosaic, tmp_path / "part")
    assert (report.filled, report.incomplete) == (4, 2)
    assert "1_1_dem.tif" in caplog.text
    missing = Datacube.open(tmp_path / "part").missing(Window.of(64, 192, 64, 256))
    assert missing == [Chunk(2, 2), Chunk(2, 3)]
    truncated = folder / "0_1_dem.tif"
    truncated.write_bytes(truncated.read_bytes()[:-2000])
    report = import_cube(mosaic, tmp_path / "damaged")
    assert report.damaged
    assert set(Datacube.open(tmp_path / "damaged").known()).isdisjoint(report.damaged)
