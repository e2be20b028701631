"""Compiling and spreading work: what happens without a folder to keep machine code in, and where work fails."""

import threading

import numba
import pytest

from darts_preprocessing.backends import jit


def add_one(number):
    return number + 1


def test_kernels_work_where_machine_code_cannot_be_kept(monkeypatch):
    compile_anew = numba.njit

    def njit(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'add_one': no locator available for file")
        return compile_anew(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)
    assert jit.jit(add_one)(2) == 3


def test_every_block_is_done_once_and_on_several_threads(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)
    meeting, seen = threading.Barrier(3, timeout=30), []

    def work(block):
        meeting.wait()  # passes only when three threads are here at once
        seen.append(block)

    jit.run_blocks(work, range(9))
    assert sorted(seen) == list(range(9))


@pytest.mark.parametrize("usable", [1, 3])
def test_as_many_threads_as_cpus_are_usable_where_nothing_else_is_asked_for(monkeypatch, usable):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", numba.config.NUMBA_DEFAULT_NUM_THREADS)
    monkeypatch.setattr(jit, "usable_cpus", lambda: usable)
    meeting, threads = threading.Barrier(usable, timeout=30), set()

    def work(block):
        meeting.wait()
        threads.add(threading.get_ident())

    jit.run_blocks(work, range(9))
    assert len(threads) == usable


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_block_surfaces(monkeypatch, threads):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)

    def work(block):
        if block == 5:
            raise ValueError("block 5")

    with pytest.raises(ValueError, match="block 5"):
        jit.run_blocks(work, range(8))


def test_the_numbers_do_not_depend_on_the_threads(monkeypatch):
    import numpy as np

    from darts_preprocessing.backends import Core
    from darts_preprocessing.backends.cpu import CpuBackend

    dem = np.random.default_rng(0).random((700, 900), dtype=np.float32)
    dem[::53, ::31] = np.nan
    results = []
    for threads in (1, 4):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        results.append(CpuBackend().relative_elevation(dem, Core.whole(dem.shape), 11, 3))
    np.testing.assert_array_equal(*results)
