"""The CPUs and the memory that this process may really use, whoever limits them."""

import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from darts_utils.cgroups import field_of, groups_above, read_text, whole_number

_PROC = Path("/proc")
_MEBIBYTE = 1 << 20


def usable_cpus(*, environment: Mapping[str, str] | None = None, proc: Path = _PROC) -> int:
    """Count the CPUs that this process may use.

    The smallest of: the CPUs it may run on (affinity; from Python 3.13 on also ``PYTHON_CPU_COUNT``), the CPU quota of
    every control group above it (versions 1 and 2), and its share of a Slurm job (``SLURM_CPUS_PER_TASK``, else
    ``SLURM_CPUS_ON_NODE``, else ``SLURM_JOB_CPUS_PER_NODE``). A quota that is no whole number is rounded up: with 1.5
    CPUs two threads do more than one. What cannot be read or understood limits nothing. Inside :func:`sharing_cpus` the
    thread's share of that.

    Args:
        environment: Where Slurm's variables are looked up; None for this process's environment.
        proc: Where the proc file system is mounted. Other systems than Linux have none, and no control groups.

    Returns:
        Number of CPUs, at least 1.

    Examples:
        >>> usable_cpus(environment={"SLURM_CPUS_PER_TASK": "1"})
        1
    """
    slurm = _slurm_cpus(os.environ if environment is None else environment)
    limits = (_cpus_to_run_on(), slurm, *(group.cpus() for group in groups_above("cpu", proc)))
    return max(min(limit for limit in limits if limit is not None) // _shares.number, 1)


@contextmanager
def sharing_cpus(shares: int) -> Iterator[None]:
    """Let :func:`usable_cpus` count one share of the CPUs for this thread, until the block ends.

    For work that several threads do side by side, each with a pool of its own, so that the pools together have no more
    threads than there are CPUs. The threads of the pools do not know of it.

    Args:
        shares: Number of shares; one that would be no whole number is rounded down, to 1 at least.

    Returns:
        A context manager that yields nothing.

    Examples:
        >>> with sharing_cpus(10_000):
        ...     usable_cpus()
        1
    """
    before = _shares.number
    _shares.number = before * shares
    try:
        yield
    finally:
        _shares.number = before


class _Shares(threading.local):
    number = 1


_shares = _Shares()


def available_memory(*, environment: Mapping[str, str] | None = None, proc: Path = _PROC) -> int:
    """Return the bytes that this process can still take.

    The smallest of: the memory that the machine has free or can free at once; what every control group above the
    process (versions 1 and 2) leaves below its limit, where cached files that were not used lately count as free; what
    ``RLIMIT_AS`` and ``RLIMIT_DATA`` leave; and what a Slurm job has on this node (``SLURM_MEM_PER_NODE``,
    ``SLURM_MEM_PER_CPU``, ``SLURM_MEM_PER_GPU``) less the resident memory of its processes here. What cannot be read or
    understood limits nothing.

    Args:
        environment: Where Slurm's variables are looked up; None for this process's environment.
        proc: Where the proc file system is mounted. Other systems than Linux have none; there the free memory of the
            machine and Slurm's share count.

    Returns:
        Bytes, never below 0.

    Examples:
        >>> available_memory(environment={"SLURM_MEM_PER_NODE": "500"}) <= 500 * 2**20
        True
    """
    environment = os.environ if environment is None else environment
    limits = (
        _free_memory(proc),
        *(group.free_memory() for group in groups_above("memory", proc)),
        *_below_resource_limits(proc),
        _below_slurm_limit(environment, proc),
    )
    return max(min(limit for limit in limits if limit is not None), 0)


def _cpus_to_run_on() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_memory(proc: Path) -> int:
    kibibytes = field_of(read_text(proc / "meminfo"), "MemAvailable")
    if kibibytes is not None:
        return 1024 * kibibytes
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    import psutil

    return int(psutil.virtual_memory().available)


def _below_resource_limits(proc: Path) -> Iterator[int]:
    """Yield what the limits of this process itself leave of its address space and of its data."""
    limits, status = read_text(proc / "self" / "limits"), read_text(proc / "self" / "status")
    for limit_name, used_name in (("Max address space", "VmSize"), ("Max data size", "VmData")):
        limit, used = field_of(limits, limit_name), field_of(status, used_name)
        if limit is not None and used is not None:
            yield limit - 1024 * used


def _below_slurm_limit(environment: Mapping[str, str], proc: Path) -> int | None:
    """Return what the processes of a Slurm job leave of its memory on this node; None without a limit."""
    cpus = _slurm_cpus_on_node(environment) or _slurm_cpus(environment)
    shares = (
        _slurm_number(environment, "SLURM_MEM_PER_NODE"),
        _times(_slurm_number(environment, "SLURM_MEM_PER_CPU"), cpus),
        _times(_slurm_number(environment, "SLURM_MEM_PER_GPU"), _slurm_number(environment, "SLURM_GPUS_ON_NODE")),
    )
    limits = [_MEBIBYTE * share for share in shares if share]
    return min(limits) - _resident_memory(environment, proc) if limits else None


def _resident_memory(environment: Mapping[str, str], proc: Path) -> int:
    """Add up the resident bytes of this process and of the others of its Slurm job that can be seen here.

    Slurm adds up the same where no control group counts for it (JobAcctGatherParams=OverMemoryKill).
    """
    own = read_text(proc / "self" / "status")
    statuses = [own]
    job = f"SLURM_JOB_ID={environment.get('SLURM_JOB_ID')}"
    if environment.get("SLURM_JOB_ID"):
        others = [folder for folder in _folders(proc) if folder.name != str(field_of(own, "Pid"))]
        statuses += [
            read_text(folder / "status") for folder in others if job in read_text(folder / "environ").split("\0")
        ]
    return sum(1024 * (field_of(status, "VmRSS") or 0) for status in statuses)


def _folders(proc: Path) -> list[Path]:
    try:
        return [proc / name for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208  # names are all it takes
    except OSError:
        return []


def _slurm_number(environment: Mapping[str, str], name: str) -> int | None:
    """Return the number in a variable; 0 stands for "all there is" in Slurm, which limits nothing."""
    return whole_number(environment.get(name)) or None


def _slurm_cpus(environment: Mapping[str, str]) -> int | None:
    """Return the CPUs that one task of a Slurm job may use on this node."""
    return _slurm_number(environment, "SLURM_CPUS_PER_TASK") or _slurm_cpus_on_node(environment)


def _slurm_cpus_on_node(environment: Mapping[str, str]) -> int | None:
    """Return the CPUs that all tasks of a Slurm job may use on this node."""
    of_nodes, node = environment.get("SLURM_JOB_CPUS_PER_NODE", ""), whole_number(environment.get("SLURM_NODEID"))
    return _slurm_number(environment, "SLURM_CPUS_ON_NODE") or _cpus_of_node(of_nodes, node)


def _cpus_of_node(text: str, node: int | None) -> int | None:
    """Return the CPUs of one node out of a list like "16(x2),8"; of the smallest where the node is not known."""
    parts = [re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?", part) for part in text.split(",")]
    counts = [(int(part[1]), int(part[2] or 1)) for part in parts if part]
    if len(counts) < len(parts):
        return None
    end = 0
    for cpus, nodes in counts:
        end += nodes
        if node is not None and node < end:
            return cpus or None
    return min(cpus for cpus, _ in counts) or None


def _times(amount: int | None, count: int | None) -> int | None:
    return None if amount is None else amount * (count or 1)
