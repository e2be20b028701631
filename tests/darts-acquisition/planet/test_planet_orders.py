"""Orders as they arrive: every layout is listed and loads as the plain folder of the same scene does."""

import shutil
import zipfile
from pathlib import Path

import pytest

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
from support.planet_orders import FILES, ORTHOTILE, SCENES, flat, order, tile_of, zipped


def assert_same_scenes(found, plain, names=SCENES):
    assert sorted(path.name for path in found) == sorted(names)
    for path in found:
        expected = tile_of(plain / path.name)
        assert tile_of(path).identical(expected)
        assert load_planet_masks(path).identical(load_planet_masks(plain / path.name))
        assert get_planet_geometry(path) == get_planet_geometry(plain / path.name)
        assert parse_planet_type(path) == parse_planet_type(plain / path.name)
        assert [file.name for file in list_planet_files(path)] == [path.name + ending for ending in FILES]


def bundled(plain, target, names=SCENES):
    """A layout of orders with a folder per product below that of the scene."""
    for name in names:
        (target / name / "analytic_sr_udm2").mkdir(parents=True)
        for ending in FILES:
            below = "" if ending.endswith("json") else "analytic_sr_udm2"
            shutil.copy(plain / name / (name + ending), target / name / below)
    return target


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


def test_copies_of_a_scene_in_several_folders_are_named_with_these(plain, tmp_path):
    archive = tmp_path / "order.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for folder in ("first", "again"):
            for ending in FILES:
                target.write(plain / SCENES[0] / (SCENES[0] + ending), f"{folder}/{SCENES[0]}{ending}")
    image = SCENES[0] + FILES[0]
    with pytest.raises(SceneError, match="holds 2 files where one ") as raised:
        load_planet_scene(archive / SCENES[0])
    assert all(str(archive / folder / image) in str(raised.value) for folder in ("first", "again"))


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


@pytest.mark.parametrize("zips", [False, True])
def test_an_image_of_another_product_is_named_where_scenes_share_a_place(plain, tmp_path, zips):
    folder = flat(plain, tmp_path / "order", SCENES[:1])
    (folder / f"{SCENES[0]}_3B_AnalyticMS_SR.tif").rename(folder / f"{SCENES[0]}_3B_AnalyticMS.tif")
    place = zipped(folder, tmp_path / "order.zip") if zips else folder
    with pytest.raises(SceneNotFoundError, match=rf"holds no surface .*found {SCENES[0]}_3B_AnalyticMS\.tif, "):
        load_planet_scene(place / SCENES[0])


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
