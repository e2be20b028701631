"""Samples: what a network is trained on is what inference sends to it, with labels where they belong."""

import errno
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from skimage.draw import polygon2mask

from darts_evaluation import make_labels
from darts_segmentation import Channel
from darts_training import (
    RepeatedTileWarning,
    SampleFormat,
    SamplesError,
    WritingError,
    begin_samples,
    burn_labels,
    count_outside,
    digest_labels,
    finish_samples,
    make_folds,
    read_samples,
    write_tile_samples,
)
from darts_utils import BANDS, ParameterError, get_band
from support.segmentation import random_tile, segmenter
from support.training import CHANNELS, CRS, labelled_tile, make_samples


class Recorder(torch.nn.Module):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, patches):
        self.seen += list(patches.clone())
        return patches[:, :1] * 0


FEATURES = tuple(
    name
    for name in BANDS.data_model
    if get_band(name).dtype == "float32" and np.isfinite([get_band(name).low, get_band(name).high]).all()
)


@pytest.mark.parametrize(("shape", "size", "overlap"), [((70, 90), 32, 8), ((20, 31), 64, 0), ((64, 64), 32, 16)])
def test_training_patches_are_those_of_inference_bit_by_bit(tmp_path, shape, size, overlap):
    made, labels = labelled_tile(0, size=max(shape))
    tile = random_tile(shape, FEATURES, seed=size, missing=0.2)
    hole = np.zeros(shape, bool)
    hole[: size + 3, : size + 5] = shape[0] > size
    tile = tile.where(~hole).assign_coords(xr_coords(made.odc.geobox[: shape[0], : shape[1]]))
    bands = [get_band(name) for name in FEATURES]
    form = SampleFormat(
        channels=tuple(Channel(band.name, band.low, band.high) for band in bands), patch_size=size, overlap=overlap
    )
    begin_samples(tmp_path, form)
    write_tile_samples(tmp_path, form, tile, "tile", labels)
    samples = finish_samples(tmp_path)
    recorder = Recorder()
    segmenter(recorder, FEATURES).segment_tile(tile, size, overlap, batch_size=3)
    assert len(recorder.seen) == samples.count > 0
    for index, sent in enumerate(recorder.seen):
        stored, _ = samples.tiles[0].read(index)
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(stored.view(np.uint32), sent.numpy().copy().view(np.uint32))


def test_labels_lie_where_their_outlines_do():
    rng = np.random.default_rng(4)
    made, _ = labelled_tile(0, size=60)
    geobox = made.odc.geobox
    corners = np.array([[10, 12], [14, 40], [35, 44], [30, 15]]) + rng.random((4, 2))  # rows and columns
    to_map = [geobox.affine * (column, row) for row, column in corners]
    area = shapely.box(*(geobox.affine * (0, 50)), *(geobox.affine * (55, 0)))
    labels = make_labels(
        gpd.GeoDataFrame(geometry=[shapely.Polygon(to_map)], crs=CRS).to_crs("EPSG:3413"),
        gpd.GeoSeries([area], crs=CRS),
    )
    usable = rng.random((60, 60)) > 0.1
    found = burn_labels(labels, CRS, geobox.affine, usable, ignore_border=3)
    truth = polygon2mask((60, 60), corners - 0.5)
    rows, columns = np.nonzero(truth)
    grid = np.stack(np.mgrid[:60, :60], axis=-1)[:, :, None]
    distance = np.hypot(*np.moveaxis(grid - np.stack([rows, columns], axis=-1), -1, 0)).min(axis=-1)
    complete = np.zeros((60, 60), bool)
    complete[:50, :55] = True
    expected = np.where(truth, 1, np.where(distance <= 3, 255, 0))
    expected[~(usable & complete)] = 255
    assert (found != expected).sum() <= 4  # pixels whose centre lies on an edge, after two transformations


def test_a_border_around_slumps_does_not_end_with_the_tile():
    """Labels of a window are those of the whole, also where the slump itself lies beyond it."""
    tile, labels = labelled_tile(0)
    geobox, shape = tile.odc.geobox, tile["red"].shape
    whole = burn_labels(labels, CRS, geobox.affine, np.ones(shape, bool), ignore_border=5)
    differ = 0
    for row, column in ((0, 0), (13, 29), (37, 11), (21, 43)):
        size = min(shape[0] - row, shape[1] - column)
        grid = geobox.affine @ geobox.affine.translation(column, row)
        part = burn_labels(labels, CRS, grid, np.ones((size, size), bool), ignore_border=5)
        assert (part == whole[row : row + size, column : column + size]).all()
        differ += int((part == 255).sum())
    assert differ


def test_labels_outside_the_area_are_counted():
    _tile, labels = labelled_tile(0)
    far = gpd.GeoSeries([shapely.box(9e5, 7e6, 9.1e5, 7.1e6)], crs=CRS)
    assert count_outside(labels) == 0
    assert count_outside(make_labels(labels.outlines, far)) == len(labels.outlines)
    beyond = make_labels(labels.outlines.to_crs("EPSG:4326").translate(xoff=360).to_frame("geometry"), far)
    assert count_outside(make_labels(beyond.outlines, labels.outlines.buffer(5))) == 0


def test_the_digest_of_labels_is_that_of_their_shapes():
    _tile, labels = labelled_tile(0)
    outlines, area = labels.outlines, gpd.GeoSeries([labels.area], crs=CRS)
    assert digest_labels(make_labels(outlines[::-1], area)) == digest_labels(labels)
    others = [(outlines[1:], area), (outlines, None), (outlines, area.buffer(1)), (outlines.to_crs("EPSG:3413"), area)]
    assert len({digest_labels(each) for each in (labels, *(make_labels(*other) for other in others))}) == 5


def test_pixels_of_bad_quality_are_not_labelled(tmp_path):
    tile, labels = labelled_tile(0)
    quality = np.full(tile["red"].shape, 1, np.uint8)
    quality[40:] = 0
    form = SampleFormat(channels=CHANNELS, patch_size=96)
    begin_samples(tmp_path, form)
    write_tile_samples(tmp_path, form, tile.assign(quality_data_mask=(("y", "x"), quality)), "a", labels)
    _, found = finish_samples(tmp_path).tiles[0].read(0)
    inside = found[8:88, 8:88]
    assert (inside[40:] == 255).all()
    assert (inside[:40][~np.isnan(tile["red"].values[:40])] != 255).all()


def test_what_is_there_stays_and_other_samples_are_refused(tmp_path):
    samples = make_samples(tmp_path)
    assert begin_samples(tmp_path, samples.format) == {"tile-0", "tile-1"}
    assert read_samples(tmp_path).digest == samples.digest
    with pytest.raises(SamplesError, match="another folder"):
        begin_samples(tmp_path, SampleFormat(channels=CHANNELS, patch_size=32))
    table = gpd.read_parquet(tmp_path / "samples.parquet")
    assert len(table) == samples.count
    assert set(table["tile_id"]) == {"tile-0", "tile-1"}
    assert table["time"].iloc[0] == "2021-01-02T03:04:05Z"


def test_samples_that_nobody_digests_are_described_as_by_the_release_before(tmp_path):
    """Their digest is what tells a model of that release that it has seen them."""
    form = SampleFormat(channels=CHANNELS, patch_size=96)
    assert list(form.to_json()) == ["channels", "patch_size", "overlap", "ignore_border", "dtype", "source", "format"]
    for each in (form, replace(form, made_with="ab")):
        assert SampleFormat.from_json(each.to_json(), tmp_path) == each


def test_a_tile_under_two_names_is_named(tmp_path):
    make_samples(tmp_path, seeds=(0, 1, 2))
    tile, labels = labelled_tile(1, west=502_000)
    for name in ("z", "b"):
        write_tile_samples(tmp_path, SampleFormat(channels=CHANNELS, patch_size=64, overlap=16), tile, name, labels)
    with pytest.warns(RepeatedTileWarning, match=r"in a training: b and tile-1 and z\. Remove") as caught:
        assert len(finish_samples(tmp_path).tiles) == 5
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize("name", ["63/014", "../beside", r"a\b", ".hidden", " ", "", None, 5])
def test_names_under_which_no_samples_are_found_are_refused(tmp_path, name):
    form = SampleFormat(channels=CHANNELS, patch_size=64)
    tile, labels = labelled_tile(0)
    begin_samples(tmp_path / "samples", form)
    with pytest.raises(SamplesError, match=r"A tile is called .*; expected a text without slashes"):
        write_tile_samples(tmp_path / "samples", form, tile, name, labels)
    assert not list(tmp_path.rglob("*.zarr"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 64.5}, "patch_size is 64.5"),
        ({"overlap": 64}, "overlap is 64; expected whole pixels, 0 to 63"),
        ({"ignore_border": -1}, "ignore_border is -1"),
        ({"dtype": "int8"}, "dtype is 'int8'; expected 'float32' or 'float16'"),
        ({"channels": ()}, "no channels"),
    ],
)
def test_options_by_which_no_samples_can_be_made_are_refused(tmp_path, options, message):
    form = SampleFormat(**({"channels": CHANNELS, "patch_size": 64} | options))
    tile, labels = labelled_tile(0)
    with pytest.raises(ParameterError, match=message):
        begin_samples(tmp_path / "samples", form)
    with pytest.raises(ParameterError, match=message):
        write_tile_samples(tmp_path / "samples", form, tile, "a", labels)
    assert not (tmp_path / "samples").exists()


def test_damaged_samples_are_one_sentence(tmp_path):
    make_samples(tmp_path)
    chunk = next(path for path in (tmp_path / "tiles" / "tile-0.zarr" / "x" / "c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 0xFF
    chunk.write_bytes(content)
    tile = read_samples(tmp_path).tiles[0]
    with pytest.raises(SamplesError, match=r"tile-0\.zarr are damaged"):
        [tile.read(index) for index in range(len(tile))]
    (tmp_path / "tiles" / "tile-1.zarr" / "zarr.json").write_text("{")
    with pytest.raises(SamplesError, match=r"tile-1\.zarr are damaged"):
        read_samples(tmp_path)
    with pytest.raises(SamplesError, match="holds no samples"):
        read_samples(tmp_path / "tiles")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    form = SampleFormat(channels=CHANNELS, patch_size=64)
    begin_samples(tmp_path, form)
    tile, labels = labelled_tile(0)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zarr.create_group", full)
    with pytest.raises(WritingError, match="No space left on device"):
        write_tile_samples(tmp_path, form, tile, "a", labels)
    assert not list((tmp_path / "tiles").iterdir())


def test_samples_without_slumps_cannot_be_divided(tmp_path):
    with pytest.raises(SamplesError, match="nothing to learn"):
        make_folds(make_samples(tmp_path, slumps=0), 2, block_m=200, buffer_m=0)


def test_the_table_lays_patches_across_180_degrees_out_on_both_sides(tmp_path):
    left, top = 386_370.0, 7_802_710.0  # 180° runs through the middle
    made, _ = labelled_tile(0)
    height, width = made.odc.geobox.shape
    left += 800 - width * 5
    geobox = GeoBox((height, width), Affine(10, 0, left, 0, -10, top), "EPSG:32601")
    tile = made.drop_vars("spatial_ref").assign_coords(xr_coords(geobox))
    whole = gpd.GeoDataFrame(geometry=[shapely.box(*geobox.boundingbox.bbox)], crs="EPSG:32601").to_crs("EPSG:3413")
    form = SampleFormat(channels=CHANNELS, patch_size=32)
    begin_samples(tmp_path, form)
    write_tile_samples(tmp_path, form, tile, "tile", make_labels(whole, whole), least_quality=0)
    finish_samples(tmp_path)
    table = gpd.read_parquet(tmp_path / "samples.parquet")
    assert len(table) > 1
    geod = pyproj.Geod(ellps="WGS84")
    areas = [abs(geod.geometry_area_perimeter(shape)[0]) for shape in table.geometry]
    assert areas == pytest.approx([320.0**2] * len(table), rel=0.002)
    assert {shape.geom_type for shape in table.geometry} == {"Polygon", "MultiPolygon"}


def test_tiles_of_one_name_from_two_folders_are_told_apart(tmp_path):
    """Samples of two years are brought together by renaming a group; the name inside it stays."""
    make_samples(tmp_path / "one", seeds=(0, 1))
    make_samples(tmp_path / "other", seeds=(0,), size=100)
    (tmp_path / "other" / "tiles" / "tile-0.zarr").rename(tmp_path / "one" / "tiles" / "tile-0-later.zarr")
    samples = finish_samples(tmp_path / "one")
    assert [(tile.tile_id, tile.shape) for tile in samples.tiles] == [
        ("tile-0-later", (100, 100)),
        ("tile-0", (80, 80)),
        ("tile-1", (80, 80)),
    ]
    table = gpd.read_parquet(tmp_path / "one" / "samples.parquet")
    assert sorted(set(table["tile_id"])) == ["tile-0", "tile-0-later", "tile-1"]
