"""A Linux machine in a folder: its proc file system and its control groups, as files that the kernel would show."""

from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass
class LinuxMachine:
    """Files in place of those that the kernel shows to one process; nothing is limited until something is written.

    Attributes:
        folder: Folder of everything.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.proc = self.folder / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.write_proc("meminfo", f"MemTotal: {64 << 20} kB\nMemFree: 123 kB\nMemAvailable: {32 << 20} kB\n")
        self.write_proc("self/status", status(pid=4711))
        self.write_proc("self/limits", limits())
        self.write_proc("self/cgroup", "")
        self.write_proc("self/mountinfo", "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")

    def write_proc(self, name: str, text: str) -> Path:
        path = self.proc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        return path

    def member(self, line: str) -> None:
        """Add a line to /proc/self/cgroup."""
        with (self.proc / "self" / "cgroup").open("a") as file:
            file.write(line + "\n")

    def mount(self, point: str, kind: str, options: str = "", root: str = "/", tags: str = "shared:9") -> Path:
        """Mount a hierarchy (or the part of it below `root`) at a folder of this machine, and return the folder."""
        folder = self.folder / point
        folder.mkdir(parents=True, exist_ok=True)
        shown = str(folder).replace("\\", "\\134").replace(" ", "\\040")
        between = f" {tags} " if tags else " "
        with (self.proc / "self" / "mountinfo").open("a") as file:
            file.write(f"30 21 0:26 {root} {shown} rw,nosuid{between}- {kind} {kind} rw{options and f',{options}'}\n")
        return folder

    def machine_v2(self, path: str) -> Path:
        """Become a machine with version 2 alone, and the process a member of a group; return where it is mounted."""
        self.member(f"0::{path}")
        return self.mount("sys/fs/cgroup", "cgroup2", "nsdelegate")

    def machine_v1(self, path: str) -> tuple[Path, Path]:
        """Become a machine with version 1 alone; return where the controllers cpu and memory are mounted."""
        self.member(f"12:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}")
        self.mount("sys/fs/cgroup/systemd", "cgroup", "xattr,name=systemd")
        return self.mount("sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct"), self.mount(
            "sys/fs/cgroup/memory", "cgroup", "memory"
        )


def group_v2(folder: Path, cpu_max: str | None = None, **memory: str | int) -> Path:
    """Make a group with files of version 2: ``max``, ``high``, ``current``, and ``inactive_file`` in its statistics."""
    folder.mkdir(parents=True, exist_ok=True)
    if cpu_max is not None:
        (folder / "cpu.max").write_text(f"{cpu_max}\n")
    if memory:
        inactive = memory.pop("inactive_file", 0)
        (folder / "memory.stat").write_text(f"anon 1\nfile 2\ninactive_anon 3\ninactive_file {inactive}\n")
        for name, value in memory.items():
            (folder / f"memory.{name}").write_text(f"{value}\n")
    return folder


def cpus_v1(folder: Path, quota: int | str, period: int | str = 100_000) -> Path:
    """Make a group of version 1 with a CPU quota."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    return folder


def memory_v1(folder: Path, limit: int = 9223372036854771712, usage: int = 0, inactive_file: int = 0) -> Path:
    """Make a group of version 1 with a memory limit; its own share of cached files is below that of all within."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"cache 5\ninactive_file 7\ntotal_inactive_file {inactive_file}\n")
    return folder


def status(pid: int, size: int = 300 * MIB, data: int = 200 * MIB, resident: int = 100 * MIB) -> str:
    """Return what /proc/<pid>/status says of a process."""
    sizes = f"VmPeak:\t{size // 1024 + 1:8} kB\nVmSize:\t{size // 1024:8} kB\nVmHWM:\t{resident // 1024:8} kB\n"
    return f"Name:\tpython\nPid:\t{pid}\n{sizes}VmRSS:\t{resident // 1024:8} kB\nVmData:\t{data // 1024:8} kB\n"


def limits(address_space: int | str = "unlimited", data: int | str = "unlimited") -> str:
    """Return what /proc/self/limits says; the soft limits come first."""
    rows = {"Max cpu time": "unlimited", "Max data size": data, "Max stack size": 8388608}
    lines = ["Limit                     Soft Limit           Hard Limit           Units     "]
    for name, soft in (rows | {"Max address space": address_space}).items():
        lines.append(f"{name:25} {soft:<20} {'unlimited':<20} bytes     ")
    return "\n".join(lines) + "\n"
