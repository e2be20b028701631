"""Run networks with torch on the CPU."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from darts_segmentation.bands import TilePatches
from darts_segmentation.engine import NumberFormat
from darts_segmentation.precision import computing
from darts_segmentation.scaling import Scaler
from darts_segmentation.torch_engine import TorchEngine
from darts_utils import to_host

# More pixels than one large patch at a time do not make a CPU faster, they only take memory.
_PIXELS_AT_A_TIME = 1024 * 1024


class CpuEngine(TorchEngine):
    """torch on the CPU, with all of its threads; see :class:`darts_segmentation.engine.Engine`."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))

    def fastest_format(self) -> NumberFormat:
        """Return "bf16" where the processor multiplies bfloat16 (AMX, AVX512-BF16), else "fp32"."""
        return "bf16" if _multiplies_bf16() else "fp32"

    def batch_limit(self, batch_size: int, patch_size: int) -> int:
        """Return at most `batch_size`, and no more patches than make up one of 1024 × 1024 px."""
        return max(1, min(batch_size, _PIXELS_AT_A_TIME // patch_size**2))

    def computing(self, number_format: NumberFormat) -> AbstractContextManager[None]:
        """Return a context in which networks run in a number format."""
        return computing("cpu", number_format)

    def take(self, arrays: Sequence[object]) -> list[NDArray]:
        """Return arrays as ones of numpy."""
        return [np.asarray(array) for array in to_host(dict(enumerate(arrays))).values()]

    def loader(self, patches: TilePatches, limit: int) -> "CpuLoader":
        """Make one buffer for a batch of patches."""
        return CpuLoader(patches, limit, Scaler(patches.channels, self.device))

    def give(self, result: torch.Tensor, like: object) -> NDArray:  # noqa: ARG002  # all arrays are numpy's here
        """Return a result as an array of numpy."""
        return result.numpy()

    def fetch(self, arrays: Sequence[NDArray | torch.Tensor]) -> list[NDArray]:
        """Return arrays as ones of numpy."""
        return [np.asarray(array) for array in arrays]

    def free_memory(self) -> bool:
        """Do nothing: the CPU's allocator keeps nothing back."""
        return False


class CpuLoader:
    """One buffer in which patches are scaled; see :class:`darts_segmentation.engine.PatchLoader`."""

    def __init__(self, patches: TilePatches, limit: int, scaler: Scaler) -> None:
        self._patches = patches
        self._buffer = np.empty((limit, *patches.shape), np.float32)
        self._scaler = scaler

    def load(self, positions: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Return patches, scaled."""
        part = self._buffer[: len(positions)]
        for position, patch in zip(positions, part, strict=True):
            self._patches.copy(position, patch)
        patches = torch.from_numpy(part)
        self._scaler.scale(patches)
        return patches.contiguous(memory_format=torch.channels_last)

    def keep_pace(self) -> None:
        """Do nothing: what was launched is done."""


def _multiplies_bf16() -> bool:
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
