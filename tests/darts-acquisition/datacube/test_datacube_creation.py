"""Where a datacube can be created and opened, and what is none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import zarr

import darts_acquisition.cube.datacube
import darts_acquisition.cube.transaction
from darts_acquisition import (
    CubeError,
    CubeExistsError,
    CubeNotFoundError,
    CubeProduct,
    CubeVariable,
    Datacube,
)
from darts_acquisition.cube.repository import Location, create_repository
from darts_utils import ParameterError
from support.permissions import locked_folder


def test_what_is_no_cube_is_an_error(tmp_path):
    with pytest.raises(CubeNotFoundError, match="no datacube at") as caught:
        Datacube.open(tmp_path / "nowhere")
    assert isinstance(caught.value, FileNotFoundError)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.txt").touch()
    for name in ("file", "file/cube", "folder"):
        with pytest.raises(CubeError, match="is no datacube"):
            Datacube.open(tmp_path / name)
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["thesis.txt"]
    (tmp_path / "broken/refs").mkdir(parents=True)
    with pytest.raises(CubeError, match="no datacube that can be opened"):
        Datacube.open(tmp_path / "broken")


@pytest.mark.parametrize(
    ("attrs", "message"),
    [({}, "found none"), ({"darts_cube_format": 99}, "found format 99"), ({"darts_cube_format": 1}, "damaged")],
)
def test_repositories_of_others_are_no_cubes(tmp_path, attrs, message):
    path = tmp_path / "other"
    create_repository(
        Location.parse(path), lambda session: zarr.create_group(store=session.store, attributes=attrs), "other"
    )
    with pytest.raises(CubeError, match=message):
        Datacube.open(path)


def test_repository_without_anything_is_no_cube(tmp_path):
    path = tmp_path / "other"
    create_repository(
        Location.parse(path),
        lambda session: zarr.create_array(session.store, name="a", shape=(1,), dtype="u1"),
        "other",
    )
    with pytest.raises(CubeError, match="no datacube of DARTS"):
        Datacube.open(path)


def test_nothing_is_overwritten(cube, tmp_path, product):
    with pytest.raises(CubeExistsError, match="exists already") as caught:
        Datacube.create(cube.path, product)
    assert isinstance(caught.value, FileExistsError)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.txt").write_text("years of work")
    with pytest.raises(CubeExistsError, match="exists already"):
        Datacube.create(tmp_path / "taken", product)
    assert (tmp_path / "taken/thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert Datacube.create(tmp_path / "empty", product).missing(product.geobox)


@pytest.mark.parametrize("place", ["folder", "link to a folder", "link to nothing"])
def test_an_empty_folder_is_a_place_for_a_cube(tmp_path, product, place):
    path = tmp_path / "cubes" / "terrain"
    path.parent.mkdir()
    behind = tmp_path / "scratch" if place.startswith("link") else path
    if place != "link to nothing":
        behind.mkdir()
    if behind != path:
        path.symlink_to(behind)
    with pytest.raises(CubeNotFoundError, match="no datacube at"):
        Datacube.open(path)
    cube = Datacube.open_or_create(path, product)
    assert len(cube.missing(product.geobox)) == 30
    assert (path.is_symlink(), Datacube.open(behind).product.collection) == (behind != path, "terrain-100m")
    assert [entry.name for entry in path.parent.iterdir()] == ["terrain"]


def test_an_empty_folder_may_become_a_cube_at_any_time(tmp_path, product, monkeypatch):
    """Another process creates the cube after the folder was found to be empty."""
    path = tmp_path / "cube"
    path.mkdir()
    whole = Datacube.create(tmp_path / "whole", product).path
    iterdir = Path.iterdir

    def late(folder):
        names = list(iterdir(folder))
        if folder == path and whole.exists():
            whole.rename(path)
        return iter(names)

    monkeypatch.setattr(Path, "iterdir", late)
    assert len(Datacube.open_or_create(path, product).missing(product.geobox)) == 30
    assert not whole.exists()


@pytest.fixture
def locked() -> Iterator[Path]:
    with locked_folder() as folder:
        yield folder


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of POSIX")
@pytest.mark.parametrize("place", ["cube", "new/cube", "private/cube"])
def test_a_cube_that_must_not_be_created_is_an_error(cube, product, locked, place):
    with pytest.raises(CubeError, match=r"No datacube can be created at .*cube: .*Permission denied") as caught:
        Datacube.create(locked / place, product)
    assert str(locked / place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in locked.iterdir()) == ["empty", "private"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of POSIX")
@pytest.mark.parametrize("place", ["private", "private/cube"])
def test_a_cube_that_must_not_be_read_is_an_error(cube, product, locked, place):
    for call in (Datacube.open, lambda path: Datacube.open_or_create(path, product)):
        with pytest.raises(CubeError, match=f"{place} is no datacube that can be opened: Permission denied"):
            call(locked / place)


def test_a_place_below_a_file_is_an_error(tmp_path, product):
    (tmp_path / "file").touch()
    with pytest.raises(CubeError, match=r"No datacube can be created at .*file/cube: .*file cannot be written to"):
        Datacube.create(tmp_path / "file/cube", product)


def test_files_that_vanish_take_no_space(cube, monkeypatch):
    """While another process writes, files are replaced between their listing and the question for their size."""
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top: ((top, dirs, [*names, "gone"]) for top, dirs, names in walk(top)))
    assert cube.stored_bytes() == sum(file.stat().st_size for file in cube.path.rglob("*") if file.is_file())


@pytest.mark.parametrize("exists", [False, True], ids=["no folder", "empty folder"])
def test_of_two_that_create_a_cube_one_is_told(tmp_path, product, monkeypatch, exists):
    path = tmp_path / "cube"
    if exists:
        path.mkdir()
    lay_out = darts_acquisition.cube.datacube.lay_out

    def late(session, product):
        lay_out(session, product)
        monkeypatch.setattr(darts_acquisition.cube.datacube, "lay_out", lay_out)
        Datacube.create(path, product)

    monkeypatch.setattr(darts_acquisition.cube.datacube, "lay_out", late)
    with pytest.raises(CubeExistsError, match="another process"):
        Datacube.create(path, product)
    assert len(Datacube.open(path).missing(product.geobox)) == 30
    assert [entry.name for entry in tmp_path.iterdir()] == ["cube"]


def test_creation_that_fails_leaves_nothing(tmp_path, product, monkeypatch):
    def fail(session, product):
        raise KeyboardInterrupt

    monkeypatch.setattr(darts_acquisition.cube.datacube, "lay_out", fail)
    with pytest.raises(KeyboardInterrupt):
        Datacube.create(tmp_path / "deep/cube", product)
    assert not list((tmp_path / "deep").iterdir())


def test_chunks_must_fit_together(tmp_path, product):
    bad = CubeProduct("a", "1", "a", product.geobox, (CubeVariable("a", "uint8", 0, "a"),), chunk_px=16, inner_px=5)
    with pytest.raises(ParameterError, match="chunk_px is 16 and inner_px 5"):
        Datacube.create(tmp_path / "cube", bad)
