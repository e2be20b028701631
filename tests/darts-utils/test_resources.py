"""CPUs and memory on machines that are folders: control groups of both versions, limits of the process, Slurm."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_utils import available_memory, sharing_cpus, usable_cpus
from support.linux_machine import MIB, LinuxMachine, cpus_v1, group_v2, limits, memory_v1, status

FREE = 32 << 30
"""What the machine in the folder has available."""
GIB = 1 << 30
NO_LIMIT_V1 = 9223372036854771712


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch):
    """Let the process run on 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)


@pytest.fixture
def machine(tmp_path) -> LinuxMachine:
    return LinuxMachine(tmp_path / "a machine")


def cpus(machine: LinuxMachine, **environment: str) -> int:
    return usable_cpus(environment=environment, proc=machine.proc)


def memory(machine: LinuxMachine, **environment: str) -> int:
    return available_memory(environment=environment, proc=machine.proc)


def test_a_machine_without_limits_gives_all_it_has(machine):
    assert cpus(machine) == 64
    assert memory(machine) == FREE


@pytest.mark.parametrize("limited", ["", "job_7", "job_7/step_0", "job_7/step_0/task_3"])
def test_v2_limits_hold_at_every_level(machine, limited):
    root = machine.machine_v2("/job_7/step_0/task_3")
    for level in ("", "job_7", "job_7/step_0", "job_7/step_0/task_3", "job_7/step_1"):
        group_v2(root / level, "max 100000", max="max", high="max", current=GIB)
    group_v2(root / "job_7" / "step_1", "100000 100000", max=1, current=0)  # somebody else's
    assert (cpus(machine), memory(machine)) == (64, FREE)
    group_v2(root / limited, "300000 100000", max=3 * GIB, high="max", current=2 * GIB, inactive_file=GIB // 2)
    assert (cpus(machine), memory(machine)) == (3, 3 * GIB - (2 * GIB - GIB // 2))


@pytest.mark.parametrize("limited", ["", "slurm", "slurm/job_7", "slurm/job_7/task_0"])
def test_v1_limits_hold_at_every_level(machine, limited):
    cpu, mem = machine.machine_v1("/slurm/job_7/task_0")
    for level in ("", "slurm", "slurm/job_7", "slurm/job_7/task_0"):
        cpus_v1(cpu / level, -1)
        memory_v1(mem / level, usage=GIB)
    assert (cpus(machine), memory(machine)) == (64, FREE)
    cpus_v1(cpu / limited, 200_000)
    memory_v1(mem / limited, 3 * GIB, 2 * GIB, GIB // 2)
    assert (cpus(machine), memory(machine)) == (2, 3 * GIB - (2 * GIB - GIB // 2))


def test_hybrid_hierarchies_limit_each_by_its_own(machine):
    machine.member("0::/user.slice/session.scope")
    machine.member("5:cpu,cpuacct:/batch")
    unified = machine.mount("sys/fs/cgroup/unified", "cgroup2", "nsdelegate")
    cpu = machine.mount("sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct")
    cpus_v1(cpu / "batch", 500_000)
    group_v2(unified / "user.slice", max=4 * GIB, current=GIB)
    assert (cpus(machine), memory(machine)) == (5, 3 * GIB)


def test_the_tightest_of_several_levels_counts(machine):
    root = machine.machine_v2("/a/b")
    group_v2(root / "a", "800000 100000", max=8 * GIB, current=7 * GIB)  # 1 GiB left, the others' use included
    group_v2(root / "a/b", "1200000 100000", max=4 * GIB, current=GIB)  # 3 GiB left
    assert (cpus(machine), memory(machine)) == (8, GIB)


def test_memory_high_counts_like_a_limit(machine):
    root = machine.machine_v2("/a")
    group_v2(root / "a", max=8 * GIB, high=5 * GIB, current=2 * GIB)
    assert memory(machine) == 3 * GIB


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [(150_000, 100_000, 2), (100_000, 100_000, 1), (100_001, 100_000, 2), (1_000, 100_000, 1), (50_000, 25_000, 2)],
)
def test_a_quota_is_rounded_up(machine, quota, period, expected):
    root = machine.machine_v2("/a")
    group_v2(root / "a", f"{quota} {period}")
    assert cpus(machine) == expected
    other = LinuxMachine(machine.folder.parent / "v1")
    cpu, _ = other.machine_v1("/a")
    cpus_v1(cpu / "a", quota, period)
    assert cpus(other) == expected


def test_use_above_the_limit_leaves_nothing(machine):
    root = machine.machine_v2("/a")
    group_v2(root / "a", max=GIB, current=2 * GIB)
    assert memory(machine) == 0


def test_more_cached_files_than_use_leave_the_limit(machine):
    root = machine.machine_v2("/a")
    group_v2(root / "a", max=GIB, current=10, inactive_file=20)
    assert memory(machine) == GIB


def test_a_container_of_v1_that_sees_the_host_s_path(machine):
    """Docker without a namespace of control groups: the container's group alone is mounted."""
    path = "/docker/0123456789abcdef"
    machine.member(f"3:cpu,cpuacct:{path}\n2:memory:{path}")
    cpu = machine.mount("sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct", root=path, tags="master:20")
    mem = machine.mount("sys/fs/cgroup/memory", "cgroup", "memory", root=path, tags="master:18")
    cpus_v1(cpu, 200_000)
    memory_v1(mem, 3 * GIB, GIB)
    assert (cpus(machine), memory(machine)) == (2, 2 * GIB)


def test_a_group_made_inside_such_a_container(machine):
    machine.member("2:memory:/kubepods/pod1/c1/inner/most")
    mem = machine.mount("sys/fs/cgroup/memory", "cgroup", "memory", root="/kubepods/pod1/c1")
    memory_v1(mem / "inner", 3 * GIB, GIB)
    memory_v1(mem / "kubepods", 1, 0)  # a group of the container that happens to be called so
    assert memory(machine) == 2 * GIB


def test_a_container_of_v2_in_its_own_namespace(machine):
    machine.member("0::/")
    root = machine.mount("sys/fs/cgroup", "cgroup2", "nsdelegate,memory_recursiveprot", tags="")
    group_v2(root, "400000 100000", max=3 * GIB, high="max", current=GIB)
    assert (cpus(machine), memory(machine)) == (4, 2 * GIB)


@pytest.mark.parametrize(("path", "root"), [("/elsewhere", "/docker/0123"), ("/", "/../.."), ("/../sibling", "/")])
def test_what_is_mounted_counts_where_the_path_leads_nowhere(machine, path, root):
    machine.member(f"0::{path}")
    group_v2(machine.mount("sys/fs/cgroup", "cgroup2", root=root), "300000 100000", max=2 * GIB, current=GIB)
    group_v2(machine.folder / "sys/fs/sibling", "100000 100000", max=1, current=0)  # what a ".." would lead to
    assert (cpus(machine), memory(machine)) == (3, GIB)


def test_a_foreign_group_that_is_mounted_beside_its_own_does_not_count(machine):
    root = machine.machine_v2("/a")
    group_v2(root / "a", "500000 100000")
    group_v2(machine.mount("mnt/other", "cgroup2", root="/other"), "100000 100000")
    assert cpus(machine) == 5


def test_a_group_that_is_gone_leaves_those_above(machine):
    root = machine.machine_v2("/a/b (deleted)")
    group_v2(root / "a", "500000 100000")
    assert cpus(machine) == 5


def test_mount_points_and_paths_of_any_name_are_found(machine):
    machine.member("0::/user slice/a:b,c\\d")
    root = machine.mount("odd place/with\\backslash", "cgroup2")
    group_v2(root / "user slice" / "a:b,c\\d", "300000 100000")
    assert cpus(machine) == 3


@given(
    layout=st.sampled_from(["v1", "v2", "cpu v1", "memory v1"]),
    levels=st.lists(
        st.tuples(
            st.none() | st.integers(1_000, 10_000_000),
            st.integers(1_000, 1_000_000),
            st.none() | st.integers(0, 64 * GIB),
            st.integers(0, 64 * GIB),
            st.integers(0, 64 * GIB),
        ),
        min_size=1,
        max_size=5,
    ),
    data=st.data(),
)
def test_random_hierarchies_are_as_tight_as_their_tightest_visible_level(layout, levels, data):
    """The expectation is computed from what was drawn, level by level; the path of a level is one name per level."""
    hidden = data.draw(st.integers(0, len(levels) - 1), "levels above what is mounted")
    expected_cpus, expected_memory = 64.0, float(FREE)
    for quota, period, limit, usage, inactive in levels[hidden:]:
        if quota is not None:
            expected_cpus = min(expected_cpus, -(-quota // period))
        if limit is not None:
            expected_memory = min(expected_memory, max(0, limit - max(0, usage - inactive)))
    names = [f"g{number}" for number in range(1, len(levels))]
    path, root = "/" + "/".join(names), "/" + "/".join(names[:hidden])
    with tempfile.TemporaryDirectory() as folder:
        machine = LinuxMachine(Path(folder) / "m")
        v1 = {"v1": ["cpu", "memory"], "v2": []}.get(layout, [layout.split()[0]])
        machine.member("\n".join([f"{9 - len(name)}:{name}:{path}" for name in v1] + [f"0::{path}"]))
        unified = machine.mount("cg/unified", "cgroup2", root=root)
        mounted = {name: machine.mount(f"cg/{name}", "cgroup", name, root=root) for name in v1}
        for depth, (quota, period, limit, usage, inactive) in enumerate(levels[hidden:]):
            below = Path(*names[hidden : hidden + depth])
            if "cpu" in v1:
                cpus_v1(mounted["cpu"] / below, -1 if quota is None else quota, period)
            else:
                group_v2(unified / below, f"{'max' if quota is None else quota} {period}")
            if "memory" in v1:
                memory_v1(mounted["memory"] / below, NO_LIMIT_V1 if limit is None else limit, usage, inactive)
            else:
                most = "max" if limit is None else limit
                group_v2(unified / below, max=most, high="max", current=usage, inactive_file=inactive)
        assert (cpus(machine), memory(machine)) == (expected_cpus, expected_memory)


def test_the_limits_of_the_process_count_less_what_it_has(machine):
    machine.write_proc("self/status", status(pid=1, size=3 * GIB, data=GIB))
    machine.write_proc("self/limits", limits(address_space=5 * GIB))
    assert memory(machine) == 2 * GIB
    machine.write_proc("self/limits", limits(address_space=5 * GIB, data=2 * GIB))
    assert memory(machine) == GIB
    machine.write_proc("self/limits", limits(address_space=GIB))
    assert memory(machine) == 0


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "12"}, 3),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_JOB_CPUS_PER_NODE": "5"}, 12),
        ({"SLURM_JOB_CPUS_PER_NODE": "5"}, 5),
        ({"SLURM_JOB_CPUS_PER_NODE": "16(x2),8"}, 8),
        ({"SLURM_JOB_CPUS_PER_NODE": "16(x2),8", "SLURM_NODEID": "1"}, 16),
        ({"SLURM_JOB_CPUS_PER_NODE": "16(x2),8", "SLURM_NODEID": "2"}, 8),
        ({"SLURM_JOB_CPUS_PER_NODE": "16(x2),8", "SLURM_NODEID": "3"}, 8),
        ({"SLURM_JOB_CPUS_PER_NODE": "4,16", "SLURM_NODEID": "1"}, 16),
        ({"SLURM_JOB_CPUS_PER_NODE": "7,16(x999999999),9", "SLURM_NODEID": "2"}, 16),
        ({"SLURM_CPUS_PER_TASK": "1000"}, 64),
        ({"SLURM_CPUS_PER_TASK": "0"}, 64),
        ({"SLURM_CPUS_PER_TASK": "all", "SLURM_CPUS_ON_NODE": "12"}, 12),
        ({"SLURM_CPUS_PER_TASK": "-2"}, 64),
        ({"SLURM_JOB_CPUS_PER_NODE": "16(x2),what"}, 64),
        ({"SLURM_JOB_CPUS_PER_NODE": "16(x2"}, 64),
        ({"SLURM_JOB_CPUS_PER_NODE": ""}, 64),
    ],
)
def test_slurm_s_share_of_cpus(machine, variables, expected):
    assert cpus(machine, **variables) == expected


@pytest.mark.parametrize(
    ("variables", "megabytes"),
    [
        ({"SLURM_MEM_PER_NODE": "3000"}, 3000),
        ({"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "2"}, 4000),
        ({"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_PER_TASK": "2"}, 2000),
        ({"SLURM_MEM_PER_CPU": "1000", "SLURM_JOB_CPUS_PER_NODE": "16(x2),8", "SLURM_NODEID": "2"}, 8000),
        ({"SLURM_MEM_PER_CPU": "1000"}, 1000),
        ({"SLURM_MEM_PER_GPU": "5000", "SLURM_GPUS_ON_NODE": "2"}, 10_000),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_NODE": "3 GB"}, None),
        ({"SLURM_MEM_PER_NODE": ""}, None),
    ],
)
def test_slurm_s_share_of_memory_less_what_the_process_has(machine, variables, megabytes):
    machine.write_proc("self/status", status(pid=4711, resident=100 * MIB))
    assert memory(machine, **variables) == (FREE if megabytes is None else (megabytes - 100) * MIB)


def test_slurm_counts_all_processes_of_the_job_on_this_node(machine):
    processes = {
        4711: "SLURM_JOB_ID=7",
        4712: "SLURM_JOB_ID=7",
        4713: "SLURM_JOB_ID=70",
        4714: "",
        4715: "X_SLURM_JOB_ID=7",
    }
    for pid, variable in processes.items():
        machine.write_proc(f"{pid}/status", status(pid, resident=100 * MIB))
        machine.write_proc(f"{pid}/environ", f"PATH=/bin\0{variable}\0HOME=/\0")
    (machine.proc / "4716").mkdir()  # it ended in this instant
    machine.write_proc("self/status", status(pid=4711, resident=100 * MIB))
    assert memory(machine, SLURM_MEM_PER_NODE="3000", SLURM_JOB_ID="7") == (3000 - 200) * MIB
    assert memory(machine, SLURM_MEM_PER_NODE="3000") == (3000 - 100) * MIB
    assert memory(machine, SLURM_MEM_PER_NODE="150", SLURM_JOB_ID="7") == 0


GARBAGE = ["", "\n", "max", "-1", "-5 100000", "nan", "1e9", "0x10", "0 0", "9" * 30, "\udcff\udc80", "a\0b", "٣"]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_the_files_of_a_group_limits_nothing(machine, garbage):
    machine.member("3:cpu,memory:/a")
    v1 = machine.mount("v1", "cgroup", "cpu,memory") / "a"
    v2 = machine.machine_v2("/a") / "a"
    for folder, names in {
        v1: ["cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.limit_in_bytes"],
        v2: ["cpu.max", "memory.max", "memory.high"],
    }.items():
        folder.mkdir()
        for name in names:
            (folder / name).write_text(garbage, encoding="utf-8", errors="surrogateescape")
    assert (cpus(machine), memory(machine)) == (64, FREE)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_limit_with_garbage_for_its_use_still_holds(machine, garbage):
    group = group_v2(machine.machine_v2("/a") / "a", max=GIB, current=MIB)
    for name in ("memory.current", "memory.stat"):
        (group / name).write_text(garbage, encoding="utf-8", errors="surrogateescape")
    assert memory(machine) == GIB


@given(
    name=st.sampled_from(["cgroup", "mountinfo", "status", "limits", "cpu.max", "memory.max", "memory.stat"]),
    content=st.binary(max_size=60)
    | st.sampled_from(["::", ":", "1:memory", " - ", "1 2 3 / - cgroup2", "0::a"]).map(str.encode),
    variable=st.sampled_from(["SLURM_CPUS_PER_TASK", "SLURM_JOB_CPUS_PER_NODE", "SLURM_MEM_PER_NODE", "SLURM_NODEID"]),
    value=st.text(max_size=20),
)
def test_nothing_that_stands_in_a_file_or_a_variable_is_an_error(name, content, variable, value):
    with tempfile.TemporaryDirectory() as folder:
        machine = LinuxMachine(Path(folder) / "m")
        group = group_v2(machine.machine_v2("/a") / "a", "200000 100000", max=GIB, current=MIB)
        (group / name if "." in name else machine.proc / "self" / name).write_bytes(content)
        environment = {variable: value, "SLURM_JOB_ID": value}
        assert 1 <= usable_cpus(environment=environment, proc=machine.proc) <= 64
        assert 0 <= available_memory(environment=environment, proc=machine.proc) <= FREE


def test_files_that_cannot_be_read_are_no_error(machine, tmp_path):
    root = machine.machine_v2("/a")
    for name in ("cpu.max", "memory.max", "memory.stat"):
        (root / "a" / name).mkdir(parents=True)  # reading a folder fails for root as well
    assert (cpus(machine), memory(machine)) == (64, FREE)
    nowhere = tmp_path / "nowhere"
    assert usable_cpus(environment={}, proc=nowhere) == 64
    assert available_memory(environment={}, proc=nowhere) > 0


def test_a_thread_that_shares_the_cpus_counts_its_part_and_others_do_not(machine):
    with sharing_cpus(3):
        assert cpus(machine) == 21
        with sharing_cpus(2):
            assert cpus(machine) == 10
        assert cpus(machine, SLURM_CPUS_PER_TASK="2") == 1
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(cpus, machine).result() == 64
    assert cpus(machine) == 64
