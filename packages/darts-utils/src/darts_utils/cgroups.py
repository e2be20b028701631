"""Limits of the control groups (Linux) above a process, of both versions; see cgroups(7)."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_NO_LIMIT = 1 << 60
"""Version 1 has no word for "no limit" and shows a number of about 2⁶³."""


class ControlGroup(NamedTuple):
    """A control group that this process belongs to.

    Attributes:
        folder: Its folder, which need not exist.
        unified: Whether it is of version 2.
    """

    folder: Path
    unified: bool

    def cpus(self) -> int | None:
        """Return the CPUs that its quota is worth, rounded up; None where it has none."""
        if self.unified:
            words = [*read_text(self.folder / "cpu.max").split(), "", ""][:2]
        else:
            words = [read_text(self.folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        quota, period = map(whole_number, words)
        return -(-quota // period) if quota and period else None

    def free_memory(self) -> int | None:
        """Return the bytes below its limit, cached files that were not used lately not counted; None without limit."""
        names = ("memory.max", "memory.high") if self.unified else ("memory.limit_in_bytes",)
        found = [whole_number(read_text(self.folder / name)) for name in names]
        limits = [limit for limit in found if limit is not None and limit < _NO_LIMIT]
        if not limits:
            return None
        used = whole_number(read_text(self.folder / ("memory.current" if self.unified else "memory.usage_in_bytes")))
        droppable = field_of(read_text(self.folder / "memory.stat"), f"{'' if self.unified else 'total_'}inactive_file")
        return max(min(limits) - max((used or 0) - (droppable or 0), 0), 0)


def groups_above(controller: str, proc: Path) -> Iterator[ControlGroup]:
    """Yield the control groups of this process and all above them, as far as they are mounted here.

    Args:
        controller: "cpu" or "memory". It may be in the hierarchy of version 2 or in one of version 1; a machine can
            have both.
        proc: Where the proc file system is mounted.
    """
    paths = _paths_of_process(proc)
    inside, beside = [], []
    for unified, root, mount_point in _hierarchies(controller, proc):
        path = paths.get("" if unified else controller)
        if path is None:
            continue
        below = _relative(path, root)
        if below is None:
            beside.append(ControlGroup(mount_point, unified))
        else:
            folders = [mount_point / parent for parent in (below, *below.parents)]
            inside += [ControlGroup(folder, unified) for folder in folders]
    # A container may see the path of its group as the host does, but be given the group alone: what is mounted is it.
    yield from inside or beside


def _paths_of_process(proc: Path) -> dict[str, str]:
    """Return the path of this process's group in each hierarchy, by controller; version 2 is called ''."""
    paths: dict[str, str] = {}
    for line in read_text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if path.startswith("/"):
            paths |= dict.fromkeys(controllers.split(","), path)
    return paths


def _hierarchies(controller: str, proc: Path) -> Iterator[tuple[bool, str, Path]]:
    """Yield, of each mount that can have the controller: whether it is version 2, which group it shows, and where."""
    for line in read_text(proc / "self" / "mountinfo").splitlines():
        mount, _, file_system = line.partition(" - ")
        fields, (kind, _, options) = mount.split(" "), [*file_system.split(" "), "", "", ""][:3]
        if len(fields) > 4 and (kind == "cgroup2" or (kind == "cgroup" and controller in options.split(","))):
            yield kind == "cgroup2", _unescaped(fields[3]), Path(_unescaped(fields[4]))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _relative(path: str, root: str) -> PurePosixPath | None:
    """Return a group's path relative to the group that is mounted; None where it is not inside, or not to be found."""
    try:
        below = PurePosixPath(path).relative_to(root)
    except ValueError:
        return None
    return None if ".." in below.parts else below


def read_text(path: Path) -> str:
    """Return the text of a file of the kernel, "" where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="surrogateescape")
    except (OSError, ValueError):
        return ""


def whole_number(text: str | None) -> int | None:
    """Return a number of at most 20 digits; None for anything else, such as "max"."""
    match = re.fullmatch(r"\s*([0-9]{1,20})\s*", text or "")
    return int(match[1]) if match else None


def field_of(text: str, name: str) -> int | None:
    """Return the number that follows a name at the start of a line; None where there is none."""
    match = re.search(rf"^{re.escape(name)}:?[ \t]+([0-9]{{1,20}})\b", text, re.MULTILINE)
    return int(match[1]) if match else None
