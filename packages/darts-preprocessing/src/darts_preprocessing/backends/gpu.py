"""The kernels of the GPU: whole-array operations of cupy."""

from typing import Any

from darts_preprocessing.backends.arrays import ArrayBackend


class GpuBackend(ArrayBackend):
    """Kernels on cupy arrays.

    Args:
        index: Number of the GPU as CUDA counts the visible ones.
    """

    def __init__(self, index: int = 0) -> None:
        import cupy

        super().__init__(cupy)
        self.index = index

    def active(self) -> Any:
        """Return a context in which new arrays lie on this GPU."""
        return self.xp.cuda.Device(self.index)

    def to_host(self, array: Any) -> Any:
        """Return a cupy array as a numpy array."""
        return self.xp.asnumpy(array)
