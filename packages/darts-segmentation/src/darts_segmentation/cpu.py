"""Run networks on the CPU."""

from collections.abc import Sequence

import numpy as np
import torch

from darts_segmentation.bands import Channel
from darts_segmentation.executor import Fill, Scaler
from darts_segmentation.precision import NumberFormat

# More pixels than one large patch at a time do not make a CPU faster, they only take memory.
_PIXELS_AT_A_TIME = 1024 * 1024


class CpuExecutor:
    """The CPU, all of torch's threads."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def fastest_format(self) -> NumberFormat:
        """Return "bf16" where the processor multiplies bfloat16 (AMX, AVX512-BF16), else "fp32"."""
        return "bf16" if _multiplies_bf16() else "fp32"

    def batch_limit(self, batch_size: int, patch_size: int) -> int:
        """Return at most `batch_size`, and no more patches than make up one of 1024 × 1024 px."""
        return max(1, min(batch_size, _PIXELS_AT_A_TIME // patch_size**2))

    def stage(self, batch_size: int, patch_size: int, channels: Sequence[Channel]) -> "CpuStage":
        """Make one buffer for a batch of patches."""
        return CpuStage((batch_size, len(channels), patch_size, patch_size), Scaler(channels, self.device))

    def free_memory(self) -> None:
        """Do nothing: the CPU's allocator keeps nothing back."""


class CpuStage:
    """One buffer in which patches are scaled.

    Args:
        shape: (patches, channels, y, x) of a full batch.
        scaler: Scales them.
    """

    def __init__(self, shape: tuple[int, int, int, int], scaler: Scaler) -> None:
        self._buffer = np.empty(shape, np.float32)
        self._scaler = scaler

    def load(self, count: int, fill: Fill) -> torch.Tensor:
        """Return `count` patches, scaled; see :class:`darts_segmentation.executor.Stage`."""
        part = self._buffer[:count]
        for number, patch in enumerate(part):
            fill(number, patch)
        patches = torch.from_numpy(part)
        self._scaler.scale(patches)
        return patches.contiguous(memory_format=torch.channels_last)


def _multiplies_bf16() -> bool:
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
