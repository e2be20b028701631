"""NVIDIA's driver as NVML describes it, which says what there is, and nothing behind it."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

GIB = 2**30


class NVMLError(Exception):
    pass


class FakeDriver(ModuleType):
    """The part of ``pynvml`` that the choice of a device uses; a GPU is (UUID, GiB in use, GiB in all)."""

    NVMLError = NVMLError

    def __init__(self, *gpus, works=True, mig=()):
        super().__init__("pynvml")
        self.gpus = gpus
        self.mig = mig
        self.works = works
        self.sessions = 0

    def nvmlInit(self):  # noqa: N802
        if not self.works:
            raise NVMLError("NVML Shared Library Not Found")
        self.sessions += 1

    def nvmlShutdown(self):  # noqa: N802
        self.sessions -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        for gpu in (*self.gpus, *self.mig):
            if gpu[0] == uuid:
                return gpu
        raise NVMLError("Not Found")

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return handle[0]

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        if handle[1] is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(used=handle[1] * GIB, total=handle[2] * GIB)


def show_gpus(monkeypatch: pytest.MonkeyPatch, *gpus: tuple[Any, ...], **options: Any) -> FakeDriver:
    """Let NVML show these GPUs, and no variable hide one."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = FakeDriver(*gpus, **options)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return driver


ONE_GPU = ("GPU-aa110000", 1, 24)
"""An idle GPU, as most workstations have one."""
