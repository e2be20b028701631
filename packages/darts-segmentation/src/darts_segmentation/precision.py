"""How exactly the networks compute: switches of torch that are set for a while and then put back."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, get_args

from darts_utils import ParameterError

Precision = Literal["fp32", "bf16", "fp16", "auto"]
"""The precisions that callers may ask for."""

NumberFormat = Literal["fp32", "bf16", "fp16"]

# Where torch decides whether float32 is computed with fewer bits: TF32 on GPUs, bfloat16 on CPUs.
_SWITCHES = (("cuda", "matmul"), ("cudnn", "conv"), ("mkldnn", "matmul"), ("mkldnn", "conv"))


def check_precision(precision: str) -> Precision:
    """Return `precision` if it is one of "fp32", "bf16", "fp16", "auto".

    Raises:
        ParameterError: If it is not.
    """
    if precision not in get_args(Precision):
        raise ParameterError(
            f"precision is {precision!r}; expected one of {', '.join(map(repr, get_args(Precision)))}."
        )
    return precision  # type: ignore[return-value]  # just checked


@contextlib.contextmanager
def computing(device_type: str, number_format: NumberFormat) -> Iterator[None]:
    """Run networks without gradients in a number format; afterwards torch is set as it was before.

    "fp32" means float32 all the way: no TF32, and on the GPU only algorithms that give the same result each time. In
    the other formats the layers that bear it compute in 16 bits, the others in float32, and cuDNN picks its fastest
    algorithms.

    Args:
        device_type: "cpu" or "cuda".
        number_format: How to compute.
    """
    import torch

    exact = number_format == "fp32"
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[number_format]
    with (
        _full_float32(),
        _cudnn(deterministic=exact, benchmark=not exact),
        torch.inference_mode(),
        torch.autocast(device_type, dtype=torch.bfloat16 if exact else dtype, enabled=not exact),
    ):
        yield


@contextlib.contextmanager
def _cudnn(*, deterministic: bool, benchmark: bool) -> Iterator[None]:
    import torch

    cudnn: Any = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    import torch

    switches: list[Any] = [getattr(getattr(torch.backends, backend), part, None) for backend, part in _SWITCHES]
    if not all(hasattr(switch, "fp32_precision") for switch in switches):
        with _full_float32_before_torch_2_9():
            yield
        return
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


@contextlib.contextmanager
def _full_float32_before_torch_2_9() -> Iterator[None]:
    import torch

    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
