"""What Linux's control groups leave this process, of version 1 and 2: its own group's limits and those of all above it.

A container sees its own group as the root. A service of systemd (``MemoryMax``, ``CPUQuota``), a session or a job of a
queue lies in one below the root, which the kernel names in ``/proc/self/cgroup``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _Files:
    """How a version names what is read of it; its folders lie below ``folder`` of the mount."""

    folder: str
    limit: str
    used: str
    pages: str  # of files, which the system takes back where it needs them: a line of memory.stat


_MEMORY = (
    _Files("", "memory.max", "memory.current", "inactive_file"),
    _Files("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def memory_limits(proc: Path = PROC, groups: Path = GROUPS) -> list[tuple[int, int]]:
    """Each limit in bytes, and how much of it is taken, but for pages of files that can be taken back."""
    found = []
    for version, files in enumerate(_MEMORY):
        for group in _groups(proc, groups / files.folder, "" if version == 0 else "memory"):
            limit, used = (read(group / name).strip() for name in (files.limit, files.used))
            if limit.isdigit() and int(limit):
                facts = dict(line.split()[:2] for line in read(group / "memory.stat").splitlines() if " " in line)
                taken = int(used) - int(facts.get(files.pages, 0)) if used.isdigit() else 0
                found.append((int(limit), max(0, taken)))
    return found


def core_limits(proc: Path = PROC, groups: Path = GROUPS) -> list[float]:
    """How many cores' time each limit leaves."""
    found = [read(group / "cpu.max").split() for group in _groups(proc, groups, "")]
    for group in _groups(proc, groups / "cpu", "cpu"):
        found.append([read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])
    shares = [pair for pair in found if len(pair) == 2 and all(number.isdigit() and int(number) for number in pair)]
    return [int(quota) / int(period) for quota, period in shares]


def _groups(proc: Path, mount: Path, controller: str) -> Iterator[Path]:
    """The folder of this process's group and those of all above it; of version 2 where no controller is named."""
    own = PurePosixPath()
    for line in read(proc / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and (controller or number == "0"):
            own = PurePosixPath(path.lstrip("/"))
    if ".." in own.parts:  # it lies outside of what this container sees
        own = PurePosixPath()
    yield from (mount / group for group in (own, *own.parents))


def read(path: Path) -> str:
    """A file of the kernel's; empty where there is none."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
