"""CPUs and memory of this very machine, where the kernel itself says what is true: limits set on real processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from darts_utils import available_memory, usable_cpus

MIB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are set in the ways of Linux")

ASK = "import json, psutil; from darts_utils import available_memory, usable_cpus\n"


def ask(program: str, **environment: str) -> object:
    """Return what a Python program of its own prints as JSON; it sees no Slurm but the one in `environment`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    command = [sys.executable, "-c", ASK + program]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_limits_memory_is_what_psutil_says(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    assert 1 <= usable_cpus() <= os.cpu_count()
    assert 0 < available_memory() <= psutil.virtual_memory().total
    no_groups = available_memory(environment={}, proc=Path("/proc/nowhere"))
    assert no_groups == pytest.approx(psutil.virtual_memory().free, abs=1 << 30)


def test_one_cpu_to_run_on_is_one():
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(usable_cpus())"
    assert ask(program) == 1


@pytest.mark.parametrize(
    ("limit", "kind", "flags"),
    [("AS", "vms", "MAP_PRIVATE"), ("AS", "vms", "MAP_SHARED"), ("DATA", "data", "MAP_PRIVATE")],
)
def test_what_a_limit_of_the_process_leaves_is_what_the_kernel_still_gives(limit, kind, flags):
    """A little less than what is left can be mapped, a little more cannot."""
    program = f"""
import mmap, resource
def can_map(size):
    try:
        mmap.mmap(-1, size, flags=mmap.{flags} | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return False
    return True
used = psutil.Process().memory_info().{kind}
resource.setrlimit(resource.RLIMIT_{limit}, (used + (300 << 20), resource.RLIM_INFINITY))
left = available_memory()
print(json.dumps([left, can_map(left - (4 << 20)), can_map(left + (4 << 20))]))
"""
    left, less, more = ask(program)
    assert 0 < left <= 301 * MIB
    assert (less, more) == (True, False)


def test_slurm_s_variables_limit_a_real_process():
    program = "print(json.dumps([usable_cpus(), available_memory(), psutil.Process().memory_info().rss]))"
    cpus, memory, resident = ask(program, SLURM_CPUS_PER_TASK="1", SLURM_MEM_PER_NODE="500")
    assert cpus == 1
    assert memory == pytest.approx(500 * MIB - resident, abs=4 * MIB)


def test_slurm_s_other_processes_of_the_job_take_their_part():
    job = {"SLURM_JOB_ID": f"test-{os.getpid()}", "SLURM_MEM_PER_NODE": "1000"}
    hold = "import sys; block = bytearray(b'x') * (200 << 20); print('here', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold], env=os.environ | job, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"here\n"
        others = psutil.Process(holder.pid).memory_info().rss
        memory, resident = ask("print(json.dumps([available_memory(), psutil.Process().memory_info().rss]))", **job)
    finally:
        holder.communicate(timeout=30)
    assert others > 200 * MIB
    assert memory == pytest.approx(1000 * MIB - others - resident, abs=4 * MIB)


@contextmanager
def new_group(controller: str, file: str) -> Iterator[Path]:
    """Make a control group at the top of the hierarchy that gives it a file of a controller; skip where none does."""
    for top in (Path("/sys/fs/cgroup") / controller, Path("/sys/fs/cgroup")):
        folder = top / f"darts-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if os.access(folder / file, os.W_OK):
                yield folder
                return
        finally:
            remove_group(folder)
    pytest.skip(f"no control group with {file} can be made here, which takes root and a writable /sys/fs/cgroup")


def remove_group(folder: Path) -> None:
    for _ in range(50):  # the kernel takes its time to forget a process
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)
    raise TimeoutError(f"{folder} cannot be removed")


def group_of(controller: str) -> tuple[str, str]:
    """Return which version of control groups has a controller here, and the path of this process's group in it."""
    entries = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in entries:
        if controller in controllers.split(","):
            return "v1", path
    return "v2", next((path for _, controllers, path in entries if not controllers), "/")


def test_a_real_cpu_quota_limits_a_real_process():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a quota of one CPU cannot be told from having one CPU")
    version, path = group_of("cpu")
    if path != "/":
        pytest.skip(f"this process lies in the group {path} of the controller cpu, which it should not leave")
    file, quota = {"v1": ("cpu.cfs_quota_us", "60000"), "v2": ("cpu.max", "60000 100000")}[version]
    with new_group("cpu", file) as folder:
        (folder / file).write_text(quota)
        inner = folder / "inner"
        inner.mkdir()
        try:
            join = f"open({str(inner / 'cgroup.procs')!r}, 'w').write('0')"
            before, after = ask(f"before = usable_cpus(); {join}; print(json.dumps([before, usable_cpus()]))")
        finally:
            remove_group(inner)
    assert (before, after) == (usable_cpus(environment={}), 1)


def test_a_real_memory_limit_is_read_as_the_kernel_shows_it(tmp_path):
    """No process is moved: this one only believes to be in the new group."""
    version, _ = group_of("memory")
    file, line = {"v1": ("memory.limit_in_bytes", "4:memory:"), "v2": ("memory.max", "0::")}[version]
    with new_group("memory", file) as folder:
        (tmp_path / "self").mkdir()
        (tmp_path / "meminfo").symlink_to("/proc/meminfo")
        (tmp_path / "self" / "mountinfo").symlink_to("/proc/self/mountinfo")
        (tmp_path / "self" / "cgroup").write_text(f"{line}/{folder.name}\n")
        before = available_memory(environment={}, proc=tmp_path)
        (folder / file).write_text(str(64 * MIB))
        after = available_memory(environment={}, proc=tmp_path)
    assert before > 100 * MIB
    assert 60 * MIB < after <= 64 * MIB
