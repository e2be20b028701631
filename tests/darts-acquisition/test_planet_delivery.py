"""Orders as they arrive: every layout is listed and loads as the plain folder of the same scene does."""

import itertools
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

import darts_acquisition.planet.delivery
import darts_acquisition.planet.image
from darts_acquisition import (
    SceneError,
    SceneNotFoundError,
    SceneReadError,
    find_planet_scenes,
    get_planet_geometry,
    list_planet_files,
    load_planet_masks,
    load_planet_scene,
    parse_planet_type,
)
from darts_acquisition.planet.naming import kind_of, scene_of, words_after
from support.lanes import mostly_slow

SCENES = ("20240710_201530_07_24c3", "20240710_201532_11_24c3", "20151119_025740_0c74")
ORTHOTILE = "5790392_4372514_2022-07-16_2459"
FILES = ("_3B_AnalyticMS_SR.tif", "_3B_udm2.tif", "_metadata.json")


@pytest.fixture
def plain(delivery, tmp_path):
    """Folders of scenes with different pixels, and files of an order that no tile needs."""
    for number, name in enumerate((*SCENES, ORTHOTILE)):
        made = delivery(f"plain/{name}").complete()
        made.image(np.random.default_rng(number).integers(0, 3000, (4, 6, 5)).astype("uint16"))
        made.file("_3B_AnalyticMS_metadata.xml").write_text("<xml/>")
    return tmp_path / "plain"


def tile_of(path):
    scene = load_planet_scene(path)
    return scene.assign(load_planet_masks(path, scene).data_vars)


def assert_same_scenes(found, plain, names=SCENES):
    assert sorted(path.name for path in found) == sorted(names)
    for path in found:
        expected = tile_of(plain / path.name)
        assert tile_of(path).identical(expected)
        assert load_planet_masks(path).identical(load_planet_masks(plain / path.name))
        assert get_planet_geometry(path) == get_planet_geometry(plain / path.name)
        assert parse_planet_type(path) == parse_planet_type(plain / path.name)
        assert [file.name for file in list_planet_files(path)] == [path.name + ending for ending in FILES]


def flat(plain, target, names=SCENES):
    target.mkdir(parents=True)
    for name in names:
        for file in (plain / name).iterdir():
            shutil.copy(file, target)
    (target / "manifest.json").write_text("{}")
    return target


def bundled(plain, target, names=SCENES):
    """A layout of orders with a folder per product below that of the scene."""
    for name in names:
        (target / name / "analytic_sr_udm2").mkdir(parents=True)
        for ending in FILES:
            below = "" if ending.endswith("json") else "analytic_sr_udm2"
            shutil.copy(plain / name / (name + ending), target / name / below)
    return target


def zipped(folder, target, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(target, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return target


def order(plain, tmp_path):
    return flat(plain, tmp_path / "order" / "PSScene").parent


def test_scenes_in_folders(plain):
    found = find_planet_scenes(plain)
    assert found == sorted(plain / name for name in (*SCENES, ORTHOTILE))
    assert_same_scenes(found, plain, (*SCENES, ORTHOTILE))
    assert find_planet_scenes(str(plain)) == found


def test_scene_folder_holds_itself(plain, monkeypatch):
    assert find_planet_scenes(plain / SCENES[0]) == [plain / SCENES[0]]
    monkeypatch.chdir(plain / SCENES[0])
    assert [parse_planet_type(path) for path in find_planet_scenes(".")] == ["scene"]


@pytest.mark.parametrize("start", ["order", "order/PSScene"])
def test_scenes_of_a_flat_order(plain, tmp_path, start):
    order(plain, tmp_path)
    found = find_planet_scenes(tmp_path / start)
    assert found == sorted(tmp_path / "order" / "PSScene" / name for name in SCENES)
    assert not any(path.exists() for path in found)
    assert_same_scenes(found, plain)


def test_scenes_of_a_flat_order_from_where_one_stands(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(order(plain, tmp_path))
    found = find_planet_scenes(".")
    assert found == sorted(Path("PSScene") / name for name in SCENES)
    assert_same_scenes(found, plain)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("start", ["order.zip", "."])
def test_scenes_of_an_archive(plain, tmp_path, compression, start):
    order(plain, tmp_path)
    (tmp_path / "download").mkdir()
    archive = zipped(tmp_path / "order", tmp_path / "download" / "order.zip", compression)
    found = find_planet_scenes(tmp_path / "download" / start)
    assert found == sorted(archive / name for name in SCENES)
    assert_same_scenes(found, plain)
    assert tile_of(archive / "PSScene" / SCENES[0]).identical(tile_of(plain / SCENES[0]))


def test_scenes_of_archives_per_scene(plain, tmp_path):
    (tmp_path / "download").mkdir()
    for name in SCENES:
        zipped(plain / name, tmp_path / "download" / f"{name}.zip")
    assert_same_scenes(find_planet_scenes(tmp_path / "download"), plain)


def test_scenes_in_folders_of_bundles_and_in_an_archive_of_them(plain, tmp_path):
    folder = bundled(plain, tmp_path / "order" / "files" / "PSScene")
    found = find_planet_scenes(tmp_path / "order")
    assert found == sorted(folder / name for name in SCENES)
    assert_same_scenes(found, plain)
    archive = zipped(tmp_path / "order", tmp_path / "order.zip")
    assert_same_scenes(find_planet_scenes(archive), plain)


def test_scenes_in_mixed_layouts(plain, tmp_path):
    mixed = tmp_path / "mixed"
    flat(plain, mixed / "first" / "PSScene", SCENES[:1])
    zipped(plain / SCENES[1], mixed / "second.ZIP")
    shutil.copytree(plain / SCENES[2], mixed / "third" / "deeper" / SCENES[2])
    shutil.copytree(plain / ORTHOTILE, mixed / "tiles" / "4372514" / ORTHOTILE)
    found = find_planet_scenes(mixed)
    assert found == sorted(
        [
            mixed / "first" / "PSScene" / SCENES[0],
            mixed / "second.ZIP" / SCENES[1],
            mixed / "third" / "deeper" / SCENES[2],
            mixed / "tiles" / "4372514" / ORTHOTILE,
        ]
    )
    for path in found:
        assert tile_of(path).identical(tile_of(plain / path.name))


def test_scene_whose_files_lie_in_its_folder_and_beside_it(plain, tmp_path):
    folder = flat(plain, tmp_path / "order")
    own = folder / SCENES[0]
    own.mkdir()
    (folder / (SCENES[0] + FILES[0])).rename(own / (SCENES[0] + FILES[0]))
    assert_same_scenes(find_planet_scenes(folder), plain)


def test_scenes_behind_links(plain, tmp_path):
    links = tmp_path / "links"
    (links / "flat").mkdir(parents=True)
    (links / SCENES[0]).symlink_to(plain / SCENES[0])
    for file in (plain / SCENES[1]).iterdir():
        (links / "flat" / file.name).symlink_to(file)
    zipped(plain / SCENES[2], tmp_path / "elsewhere.zip")
    (links / "third.zip").symlink_to(tmp_path / "elsewhere.zip")
    found = find_planet_scenes(links)
    assert found == sorted([links / SCENES[0], links / "flat" / SCENES[1], links / "third.zip" / SCENES[2]])
    assert_same_scenes(found, plain)
    (tmp_path / "all").symlink_to(links)
    assert [path.name for path in find_planet_scenes(tmp_path / "all")] == [path.name for path in found]


def test_scenes_behind_several_links_are_listed_once(plain, tmp_path, caplog):
    (plain / "again").symlink_to(plain)
    (plain / "a_newer_one").symlink_to(plain / SCENES[0])
    nested = plain / "0_below"
    nested.mkdir()
    (nested / SCENES[1]).symlink_to(plain / SCENES[1])
    (nested / "up").symlink_to(plain)
    found = find_planet_scenes(plain)
    assert_same_scenes(found, plain, (*SCENES, ORTHOTILE))
    assert "left out" not in caplog.text


def test_link_under_another_scene_s_name_is_listed_and_an_error(plain):
    (plain / "20250101_000000_01_24c3").symlink_to(plain / SCENES[0])
    found = find_planet_scenes(plain)
    assert plain / "20250101_000000_01_24c3" in found
    assert plain / SCENES[0] in found
    with pytest.raises(SceneError, match=f"holds {SCENES[0]}_3B_AnalyticMS_SR.tif of scene {SCENES[0]}; move it"):
        load_planet_scene(plain / "20250101_000000_01_24c3")


def test_folders_without_a_scene_are_left_out_with_one_warning_each(plain, tmp_path, caplog):
    for path in ("notes/todo.txt", "results/20210821_210019_08_2405/probabilities.tif", "deep/er/still/text.txt"):
        (plain / path).parent.mkdir(parents=True)
        (plain / path).write_text("")
    (plain / "20210101_000000_01_24c3").mkdir()
    (plain / "20210101_000000_01_24c3" / "notes.txt").write_text("")
    (plain / "lone.txt").write_text("")
    (plain / ".hidden").mkdir()
    zipped(plain / "notes", plain / "notes.zip")
    assert_same_scenes(find_planet_scenes(plain), plain, (*SCENES, ORTHOTILE))
    for name in ("notes", "results", "deep", "20210101_000000_01_24c3", "notes.zip"):
        assert f"{plain / name} is left out: it holds no file of a scene." in caplog.text
    assert len(caplog.records) == 5
    caplog.clear()
    assert find_planet_scenes(plain / "notes") == find_planet_scenes(plain / "deep") == []
    assert f"{plain / 'notes'} is left out" in caplog.text


def test_hidden_files_and_folders_do_not_count(plain, tmp_path):
    folder = flat(plain, tmp_path / "order")
    shutil.copytree(plain / ORTHOTILE, folder / ".trash" / ORTHOTILE)
    for file in list(folder.iterdir()):
        (folder / f"._{file.name}").write_bytes(b"\0")
    with zipfile.ZipFile(zipped(folder, tmp_path / "order.zip"), "a") as archive:
        archive.writestr(f"__MACOSX/._{ORTHOTILE}_BGRN_SR.tif", b"\0")
    assert_same_scenes(find_planet_scenes(folder), plain)
    shutil.rmtree(folder / ".trash")
    assert_same_scenes(find_planet_scenes(zipped(folder, tmp_path / "again.zip")), plain)


def test_what_looks_like_a_scene_is_listed_so_that_loading_it_says_what_is_wrong(tmp_path):
    empty, dangling, archive = (tmp_path / name for name in ("20210101_000000_01_24c3", SCENES[0], "order.zip"))
    empty.mkdir()
    dangling.symlink_to(tmp_path / "nowhere")
    archive.write_bytes(b"PK\3\4 cut off")
    (tmp_path / "20211399_000000_01_24c3").mkdir()
    (tmp_path / SCENES[1]).symlink_to(tmp_path / SCENES[1])
    found = find_planet_scenes(tmp_path)
    assert len(found) == 5
    errors = {}
    for path in found:
        with pytest.raises((SceneNotFoundError, SceneReadError)) as caught:
            load_planet_scene(path)
        errors[path.name] = str(caught.value)
        assert str(path) in errors[path.name]
        assert list_planet_files(path) == []
    assert "found nothing" in errors[empty.name]
    assert "does not exist" in errors[dangling.name]
    assert "cannot be read as a zip archive" in errors["order.zip"]


def test_folder_that_is_absent_is_an_error(tmp_path):
    with pytest.raises(SceneNotFoundError, match=r"There is no folder .*absent; correct the path"):
        find_planet_scenes(tmp_path / "absent")
    for path in (tmp_path / SCENES[0], tmp_path / "absent" / SCENES[0], tmp_path / "absent.zip" / SCENES[0]):
        with pytest.raises(SceneNotFoundError, match=rf"{SCENES[0]} does not exist; expected a folder with .*_SR\.tif"):
            load_planet_scene(path)


def test_archive_without_the_scene_and_archive_itself_are_errors(plain, tmp_path):
    archive = zipped(plain / SCENES[0], tmp_path / "order.zip")
    for path in (archive / SCENES[1], archive / "PSScene" / SCENES[0], archive):
        with pytest.raises(
            SceneNotFoundError, match="find_planet_scenes lists the scenes of a folder or a zip archive"
        ):
            load_planet_scene(path)


def test_files_of_another_scene_in_a_scene_s_folder_are_an_error(plain):
    for number, ending in enumerate(FILES):
        foreign = plain / SCENES[0] / (SCENES[1] + ending)
        (plain / SCENES[0] / (SCENES[0] + ending)).unlink()
        shutil.copy(plain / SCENES[1] / foreign.name, foreign)
        for load in (load_planet_scene, load_planet_masks, get_planet_geometry):
            with pytest.raises(SceneError, match=f"{SCENES[0]} holds .* of scene {SCENES[1]}; move it"):
                load(plain / SCENES[0])
        assert number or list_planet_files(plain / SCENES[0]) == []
        foreign.rename(plain / SCENES[0] / (SCENES[0] + ending))


def test_names_may_be_written_in_capitals(plain, tmp_path):
    folder = tmp_path / SCENES[2].upper()
    folder.mkdir()
    for ending in FILES:
        shutil.copy(plain / SCENES[2] / (SCENES[2] + ending), folder)
    assert load_planet_scene(folder).equals(load_planet_scene(plain / SCENES[2]))
    assert load_planet_scene(tmp_path / "plain" / SCENES[2]).attrs["tile_id"] == SCENES[2]


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
    with pytest.raises(SceneError, match="more than the memory that is left"):
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
        (("strips", "band"), ("tiles", "pixel"), ("line strips", "band")).__contains__,
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
