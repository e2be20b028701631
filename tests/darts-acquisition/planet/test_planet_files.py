"""Files of an order: damaged, doubled, virtual or too large ones, their names, and how they are looked for."""

import itertools
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

import darts_acquisition.planet.delivery
import darts_acquisition.planet.image
from darts_acquisition import (
    SceneError,
    SceneReadError,
    find_planet_scenes,
    list_planet_files,
    load_planet_masks,
    load_planet_scene,
)
from darts_acquisition.planet.delivery import kind_of, scene_of, words_after
from support.lanes import mostly_slow
from support.planet_orders import FILES, ORTHOTILE, SCENES, flat, tile_of, zipped


def test_doubled_members_of_an_archive_are_an_error(plain, tmp_path):
    flat(plain, tmp_path / "order" / "one", SCENES[:1])
    flat(plain, tmp_path / "order" / "two", SCENES[:1])
    archive = zipped(tmp_path / "order", tmp_path / "order.zip")
    assert find_planet_scenes(archive) == [archive / SCENES[0]]
    with pytest.raises(SceneError, match="2 files where one surface reflectance image"):
        load_planet_scene(archive / SCENES[0])
    assert tile_of(archive / "two" / SCENES[0]).identical(tile_of(plain / SCENES[0]))


def test_member_that_was_damaged_is_an_error(plain, tmp_path):
    """A stored member is read as it is; only its checksum tells that a byte has changed."""
    archive = zipped(plain / SCENES[0], tmp_path / "order.zip", zipfile.ZIP_STORED)
    content = (plain / SCENES[0] / (SCENES[0] + FILES[0])).read_bytes()
    whole = archive.read_bytes()
    place = whole.index(content) + len(content) - 10  # among the pixels
    archive.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(SceneReadError, match=r"SR\.tif cannot be read: Bad CRC-32"):
        load_planet_scene(archive / SCENES[0])


def test_member_that_does_not_fit_into_memory_is_an_error(plain, tmp_path, monkeypatch):
    archive = zipped(plain / SCENES[0], tmp_path / "order.zip")
    monkeypatch.setattr(darts_acquisition.planet.delivery, "available_memory", lambda: 100)
    with pytest.raises(SceneError, match="more than the memory left"):
        load_planet_scene(archive / SCENES[0])


def test_masks_beside_images_count_in_archives_too(plain, tmp_path):
    image = plain / SCENES[0] / (SCENES[0] + FILES[0])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(image, "r+") as target:
        target.write_mask(np.arange(30).reshape(6, 5) % 3 != 0)
    beside = image.with_name(image.name + ".msk")
    assert beside in list_planet_files(plain / SCENES[0])
    assert load_planet_scene(plain / SCENES[0]).blue.isnull().sum() >= 10
    archive = zipped(plain / SCENES[0], tmp_path / "order.zip")
    assert tile_of(archive / SCENES[0]).identical(tile_of(plain / SCENES[0]))
    assert archive / beside.name in list_planet_files(archive / SCENES[0])


def test_archive_that_is_replaced_is_read_anew(plain, tmp_path):
    archive = zipped(plain / SCENES[0], tmp_path / "order.zip")
    assert [path.name for path in find_planet_scenes(archive)] == [SCENES[0]]
    zipped(plain / SCENES[1], tmp_path / "new.zip").replace(archive)
    assert [path.name for path in find_planet_scenes(archive)] == [SCENES[1]]


# Text as other systems write it.


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_metadata_may_begin_with_a_byte_order_mark(delivery, encoding, end):
    made = delivery().complete()
    text = json.dumps({"id": made.prefix, "properties": {"sun_azimuth": 12, "strip_id": "Süd"}}, indent=1)
    made.file("_metadata.json").write_bytes(text.replace("\n", end).encode(encoding))
    attrs = load_planet_scene(made.folder).attrs
    assert (attrs["azimuth"], attrs["planet_strip_id"]) == (12.0, "Süd")


# Only what a GeoTIFF holds is read.


@pytest.mark.parametrize("ending", FILES[:2])
def test_virtual_raster_under_the_name_of_a_tiff_is_an_error(delivery, ending, tmp_path):
    """GDAL would read whatever it names, other files or addresses in the network."""
    made = delivery().complete()
    image = made.file(ending)
    source = image.rename(tmp_path / "elsewhere.tif")
    with rasterio.open(source) as opened:
        kind = {"uint8": "Byte", "uint16": "UInt16"}[opened.dtypes[0]]
        bands = "".join(
            f'<VRTRasterBand dataType="{kind}" band="{band}"><SimpleSource><SourceFilename>{source}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in opened.indexes
        )
        corner = ",".join(map(str, opened.transform.to_gdal()))
    image.write_text(
        f'<VRTDataset rasterXSize="5" rasterYSize="6"><SRS>EPSG:32608</SRS><GeoTransform>{corner}</GeoTransform>'
        f"{bands}</VRTDataset>"
    )
    with rasterio.open(image) as opened:
        assert opened.driver == "VRT"
    with pytest.raises(SceneReadError, match=rf"{ending} cannot be read as .*Download it again"):
        tile_of(made.folder)


def _claim(file, **profile):
    """Write a file that says much and holds nothing."""
    corner = rasterio.Affine(3, 0, 500_001, 0, -3, 7_600_002)
    profile = {"driver": "GTiff", "tiled": True, "sparse_ok": True, "crs": "EPSG:32608", "transform": corner} | profile
    with rasterio.open(file, "w", **profile):
        pass
    assert file.stat().st_size < 300_000


@pytest.mark.parametrize("ending", FILES[:2])
def test_small_file_that_claims_to_be_large_takes_no_memory(delivery, ending, monkeypatch):
    made = delivery().complete()
    bands = {"count": 4, "dtype": "uint16"} if "SR" in ending else {"count": 8, "dtype": "uint8"}
    _claim(made.file(ending), width=49_000, height=49_000, blockxsize=1024, blockysize=1024, **bands)
    monkeypatch.setattr(darts_acquisition.planet.image, "available_memory", lambda: 30 << 30)
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("memory was taken"))
    load = load_planet_scene if "SR" in ending else load_planet_masks
    with pytest.raises(SceneError, match=r"takes [35]\d\.\d GB of memory as a tile, and .* GB are available"):
        load(made.folder)


def test_blocks_that_claim_to_be_large_take_no_memory(delivery, monkeypatch):
    """A block is decoded whole, however few of its pixels belong to the image."""
    made = delivery().complete()
    monkeypatch.setattr(darts_acquisition.planet.image, "available_memory", lambda: 30 << 30)
    _claim(made.file(FILES[0]), width=100, height=100, count=4, dtype="uint16", blockxsize=131072, blockysize=65536)
    with pytest.raises(SceneError, match=r"takes \d+\.\d GB of memory as a tile"):
        load_planet_scene(made.folder)


# Blocks and threads.


@pytest.mark.parametrize(
    ("layout", "interleave"),
    mostly_slow(
        itertools.product(("strips", "tiles", "one strip", "line strips"), ("band", "pixel")),
        ("tiles", "pixel").__eq__,
    ),
)
def test_pixels_are_the_same_in_every_layout_of_the_file(delivery, layout, interleave):
    made = delivery(shape=(700, 1000)).complete()
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 3000, (4, 700, 1000)).astype("uint16")
    udm = rng.choice([0, 0, 0, 1], (8, 700, 1000)).astype("uint8")
    options = {
        "strips": {"blockysize": 64},
        "tiles": {"tiled": True, "blockxsize": 256, "blockysize": 128},
        "one strip": {"blockysize": 700},
        "line strips": {"blockysize": 1},
    }[layout]
    made.image(numbers, interleave=interleave, compress="lzw", **options)
    made.mask(udm, interleave=interleave, compress="deflate", **options)
    tile = tile_of(made.folder)
    for name, band in zip(("blue", "green", "red", "nir"), numbers, strict=True):
        expected = np.where(band == 0, np.nan, band / np.float64(10000)).astype("float32")
        np.testing.assert_array_equal(tile[name], expected)
    np.testing.assert_array_equal(tile.planet_udm, udm)
    flags = udm[7]
    low = (udm[1:6].any(axis=0)) | (flags & 2 != 0)
    expected = np.where((flags & 0b1111_1101 != 0) | (numbers == 0).all(axis=0), 0, np.where(low, 1, 2))
    np.testing.assert_array_equal(tile.quality_data_mask, expected)


# Names.

WORDS = st.lists(st.sampled_from(["8b", "harmonized", "clip", "reproject", "coreg", "cog"]), unique=True)


@given(words=WORDS, level=st.sampled_from(["3B", "1B", "3A"]))
def test_file_names_tell_scene_kind_and_tools(words, level):
    name = "_".join([SCENES[0], level, "AnalyticMS_SR", *words]) + ".tif"
    assert (scene_of(name), kind_of(name)) == (SCENES[0], "image")
    assert words_after(name, "image") == set(words)


@pytest.mark.parametrize(
    ("name", "scene", "kind"),
    [
        ("20240710_201530_07_24c3_3B_udm2_clip.tif", SCENES[0], "mask"),
        ("20240710_201530_07_24c3_metadata.json", SCENES[0], "metadata"),
        ("20151119_025740_0c74_3B_udm2.tif", SCENES[2], "mask"),
        (f"{ORTHOTILE}_BGRN_SR.tif", ORTHOTILE, "image"),
        (f"{ORTHOTILE}_udm2.tif", ORTHOTILE, "mask"),
        ("20240710_201530_07_24c3_3B_AnalyticMS.tif", SCENES[0], None),
        ("20240710_201530_07_24c3_3B_AnalyticMS_SR.tif.aux.xml", SCENES[0], None),
        ("20240710_201530_07_24c3_3B_AnalyticMS_DN_udm.tif", SCENES[0], None),
        ("20240710_201530_07_24c3_3B_Visual.tif", SCENES[0], None),
        ("20240710_201530_07_24c3_3B_AnalyticMS_SR_bandmath.tif", SCENES[0], None),
        ("20240710_201530_07_24c35_3B_AnalyticMS_SR.tif", None, "image"),
        ("my_SR.tif", None, "image"),
        ("._20240710_201530_07_24c3_3B_AnalyticMS_SR.tif", None, None),
        ("manifest.json", None, None),
    ],
)
def test_file_names_of_an_order(name, scene, kind):
    assert (scene_of(name), kind_of(name)) == (scene, kind)


def test_folder_that_has_just_changed_is_read_anew(plain, tmp_path):
    """Also where the clock of the file system is too coarse to tell the two changes apart."""
    folder = flat(plain, tmp_path / "order", SCENES[:1])
    for ending in FILES[1:]:
        (folder / (SCENES[0] + ending)).unlink()
        now = folder.stat()
        assert len(list_planet_files(folder / SCENES[0])) == 2
        shutil.copy(plain / SCENES[0] / (SCENES[0] + ending), folder)
        os.utime(folder, ns=(now.st_atime_ns, now.st_mtime_ns))
        assert len(list_planet_files(folder / SCENES[0])) == 3


def test_folder_that_rests_is_read_once(plain, tmp_path, monkeypatch):
    folder = flat(plain, tmp_path / "order")
    os.utime(folder, ns=(0, 10**18))
    listed = []
    monkeypatch.setattr(os, "listdir", lambda place, plainly=os.listdir: [listed.append(place), *plainly(place)][1:])
    for name in SCENES * 3:
        assert [file.name for file in list_planet_files(folder / name)] == [name + ending for ending in FILES]
    assert listed.count(folder) == 1
