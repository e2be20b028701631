"""Datacubes in object storage, served by moto on this machine: what holds on a disk holds there."""

import contextlib
import re
import threading
from collections.abc import Iterator
from functools import partial

import icechunk
import numpy as np
import pytest

import darts_acquisition.cube.transaction
from darts_acquisition import (
    Chunk,
    ChunkState,
    CubeConflictError,
    CubeDamagedError,
    CubeError,
    CubeExistsError,
    CubeNotFoundError,
    CubeUnreachableError,
    Datacube,
    LoginError,
    S3Settings,
    Window,
    inspect_cube,
    verify_cube,
)
from darts_acquisition.cube.repository import Location, check_list, reading
from support.arcticdem import small_product
from support.lanes import mostly_slow
from support.s3_server import KEYS, S3Server, environment_of, serve_s3

FIRST, SECOND = Window.of(0, 16, 0, 16), Window.of(0, 16, 16, 32)


@pytest.fixture(scope="module")
def storage() -> Iterator[S3Server]:
    with serve_s3() as storage:
        storage.bucket("cubes")
        yield storage


@pytest.fixture
def found(storage) -> Iterator[None]:
    """Let the environment name the storage."""
    with environment_of(storage):
        yield


@pytest.fixture
def path(request) -> str:
    return "s3://cubes/" + re.sub(r"\W+", "-", request.node.name) + "/terrain.icechunk"


def values_of(window, number):
    return {"height": np.full(window.shape, number, "float32"), "kind": np.full(window.shape, number, "uint8")}


def objects(storage, path) -> dict[str, int]:
    bucket, _, prefix = path.removeprefix("s3://").partition("/")
    listed = storage.client().list_objects_v2(Bucket=bucket, Prefix=prefix + "/")
    return {each["Key"]: each["Size"] for each in listed.get("Contents", [])}


def test_what_is_written_is_read(storage, found, product, path):
    with pytest.raises(CubeNotFoundError, match="There is no datacube at s3://cubes/"):
        Datacube.open(path)
    cube = Datacube.create(path, product)
    assert cube.path == path
    assert cube.write(FIRST, values_of(FIRST, 1)) == [Chunk(0, 0)]
    cube.mark_empty([Chunk(4, 5)])
    again = Datacube.open(path)
    np.testing.assert_array_equal(again.read(FIRST).height, values_of(FIRST, 1)["height"])
    assert again.known() == {Chunk(0, 0): ChunkState.FILLED, Chunk(4, 5): ChunkState.EMPTY}
    identities = again.identities()
    assert (len(identities[0, 0]), identities[4, 5]) == (32, "empty")
    assert verify_cube(path).damaged == {}
    info = inspect_cube(path)
    assert (info.path, info.filled, info.empty) == (path, 1, 1)
    assert info.stored_bytes == sum(objects(storage, path).values())
    with pytest.raises(CubeExistsError, match="exists already"):
        Datacube.create(path, product)
    assert Datacube.open_or_create(path, product).known() == again.known()


def test_the_settings_may_name_the_storage(storage, product, path, tmp_path, monkeypatch):
    """A profile holds the keys, and the environment says nothing."""
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    lines = [f"{name} = {value}" for name, value in KEYS.items()]
    (tmp_path / "credentials").write_text("\n".join(["[cluster]", *lines, ""]))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    s3 = S3Settings(endpoint_url=storage.url, region="us-east-1", profile="cluster")
    cube = Datacube.create(path, product, s3=s3)
    cube.write(FIRST, values_of(FIRST, 3))
    assert Datacube.open(path, s3=s3).read(FIRST).height.values[0, 0] == 3
    assert inspect_cube(path, s3=s3).stored_bytes > 0
    with pytest.raises(LoginError, match="'absent'"):
        Datacube.open(path, s3=S3Settings(endpoint_url=storage.url, region="us-east-1", profile="absent"))


def test_writers_of_different_chunks_do_not_clash(found, product, path, monkeypatch):
    """No lock is there; the storage lets one of two commits win, and the other comes after it."""
    cube = Datacube.create(path, product)
    commit = darts_acquisition.cube.transaction.commit

    def late(place, session, message):
        monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", commit)
        Datacube.open(path).write(SECOND, values_of(SECOND, 2))
        commit(place, session, message)

    monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", late)
    assert cube.write(FIRST, values_of(FIRST, 1)) == [Chunk(0, 0)]
    assert cube.read(FIRST).height.values[0, 0] == 1
    assert cube.read(SECOND).height.values[0, 0] == 2


def test_writers_of_the_same_chunk_are_told_apart(found, product, path, monkeypatch):
    cube = Datacube.create(path, product)
    commit = darts_acquisition.cube.transaction.commit

    def late(place, session, message):
        monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", commit)
        Datacube.open(path).write(FIRST, values_of(FIRST, 2))
        commit(place, session, message)

    monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", late)
    with pytest.raises(CubeConflictError, match="nothing of this write was kept"):
        cube.write(FIRST, values_of(FIRST, 1))
    assert cube.read(FIRST).height.values[0, 0] == 2
    # Fetching is content with what the other one has written.
    monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", late)
    assert cube.complete({Chunk(1, 1): values_of(FIRST, 5)}) == [Chunk(1, 1)]


@pytest.mark.slow
def test_two_writers_at_once_complete_one_cube(found, product, path):
    """Both create it, both fill all of its chunks, each in small groups."""
    chunks = [Chunk(row, col) for row in range(4) for col in range(5)]
    written: dict[int, list[Chunk]] = {1: [], 2: []}
    errors: list[BaseException] = []
    start = threading.Barrier(2)

    def work(number: int) -> None:
        try:
            start.wait(10)
            cube = Datacube.open_or_create(path, product)
            mine = chunks if number == 1 else chunks[::-1]
            for first in range(0, len(mine), 4):
                group = {chunk: values_of(FIRST, 10 * chunk.row + chunk.col) for chunk in mine[first : first + 4]}
                written[number] += cube.complete(group)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in written]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]
    assert sorted(written[1] + written[2]) == chunks  # each by one of them
    cube = Datacube.open(path)
    for chunk in chunks:
        assert (cube.read(cube.chunk_geobox(chunk)).height == 10 * chunk.row + chunk.col).all()
    assert verify_cube(path).damaged == {}


@pytest.mark.parametrize("how", mostly_slow(["gone", "emptied", "cut off"], lambda how: how == "cut off"))
def test_damage_is_found_and_repaired(storage, found, product, path, how):
    cube = Datacube.create(path, product)
    cube.write(FIRST, values_of(FIRST, 1))
    cube.write(
        SECOND,
        {
            name: np.random.default_rng(1).permutation(256).reshape(16, 16).astype(values.dtype)
            for name, values in values_of(SECOND, 2).items()
        },
    )
    chunks = {key: size for key, size in objects(storage, path).items() if "/chunks/" in key}
    key = max(chunks, key=chunks.__getitem__)
    content = storage.client().get_object(Bucket="cubes", Key=key)["Body"].read()
    if how == "gone":
        storage.client().delete_object(Bucket="cubes", Key=key)
    else:
        storage.client().put_object(Bucket="cubes", Key=key, Body=b"" if how == "emptied" else content[:-30])
    assert list(verify_cube(path, repair=True).damaged) == [Chunk(0, 1)]
    assert cube.complete({Chunk(0, 1): values_of(SECOND, 7)}) == [Chunk(0, 1)]
    assert verify_cube(path).damaged == {}
    assert (cube.read(SECOND).height == 7).all()


def test_who_died_while_creating_it_leaves_no_cube(found, product, path, monkeypatch):
    def fail(session, product):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("darts_acquisition.cube.datacube.lay_out", fail)
        with pytest.raises(KeyboardInterrupt):
            Datacube.create(path, product)
    with pytest.raises(CubeNotFoundError, match="somebody began to create one"):
        Datacube.open(path)
    cube = Datacube.open_or_create(path, product)
    assert cube.known() == {}


def test_a_place_that_another_process_is_just_taking_is_waited_for(storage, found, product, path):
    begun = path.removeprefix("s3://cubes/") + "/snapshots/begun"
    storage.client().put_object(Bucket="cubes", Key=begun, Body=b"")

    def go_on() -> None:
        storage.client().delete_object(Bucket="cubes", Key=begun)
        with contextlib.suppress(CubeExistsError):  # the one that waits may be faster
            Datacube.create(path, product)

    other = threading.Timer(0.3, go_on)
    other.start()
    try:
        cube = Datacube.open_or_create(path, product)
    finally:
        other.join()
    cube.write(FIRST, values_of(FIRST, 3))
    assert (Datacube.open(path).read(FIRST).height == 3).all()


def test_a_place_that_holds_something_else_is_refused(storage, found, product, path, monkeypatch):
    monkeypatch.setattr("darts_acquisition.cube.repository._LONGEST_CREATION_S", 0.1)
    key = path.removeprefix("s3://cubes/") + "/notes.txt"
    storage.client().put_object(Bucket="cubes", Key=key, Body=b"mine")
    with pytest.raises(CubeError, match=f"^No datacube can be created at {path}: ") as caught:
        Datacube.open_or_create(path, product)
    assert len(str(caught.value).splitlines()) == 1
    assert list(objects(storage, path)) == [key]


def test_missing_keys_are_an_error_of_one_line(storage, found, path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    with pytest.raises(CubeError, match="is no datacube that can be opened") as caught:
        Datacube.open(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("first", "cause", "kind"),
    [
        ("error getting object", "NoSuchKey: The specified key does not exist.", CubeDamagedError),
        (
            "error",
            'Error { code: "InvalidRange", message: "The requested range is not satisfiable" }',
            CubeDamagedError,
        ),
        ("error dispatch failure", "Connection refused (os error 111)", CubeUnreachableError),
        ("error getting object", 'Error { code: "SlowDown", message: "Please reduce" }', CubeUnreachableError),
        ("error getting object", "request has timed out", CubeUnreachableError),
        ("error getting object", "Permission denied (os error 13)", CubeError),
        ("error getting object", 'Error { code: "AccessDenied" }', CubeError),
    ],
)
def test_a_storage_that_cannot_be_reached_is_no_damage(first, cause, kind):
    """A repair must not drop what is not there only for a moment, or only for this user."""
    message = f"  x {first}\n  | \n  | context:\n  |    0: icechunk::get\n  |-> service error\n  `-> {cause}\n"
    with pytest.raises(CubeError) as caught, reading(Location.parse("s3://bucket/cube")):
        raise icechunk.IcechunkError(message)
    assert type(caught.value) is kind
    assert isinstance(caught.value, ConnectionError) == (kind is CubeUnreachableError)
    assert f"{first}: {cause.rstrip('.')}" in str(caught.value)
    assert "s3://bucket/cube" in str(caught.value)


def test_a_storage_that_does_not_answer_is_no_cube_that_is_wrong(monkeypatch):
    monkeypatch.setattr("icechunk.Repository.exists", partial(_fail, "error dispatch failure: Connection refused"))
    for ask in (Datacube.open, partial(Datacube.open_or_create, product=small_product())):
        with pytest.raises(CubeUnreachableError, match="does not answer or is too busy") as caught:
            ask("s3://bucket/cube", s3=S3Settings(endpoint_url="http://127.0.0.1:9", region="us-east-1"))
        assert isinstance(caught.value, ConnectionError)


def _fail(message, *arguments, **options):
    raise icechunk.IcechunkError(message)


class _Lists:
    """A session whose lists of chunks cannot be read."""

    def __init__(self, cause):
        self.cause = cause

    async def chunk_coordinates(self, path):
        raise icechunk.IcechunkError(f"  x session error\n  | \n  `-> {self.cause}\n")
        yield


@pytest.mark.parametrize(
    ("cause", "damaged"),
    [
        ("NoSuchKey: The specified key does not exist.", True),
        ("I/O error", True),
        ("service error: AccessDenied", False),
        ("dispatch failure", False),
    ],
)
def test_lists_that_cannot_be_reached_are_no_damage(cause, damaged):
    """Nobody is told to delete a cube whose storage is down."""
    with pytest.raises(CubeError) as caught:
        check_list(Location.parse("s3://bucket/cube"), _Lists(cause), "state")
    assert isinstance(caught.value, CubeDamagedError) == damaged
    assert ("delete the cube" in str(caught.value)) == damaged
