"""Device choice, against a driver that the test writes."""

import subprocess
import sys
from types import ModuleType

import pytest

from darts_utils import Device, DeviceError, DeviceFallbackWarning, ParameterError, resolve_device
from support.driver import NVMLError, show_gpus

CPU = Device("cpu")


@pytest.fixture(autouse=True)
def no_visible_devices_from_outside(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def machine(monkeypatch):
    """A function that gives the machine these GPUs, and this CUDA_VISIBLE_DEVICES."""

    def prepare(*gpus, visible=None, **driver_options):
        driver = show_gpus(monkeypatch, *gpus, **driver_options)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return driver

    return prepare


IDLE = ("GPU-aa110000", 1, 24)
BUSY = ("GPU-aa220000", 20, 24)
HALF = ("GPU-bb330000", 12, 24)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("cpu", CPU),
        ("CPU ", CPU),
        (CPU, CPU),
        (Device("cpu", 3), CPU),
        ("cuda", Device("cuda", 0)),
        ("cuda:0", Device("cuda", 0)),
        ("cuda:1", Device("cuda", 1)),
        ("1", Device("cuda", 1)),
        (1, Device("cuda", 1)),
        (0, Device("cuda", 0)),
        (Device("cuda", 1), Device("cuda", 1)),
        (None, Device("cuda", 0)),
        ("auto", Device("cuda", 1)),
    ],
)
def test_every_way_to_name_a_device(machine, asked, chosen):
    machine(BUSY, IDLE)
    assert resolve_device(asked) == chosen


def test_an_object_that_prints_as_a_device_is_one(machine):
    class TorchDevice:
        def __str__(self):
            return "cuda:1"

    machine(IDLE, IDLE)
    assert resolve_device(TorchDevice()) == Device("cuda", 1)


@pytest.mark.parametrize("nonsense", ["gpu", "cuda:", "cuda:x", "", -1, "cuda:-1", 1.0, True, "mps"])
def test_any_other_device_is_an_error_that_names_the_choices(machine, nonsense):
    machine(IDLE)
    with pytest.raises(ParameterError, match="expected 'cpu', 'cuda', 'cuda:1', 'auto', a GPU index or None") as caught:
        resolve_device(nonsense, fallback=True)
    assert repr(nonsense) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_the_cpu_asks_no_driver(machine):
    class Untouchable(ModuleType):
        def __getattr__(self, name):
            raise AssertionError(name)

    sys.modules["pynvml"] = machine() and Untouchable("pynvml")
    assert resolve_device("cpu", trial=broken) == CPU


@pytest.mark.parametrize(
    ("gpus", "chosen"),
    [
        ([], CPU),
        ([IDLE], Device("cuda", 0)),
        ([BUSY], CPU),
        ([HALF], CPU),  # exactly half in use is not less than half
        ([("GPU-1", 11, 24)], Device("cuda", 0)),
        ([BUSY, HALF, IDLE, IDLE], Device("cuda", 2)),
        ([("GPU-1", None, None)], Device("cuda", 0)),
        ([BUSY, ("GPU-1", None, None)], Device("cuda", 1)),
    ],
)
def test_auto_takes_the_first_gpu_with_less_than_half_of_its_memory_in_use(machine, gpus, chosen):
    machine(*gpus)
    assert resolve_device("auto") == chosen


def test_none_takes_the_first_gpu_however_busy(machine):
    machine(BUSY, IDLE)
    assert resolve_device() == Device("cuda", 0)


FOUR = [("GPU-a0", 23, 24), ("GPU-a1", 23, 24), ("GPU-b2", 1, 24), ("GPU-c3", 23, 24)]


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("0,1,2,3", ["a0", "a1", "b2", "c3"]),
        ("2,1", ["b2", "a1"]),
        (" 3 , 0 ", ["c3", "a0"]),
        ("0,2,-1,1", ["a0", "b2"]),  # this example, and those of UUIDs, stand in the CUDA Programming Guide
        ("0,7,1", ["a0"]),
        ("0,4,1", ["a0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("GPU-b2", ["b2"]),
        ("GPU-c,GPU-a1", ["c3", "a1"]),
        ("GPU-a", []),  # the beginning of two UUIDs
        ("GPU-zz,0", []),
        ("2,GPU-c3", ["b2", "c3"]),
        ("1,1", []),  # a GPU named twice hides all of them
        ("0,GPU-a0", []),
        ("MIG-5e", ["MIG-5e"]),
        ("MIG-5f,MIG-5e", []),
    ],
)
def test_visible_devices_are_counted_as_cuda_counts_them(machine, visible, seen):
    driver = machine(*FOUR, visible=visible, mig=[("MIG-5e", 1, 12)])
    memory = {gpu[0].removeprefix("GPU-"): gpu[1] for gpu in (*driver.gpus, *driver.mig)}
    for index in range(4):
        if index < len(seen):
            assert resolve_device(index) == Device("cuda", index)
        else:
            with pytest.raises(DeviceError):
                resolve_device(index)
    free = [index for index, name in enumerate(seen) if memory[name] < 12]
    assert resolve_device("auto") == (Device("cuda", free[0]) if free else CPU)
    assert resolve_device() == (Device("cuda", 0) if seen else CPU)


def test_the_driver_is_let_go_each_time(machine):
    driver = machine(IDLE)
    resolve_device("cuda")
    with pytest.raises(DeviceError):
        resolve_device("cuda:5")
    assert driver.sessions == 0


def test_the_driver_is_let_go_when_it_fails(machine, monkeypatch):
    driver = machine(IDLE)

    def fail():
        raise NVMLError("Unknown Error")

    monkeypatch.setattr(driver, "nvmlDeviceGetCount", fail)
    with pytest.raises(DeviceError, match=r"driver does not tell which GPUs there are \(Unknown Error\)"):
        resolve_device("cuda")
    assert driver.sessions == 0


def sentence(device, **options):
    with pytest.raises(DeviceError) as caught:
        resolve_device(device, **options)
    assert isinstance(caught.value, RuntimeError)
    return str(caught.value)


def test_without_a_driver_the_sentence_says_so(machine):
    machine(works=False)
    assert sentence("cuda") == (
        "Device cuda:0 was asked for, but no NVIDIA driver answers here (NVML Shared Library Not Found). "
        "Choose another device, or 'cpu'."
    )
    assert resolve_device() == CPU
    assert resolve_device("auto") == CPU


def test_hidden_gpus_are_named_by_the_variable_that_hides_them(machine):
    machine(IDLE, visible="-1")
    assert "no GPU is visible to this process (CUDA_VISIBLE_DEVICES is '-1')" in sentence("cuda")


def test_a_machine_with_a_driver_and_no_gpu(machine):
    machine()
    assert "but no GPU is visible to this process." in sentence(0)


@pytest.mark.parametrize(("gpus", "count"), [([IDLE], "1 GPU,"), ([IDLE, BUSY], "2 GPUs,")])
def test_an_index_too_high_says_how_many_there_are(machine, gpus, count):
    machine(*gpus)
    assert f"Device cuda:2 was asked for, but this process sees {count} counted from 0." in sentence(2)


def broken(device):
    return f"it computes 3 where 2 is right on {device}"


def works(device):
    return ""


def test_a_gpu_is_taken_if_it_passes_the_trial_and_no_other_is_tried(machine):
    machine(BUSY, IDLE, IDLE)
    tried = []
    for asked, chosen in ((None, 0), ("auto", 1), ("cuda", 0), (2, 2)):
        assert resolve_device(asked, trial=lambda device: tried.append(device) or "") == Device("cuda", chosen)
        assert tried.pop() == Device("cuda", chosen)
        assert not tried
    assert resolve_device("cpu", trial=broken) == CPU


def test_a_gpu_that_fails_the_trial_is_named_by_who_asked_for_it(machine):
    machine(BUSY, IDLE)
    assert sentence("cuda:1", trial=broken) == (
        "Device cuda:1 was asked for, but it computes 3 where 2 is right on cuda:1. Choose another device, or 'cpu'."
    )
    assert resolve_device(None, trial=broken) == CPU
    assert resolve_device("auto", trial=broken) == CPU


def test_who_wants_to_be_told_is_told_that_nobody_asked(machine):
    machine(IDLE)
    for asked in (None, "auto"):
        with pytest.warns(DeviceFallbackWarning) as caught:
            assert resolve_device(asked, trial=broken, work="networks run", warn=True) == CPU
        assert [str(warning.message) for warning in caught] == [
            "There is a GPU, but it computes 3 where 2 is right on cuda:0. Networks run on the CPU."
        ]


def test_where_the_driver_does_not_tell_the_trial_decides(machine):
    """On small machines and in containers NVML is absent, and CUDA works."""
    machine(works=False)
    for asked, chosen in ((None, 0), ("auto", 0), ("cuda:1", 1)):
        assert resolve_device(asked, trial=works) == Device("cuda", chosen)
    assert resolve_device(None, trial=broken, warn=True) == CPU
    assert "no NVIDIA driver answers here (NVML Shared Library Not Found) and it computes 3" in sentence(
        "cuda", trial=broken
    )


def a_stage(device):
    return resolve_device(device, trial=broken, work="objects are made", fallback=True)


def test_a_fallback_is_a_warning_of_its_own_at_the_callers_line(machine):
    machine(IDLE)
    with pytest.warns(DeviceFallbackWarning) as caught:
        assert a_stage("cuda") == CPU
    assert [str(warning.message) for warning in caught] == [
        "Device cuda:0 was asked for, but it computes 3 where 2 is right on cuda:0. Objects are made on the CPU."
    ]
    assert caught[0].filename == __file__


def test_a_fallback_covers_an_index_too_high(machine):
    machine(IDLE)
    with pytest.warns(DeviceFallbackWarning, match="this process sees 1 GPU"):
        assert resolve_device("cuda:1", fallback=True) == CPU


def test_who_did_not_ask_for_a_gpu_is_not_warned(machine):
    machine(works=False)
    assert a_stage(None) == CPU
    assert a_stage("auto") == CPU
    assert a_stage("cpu") == CPU


def test_devices_print_as_torch_and_cupy_name_them():
    assert [str(CPU), str(Device("cuda", 1))] == ["cpu", "cuda:1"]


def count_by_cuda(visible):
    """Ask CUDA itself, in a process of its own, since it reads the variable once."""
    code = """
import ctypes
cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
print(0 if cuda.cuInit(0) else cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"CUDA_VISIBLE_DEVICES": visible}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.gpu
@pytest.mark.parametrize("visible", ["0", "0,-1", "-1,0", "", "0,0", "GPU-", "GPU-zz,0", "0,99", " 0"])
def test_a_real_driver_agrees_with_cuda(monkeypatch, visible):
    if resolve_device() == CPU:
        pytest.skip("needs a working NVIDIA GPU")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    count = count_by_cuda(visible)
    assert (resolve_device() == Device("cuda", 0)) == (count > 0)
    with pytest.raises(DeviceError):
        resolve_device(count)
