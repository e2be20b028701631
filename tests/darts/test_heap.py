"""Memory that was freed is used again while a run's network works, without asking the kernel for it."""

import os
import platform
import subprocess
import sys
import textwrap

import pytest

from darts.run.heap import SWITCH, free_in_heap

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, whose heap is kept")

_WORK = """
    import resource, threading
    import numpy as np
    from darts.run.heap import free_in_heap, kept_heap

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    counted = []

    def work():
        for _ in range(6):
            before = faults()
            array = np.ones(8_000_000)  # 64 MB, as large as a network's activations
            del array
            counted.append(faults() - before)

    def in_a_thread():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    with kept_heap():
        in_a_thread()
        held = free_in_heap()
    after_block = free_in_heap()
    work()
    print(max(counted[1:6]), held, after_block, min(counted[7:]))
"""


def _measure(**environment: str) -> tuple[int, int, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_WORK)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=True,
    )
    kept, held, after, plain = map(int, done.stdout.split())
    return kept, held, after, plain


@glibc
def test_freed_memory_stays_with_the_process_until_the_block_ends() -> None:
    kept, held, after, plain = _measure()
    pages = 8_000_000 * 8 // os.sysconf("SC_PAGE_SIZE")
    assert kept < pages / 100
    assert held > 60_000_000 > after
    assert plain > pages * 0.9 / 512, "behind the block the kernel gives and takes again"


@glibc
def test_the_switch_leaves_the_heap_alone() -> None:
    kept, held, _, _ = _measure(**{SWITCH: "0"})
    assert held == 0
    assert kept > 8_000_000 * 8 / os.sysconf("SC_PAGE_SIZE") / 512


def test_what_is_free_is_a_number_everywhere() -> None:
    assert free_in_heap() >= 0
