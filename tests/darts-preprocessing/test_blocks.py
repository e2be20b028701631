"""Work spread over threads in blocks: all of it, once, with errors that surface and numbers that do not change."""

import threading
from time import sleep

import numba
import numpy as np
import pytest

from darts_preprocessing.backends import blocks
from darts_preprocessing.backends.cpu import CpuBackend
from support import preprocessing as oracle


def test_every_block_is_done_once_and_on_several_threads(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)
    meeting, seen = threading.Barrier(3, timeout=30), []

    def work(block):
        meeting.wait()  # passes only when three threads are here at once
        seen.append(block)

    blocks.run_blocks(work, range(9))
    assert sorted(seen) == list(range(9))


@pytest.mark.parametrize("usable", [1, 3])
def test_as_many_threads_as_cpus_are_usable_where_nothing_else_is_asked_for(monkeypatch, usable):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", numba.config.NUMBA_DEFAULT_NUM_THREADS)
    monkeypatch.setattr(blocks, "usable_cpus", lambda: usable)
    meeting, threads = threading.Barrier(usable, timeout=30), set()

    def work(block):
        meeting.wait()
        threads.add(threading.get_ident())

    blocks.run_blocks(work, range(9))
    assert len(threads) == usable


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_block_surfaces(monkeypatch, threads):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)

    def work(block):
        if block == 5:
            raise ValueError("block 5")

    with pytest.raises(ValueError, match="block 5"):
        blocks.run_blocks(work, range(8))


def test_after_an_error_no_block_is_begun(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    failed, begun = threading.Event(), []

    def work(block):
        begun.append(block)
        if block == 0:
            failed.set()
            raise ValueError("block 0")
        failed.wait(30)
        sleep(0.01)

    with pytest.raises(ValueError, match="block 0"):
        blocks.run_blocks(work, range(1000))
    assert len(begun) < 1000


def test_the_numbers_do_not_depend_on_the_threads(monkeypatch):
    dem = np.random.default_rng(0).random((700, 900), dtype=np.float32)
    dem[::53, ::31] = np.nan
    results = []
    for threads in (1, 4):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        radii = {"relative_elevation": (11, 3)}
        results += oracle.run_kernels(CpuBackend(), [*radii], {"dem": dem}, settings=radii).values()
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (8, 10), (9, 11), (3, 0), (0, 3)])
def test_blocks_cover_each_cell_once(shape):
    covered = np.zeros(shape, dtype=int)
    for top, left, rows, cols in blocks.iterate_blocks(shape, 4, 5):
        assert 1 <= rows <= 4
        assert 1 <= cols <= 5
        covered[top : top + rows, left : left + cols] += 1
    assert (covered == 1).all()


def test_scratch_is_kept_by_name_and_apart_by_thread():
    scratch = blocks.Scratch()
    large = scratch.array("a", (4, 5))
    large[:] = 7
    smaller = scratch.array("a", (2, 3))
    assert smaller.flags.c_contiguous
    assert np.shares_memory(large, smaller)
    assert not np.shares_memory(large, scratch.array("b", (4, 5)))
    assert scratch.array("a", (2, 3), np.float32).dtype == np.float32
    other = []
    thread = threading.Thread(target=lambda: other.append(scratch.array("b", (4, 5))))
    thread.start()
    thread.join()
    assert not np.shares_memory(other[0], scratch.array("b", (4, 5)))
