"""torch's process-wide switches: held by threads that want them alike, put back exactly, in both of their spellings."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from darts_segmentation.precision import computing
from support.segmentation import PixelNetwork, random_tile, segmenter

# Each program in a process of its own, for no switch can be set back to what it is when torch starts.
SCRIPT = """
import os, sys, torch
from darts_segmentation.precision import computing

b = torch.backends
PARTS = (b, b.cudnn, b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn, b.mkldnn.matmul, b.mkldnn.conv)
OLD = (torch.get_float32_matmul_precision, lambda: b.cuda.matmul.allow_tf32, lambda: b.cudnn.allow_tf32)

def old(read):
    try:
        return read()
    except RuntimeError:
        return "mixed"

def read():
    new = [part.fp32_precision for part in PARTS]
    return new + [old(one) for one in OLD] + [b.cudnn.deterministic, b.cudnn.benchmark]

def check(setting):
    exec(setting)
    before = read()
    with computing("cpu", "fp32"):
        inside = [part.fp32_precision for part in (b.cuda.matmul, b.cudnn.conv, b.mkldnn.matmul, b.mkldnn.conv)]
        assert inside == ["ieee"] * 4, inside
        assert b.cudnn.deterministic and not b.cudnn.benchmark
    assert read() == before, (before, read())
    exec(LATER)  # what was inherited is inherited still
    print(read())

LATER = "b.fp32_precision = 'ieee'"

def in_child(work, *arguments):
    sys.stdout.flush()
    if os.fork() == 0:
        try:
            work(*arguments)
        except BaseException as error:
            print("failed:", repr(error))
        sys.stdout.flush()
        os._exit(0)
    os.wait()

def plainly(setting):
    exec(setting)
    exec(LATER)
    print(read())

for setting in sys.argv[1:]:
    in_child(plainly, setting)
    in_child(check, setting)
"""
SETTINGS = (
    "pass",
    "torch.set_float32_matmul_precision('medium'); b.cudnn.benchmark = True",
    "b.cudnn.allow_tf32 = False",
    "b.fp32_precision = 'tf32'",
    "b.cudnn.fp32_precision = 'tf32'; b.mkldnn.conv.fp32_precision = 'bf16'",
)

new_spelling = pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="this torch has the old spelling only (before 2.9)"
)


@new_spelling
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each setting is tried in a process that starts from a clean torch")
@pytest.mark.slow
def test_switches_are_put_back_exactly_in_both_spellings():
    done = subprocess.run([sys.executable, "-c", SCRIPT, *SETTINGS], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(SETTINGS)
    for setting, without, held in zip(SETTINGS, lines[::2], lines[1::2], strict=True):
        assert held == without, setting  # nothing is left, and later changes do what they always do


def test_switches_are_held_until_the_last_thread_that_wants_them_so():
    before = torch.backends.cudnn.deterministic
    first_left, second_in, may_leave = threading.Event(), threading.Event(), threading.Event()

    def second():
        with computing("cpu", "fp32"):
            second_in.set()
            may_leave.wait(60)

    with computing("cpu", "fp32"):
        thread = threading.Thread(target=second)
        thread.start()
        assert second_in.wait(60)  # who wants the same does not wait
    first_left.set()
    held = torch.backends.cudnn.deterministic
    may_leave.set()
    thread.join()
    assert held
    assert torch.backends.cudnn.deterministic == before


def test_switches_are_waited_for_by_who_wants_them_otherwise():
    entered = []
    ready = threading.Event()

    def other():
        ready.set()
        with computing("cpu", "bf16"):
            entered.append((torch.backends.cudnn.deterministic, list(left)))

    left = []
    with computing("cpu", "fp32"):
        thread = threading.Thread(target=other)
        thread.start()
        ready.wait(60)
        time.sleep(0.05)  # enough to enter, were there no need to wait
        assert torch.backends.cudnn.deterministic
        left.append(True)
    thread.join()
    assert entered == [(False, [True])]


def test_switches_are_safe_with_tiles_in_many_threads():
    """Tiles in two formats at once: each comes out as it does alone, and nothing stays switched."""
    tile = random_tile((40, 40))
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    model = segmenter(PixelNetwork((3.0, -2.0, 1.5)))
    alone = {
        precision: model.segment_tile(tile, 16, 4, precision=precision)["probabilities"].values
        for precision in ("fp32", "bf16")
    }
    wrong = []

    def work(precision):
        for _ in range(5):
            found = model.segment_tile(tile, 16, 4, precision=precision)["probabilities"].values
            if not (found == alone[precision]).all():
                wrong.append(precision)

    threads = [threading.Thread(target=work, args=(precision,)) for precision in ("fp32", "bf16", "fp32", "bf16")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == before
