"""How exactly the networks compute: switches of torch that are set for a while and then put back."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

from darts_segmentation.engine import NumberFormat


class _Switches:
    """What torch has set for the whole process, held by as many threads as want it alike.

    The first of them sets it, the last one puts it back as it was; who wants it otherwise waits for that.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders = 0
        self._exact = False
        self._before = contextlib.ExitStack()

    @contextlib.contextmanager
    def held(self, *, exact: bool) -> Iterator[None]:
        """Hold the switches.

        Args:
            exact: Algorithms of cuDNN that give the same result each time, rather than the fastest ones.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._holders or self._exact == exact)
            if not self._holders:
                self._exact = exact
                self._before.enter_context(_cudnn(deterministic=exact, benchmark=not exact))
                self._before.enter_context(_full_float32())
            self._holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._holders -= 1
                if not self._holders:
                    self._before.close()
                    self._changed.notify_all()


_switches = _Switches()  # one, because there is one of what it holds


@contextlib.contextmanager
def computing(device_type: str, number_format: NumberFormat) -> Iterator[None]:
    """Run networks without gradients in a number format; afterwards torch is set as it was before.

    "fp32" means float32 all the way: no TF32, and on the GPU only algorithms that give the same result each time. In
    the other formats the layers that bear it compute in 16 bits, the others in float32, and cuDNN picks its fastest
    algorithms. Threads may do so at once; those that compute in "fp32" and the others wait for each other.

    Args:
        device_type: "cpu" or "cuda".
        number_format: How to compute.
    """
    exact = number_format == "fp32"
    dtype = {"fp32": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}[number_format]
    with (
        _switches.held(exact=exact),
        torch.inference_mode(),
        torch.autocast(device_type, dtype=dtype, enabled=not exact),
    ):
        yield


@contextlib.contextmanager
def _cudnn(*, deterministic: bool, benchmark: bool) -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Switch off whatever computes float32 with fewer bits: TF32 on GPUs, bfloat16 on CPUs.

    In the spelling of torch 2.9 and later, and in that alone, for torch refuses to read one after the other was set.
    """
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):
        before = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("highest")
        backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            backends.cudnn.allow_tf32 = before[1]
        return
    # The first is what the others inherit: what still differs when it is set was set for itself.
    mkldnn, cudnn = backends.mkldnn, backends.cudnn
    changed: list[tuple[Any, str]] = []
    try:
        for switch in (backends, cudnn, backends.cuda.matmul, cudnn.conv, mkldnn.matmul, mkldnn.conv):
            if switch.fp32_precision != "ieee":
                changed.append((switch, switch.fp32_precision))
                switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in reversed(changed):
            switch.fp32_precision = value
