"""What a check says of tables that are as they were written, and wrong."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import shapely

from darts_dataset import DatasetError, check, info
from darts_dataset.memory import digest_of, file_digest

DETECTIONS, OBJECTS = "level1/source=PlanetScope/year=2019/detections.parquet", "level2/year=2019/objects.parquet"
SEEN, LINKS = "coverage/year=2019/seen.parquet", "links.parquet"
BOW = shapely.to_wkb(shapely.MultiPolygon([shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])]))


def with_value(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(column)
    return table.set_column(table.column_names.index(column), field, pa.array(values, field.type))


def more(table: pa.Table, column: str, row: int, factor: float) -> pa.Table:
    return with_value(table, column, row, table[column].to_pylist()[row] * factor)


WRONG = {
    "area": (OBJECTS, lambda t: more(t, "area_m2", 3, 1.00001), "1 areas in area_m2 are not those of geometry"),
    "majority": (
        OBJECTS,
        lambda t: more(t, "majority_area_m2", 4, 2),
        "in majority_area_m2 are not those of majority",
    ),
    "id": (
        OBJECTS,
        lambda t: with_value(t, "object_id", 0, t["object_id"].to_pylist()[1]),
        "1 ids are there more",
    ),
    "hits": (OBJECTS, lambda t: with_value(t, "n_hits", 2, 9), "objects have more hits than looks"),
    "twice": (OBJECTS, lambda t: with_value(t, "detections", 2, t["detections"].to_pylist()[1]), "belongs to several"),
    "lost": (
        OBJECTS,
        lambda t: with_value(t, "detections", 2, ["nobody"]),
        "1 detections are not in level 1, nobody",
    ),
    "bow": (DETECTIONS, lambda t: with_value(t, "geometry", 4, BOW), "1 geometries in geometry are not valid"),
    "bow majority": (OBJECTS, lambda t: with_value(t, "majority", 4, BOW), "1 geometries in majority are not valid"),
    "column": (DETECTIONS, lambda t: t.rename_columns([f"{name}s" for name in t.column_names]), "has the columns"),
    "type": (DETECTIONS, lambda t: t.set_column(13, "npixel", pc.cast(t["npixel"], "int32")), "has the columns"),
    "seen": (
        SEEN,
        lambda t: t.drop_columns(["n_looks"]),
        "has the columns hemisphere (string), area_km2 (double); expected",
    ),
    "link": (LINKS, lambda t: with_value(t, "object_id_to", 0, "nobody"), "leads to 1 objects that are nowhere"),
    "links": (LINKS, lambda t: t.drop_columns(["relation"]), "links.parquet has the columns"),
}


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built.path, tmp_path / "copy")


def rewrite(folder: Path, name: str, table: pa.Table) -> None:
    """Write a table as it should not be, and say that it should be so."""
    path = folder / name
    before = file_digest(path)
    geo = (pq.read_schema(path).metadata or {}).get(b"geo")
    if geo is not None and "geometry" not in table.column_names:
        geo = json.dumps(json.loads(geo) | {"columns": {}})
    pq.write_table(table.replace_schema_metadata({"geo": geo} if geo else None), path)
    checksums = folder / "checksums.sha256"
    lines = checksums.read_text().replace(f"{before}  {name}", f"{file_digest(path)}  {name}").splitlines()
    listed = {file: digest for digest, file in (line.split("  ") for line in lines) if file != "dataset.json"}
    about = folder / "dataset.json"
    about.write_text(json.dumps(json.loads(about.read_text("utf-8")) | {"files": digest_of(listed)}), "utf-8")
    listed["dataset.json"] = file_digest(about)
    checksums.write_text("".join(f"{digest}  {file}\n" for file, digest in listed.items()))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_table_is_said(copy, name, monkeypatch):
    monkeypatch.setattr("darts_dataset.tables._ROWS", 2)
    file, change, said = WRONG[name]
    rewrite(copy, file, change(pq.read_table(copy / file, partitioning=None)))
    failures = check(copy).failures
    assert any(said in failure and failure.startswith(file) for failure in failures), failures


def test_a_table_that_is_written_again_as_it_was_is_right(copy, monkeypatch):
    monkeypatch.setattr("darts_dataset.tables._ROWS", 2)
    for file in (DETECTIONS, OBJECTS, SEEN, LINKS):
        rewrite(copy, file, pq.read_table(copy / file, partitioning=None))
    assert check(copy).failures == ()


def test_files_that_are_missing_or_added_are_named(copy):
    (copy / SEEN).unlink()
    (copy / "more.txt").write_text("")
    found = check(copy)
    assert (found.failures, found.notes) == ((f"{SEEN} is missing.",), ("more.txt does not belong to the dataset.",))


@pytest.mark.parametrize("lost", ["", "/year=2020/", "links.parquet"])
def test_checksums_that_are_lost_are_no_sound_dataset(copy, lost):
    """A transfer that broke off, or whoever made the checksums again of what is left, hides what is missing."""
    checksums = copy / "checksums.sha256"
    lines = checksums.read_text().splitlines(keepends=True)
    for line in lines if lost else ():
        if lost in line:
            (copy / line.split("  ")[1].strip()).unlink()
    checksums.write_text("".join(line for line in lines if lost not in line))
    assert check(copy).failures[0].startswith("checksums.sha256 was changed: it does not list the files")


def test_a_year_in_several_files_is_checked_and_counted_as_one(copy):
    """An object that is in two files of a year has its id, and its detections, twice."""
    counted = info(copy)
    table = pq.read_table(copy / OBJECTS, partitioning=None)
    more = OBJECTS.replace("objects", "objects-00001")
    (copy / more).write_bytes((copy / OBJECTS).read_bytes())
    rewrite(copy, OBJECTS, table.slice(0, 3))
    rewrite(copy, more, table.slice(3))
    assert not any("more than once" in failure for failure in check(copy).failures)
    assert info(copy) == counted
    rewrite(copy, more, table.slice(2))
    found = [failure for failure in check(copy).failures if failure.startswith("level2/year=2019: ")]
    assert len(found) == 2
    assert "1 ids are there more than once" in found[0]
    assert "belongs to several" in found[1]


def test_a_dataset_in_another_format_is_refused_with_what_it_is(copy):
    about = copy / "dataset.json"
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(
        DatasetError, match=r"holds a dataset in format 2; this release reads 1\. Build it again"
    ) as raised:
        check(copy)
    assert "holds no dataset" not in str(raised.value)
