"""Every backend against scikit-image and scipy, over random images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darts_postprocessing.backends.cuda import CudaBackend
from support.cupy_standin import StandInCupy, label
from support.postprocessing import binarize_plainly, erode_plainly, make_scene

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
sizes = st.one_of(st.integers(0, 6), st.integers(0, 60))
splits = st.tuples(st.sampled_from([1, 16, 100, 1 << 20]), st.integers(1, 4))


@st.composite
def masks(draw, shape=shapes, dtype=None):
    """A mask of some density, any dtype, laid out in memory in any way."""
    shape = draw(shape) if not isinstance(shape, tuple) else shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    usable = rng.random(shape) < draw(st.sampled_from([0, 0.1, 0.5, 0.9, 0.98, 0.998, 1]))
    dtype = dtype or draw(st.sampled_from([bool, "u1", "i2", "f4", ">f8"]))
    mask = usable.astype(dtype)
    if mask.dtype.kind == "u":
        mask *= 2
    if mask.dtype.kind == "i":
        mask[~usable] = -1
    if mask.dtype.kind == "f":
        mask[~usable & (rng.random(shape) < 0.5)] = np.nan
    return draw(layouts(mask))


@st.composite
def layouts(draw, array):
    """The same array row by row, column by column, or as every second pixel of a larger one."""
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed"]))
    if layout == "strided":
        larger = np.zeros([2 * side for side in array.shape], array.dtype)
        larger[::2, ::2] = array
        return larger[::2, ::2]
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1])[::-1]
    return np.array(array, order=layout)


@st.composite
def images(draw):
    """Probabilities with NaN, of many densities, and a mask of the same shape."""
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probs = rng.random(shape).astype(draw(st.sampled_from(["f4", "f8", "f2", ">f4"])))
    probs **= draw(st.sampled_from([0.3, 1, 2, 5]))
    probs[rng.random(shape) < draw(st.sampled_from([0, 0.1]))] = np.nan
    mask = draw(st.one_of(st.none(), masks(shape=shape)))
    return draw(layouts(probs)), mask


def run(backend, kernel, array, *arguments):
    """Call a kernel with host arrays, and check that it changed none."""
    arrays = [array, *(each for each in arguments if isinstance(each, np.ndarray))]
    before = [each.tobytes() for each in arrays]
    with backend.active():
        values = [backend.to_device(each) if isinstance(each, np.ndarray) else each for each in (array, *arguments)]
        result = backend.give_back(getattr(backend, kernel)(*values), array)
    assert [each.tobytes() for each in arrays] == before
    assert type(result) is np.ndarray
    return result


@given(mask=masks(), size=sizes, edge_size=st.integers(0, 25), split=splits)
@example(mask=np.zeros((1, 1), bool), size=0, edge_size=0, split=(1, 1))
@example(mask=np.ones((1, 1), bool), size=3, edge_size=0, split=(1, 1))
def test_erosion_is_scipys_with_the_full_disk(backend, small_blocks, mask, size, edge_size, split):
    with small_blocks(*split):
        eroded = run(backend, "erode", mask, size, edge_size)
    assert eroded.dtype == np.uint8
    np.testing.assert_array_equal(eroded, erode_plainly(mask, size, edge_size))


@pytest.mark.parametrize("size", [*range(1, 40), 126, 127, 128, 150])
def test_one_pixel_clears_a_disk(backend, size):
    """Where a radius changes the type of numbers that is used, too."""
    rows, columns = np.mgrid[-size - 2 : size + 3, -size - 2 : size + 3]
    mask = (rows != 0) | (columns != 0)
    np.testing.assert_array_equal(run(backend, "erode", mask, size, 0), rows**2 + columns**2 > size**2)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_images_without_pixels(backend, shape):
    assert run(backend, "erode", np.ones(shape, bool), 2, 1).shape == shape
    assert run(backend, "binarize", np.ones(shape, np.float32), 0.5, 2, np.ones(shape, bool)).shape == shape
    assert run(backend, "mask_out", np.ones(shape, np.float32), np.ones(shape, bool)).shape == shape


def test_a_disk_larger_than_the_image_clears_it(backend):
    mask = np.ones((7, 9), bool)
    assert run(backend, "erode", mask, 10**9, 0).all()
    mask[6, 8] = False
    assert not run(backend, "erode", mask, 10**9, 0).any()


@given(image=images(), threshold=st.sampled_from([0, 0.25, 0.5, 0.9, 1]), size=st.integers(0, 40), split=splits)
def test_objects_are_scikit_images(backend, small_blocks, image, threshold, size, split):
    probs, mask = image
    with small_blocks(*split):
        objects = run(backend, "binarize", probs, float(threshold), size, mask)
    assert objects.dtype == bool
    everywhere = np.ones(probs.shape, bool)
    np.testing.assert_array_equal(
        objects, binarize_plainly(probs, threshold, size, everywhere if mask is None else mask)
    )


@pytest.mark.parametrize("columns", [7, 8])
def test_rows_do_not_join_around_the_edge(backend, columns):
    """The last pixel of a row and the first of the next one or the one after are no neighbours."""
    probs = np.zeros((4, columns), np.float32)
    probs[0, -1] = probs[1, 0] = probs[2, 0] = probs[2, -1] = 1
    assert run(backend, "binarize", probs, 0.5, 2, None).sum() == 2


@given(shape=shapes, size=st.integers(1, 12), split=splits)
def test_a_diagonal_chain_is_one_object(backend, small_blocks, shape, size, split):
    probs = np.eye(*shape, dtype=np.float32)
    with small_blocks(*split):
        kept = run(backend, "binarize", probs, 0.5, size, None)
        kept_mirrored = run(backend, "binarize", probs[:, ::-1], 0.5, size, None)
    expected = probs.astype(bool) if min(shape) >= size else np.zeros(shape, bool)
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(kept_mirrored, expected[:, ::-1])


def test_an_object_of_exactly_the_limit_stays(backend):
    probs = np.zeros((6, 40), np.float32)
    probs[1:5, 2:10] = 0.9  # 32 pixels
    probs[1:5, 20:28] = 0.9
    probs[1, 20] = 0  # 31 pixels
    objects = run(backend, "binarize", probs, 0.5, 32, None)
    assert objects[:, :15].sum() == 32
    assert not objects[:, 15:].any()


def test_one_pixel_outside_removes_the_whole_object(backend):
    probs = np.zeros((5, 20), np.float32)
    probs[1:4, 1:8] = probs[1:4, 10:18] = 0.9
    mask = np.ones(probs.shape, np.uint8)
    mask[:, 0] = 0  # beside the first object, not in it
    mask[2, 17] = 0
    objects = run(backend, "binarize", probs, 0.5, 1, mask)
    np.testing.assert_array_equal(objects[:, :9], probs[:, :9] > 0)
    assert not objects[:, 9:].any()


@given(image=images(), split=splits)
def test_probabilities_outside_the_mask_are_nan(backend, small_blocks, image, split):
    probs, mask = image
    mask = np.ones(probs.shape, bool) if mask is None else mask
    with small_blocks(*split):
        masked = run(backend, "mask_out", probs, mask)
    assert masked.dtype == probs.dtype.newbyteorder("=")
    np.testing.assert_array_equal(masked, np.where(mask > 0, probs, np.nan))


@given(levels=hnp.arrays(np.uint8, shapes, elements=st.integers(0, 2)), level=st.integers(0, 2))
def test_levels(backend, levels, level):
    reached = run(backend, "at_least", levels, level)
    assert reached.dtype == np.uint8
    np.testing.assert_array_equal(reached, levels >= level)


@settings(max_examples=2)
@given(seed=st.integers(0, 1000))
def test_a_scene_of_many_blocks(backend, seed):
    """With the real size of blocks, more than one of them."""
    probs, quality = make_scene(1100, 300, seed)
    eroded = run(backend, "erode", quality, 10, 10)
    np.testing.assert_array_equal(eroded, erode_plainly(quality, 10, 10))
    objects = run(backend, "binarize", probs, 0.5, 32, eroded)
    np.testing.assert_array_equal(objects, binarize_plainly(probs, 0.5, 32, eroded))
    assert 0 < objects.sum() < (probs > 0.5).sum()


def test_several_threads_at_once(backend, small_blocks):
    scenes = [make_scene(200, 30, seed) for seed in range(8)]

    def work(scene):
        eroded = run(backend, "erode", scene[1], 4, 4)
        return eroded, run(backend, "binarize", scene[0], 0.5, 12, eroded)

    with small_blocks(2000, 3), ThreadPoolExecutor(4) as pool:
        for (probs, quality), (eroded, objects) in zip(scenes, pool.map(work, scenes), strict=True):
            np.testing.assert_array_equal(eroded, erode_plainly(quality, 4, 4))
            np.testing.assert_array_equal(objects, binarize_plainly(probs, 0.5, 12, eroded))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "?"])
@pytest.mark.parametrize("threshold", [0, 0.5, 50.5, 254.95, 255, 300.5, 1e30])
def test_whole_numbers_compare_with_fractions_as_numbers_do(backend, dtype, threshold):
    values = np.array([[0, 1, 50, 51, 127, 254, 255]]).astype(dtype)
    found = run(backend, "binarize", values, float(threshold), 1, None)
    np.testing.assert_array_equal(found, values.astype(np.float64) > threshold)


@pytest.mark.parametrize(
    ("kernel", "arguments"),
    [("at_least", (1,)), ("erode", (2, 1)), ("mask_out", (np.ones((5, 6), bool),)), ("binarize", (0.5, 2, None))],
)
def test_the_stand_in_catches_a_host_array_where_one_of_the_device_belongs(kernel, arguments):
    backend = CudaBackend(StandInCupy(), label, 0)
    image = np.ones((5, 6), np.float32)
    ours = [backend.to_device(each) if isinstance(each, np.ndarray) else each for each in arguments]
    getattr(backend, kernel)(backend.to_device(image), *ours)
    with pytest.raises(TypeError, match="Unsupported type"):
        getattr(backend, kernel)(image, *ours)
    if any(isinstance(each, np.ndarray) for each in arguments):
        with pytest.raises(TypeError, match="Unsupported type"):
            getattr(backend, kernel)(backend.to_device(image), *arguments)
