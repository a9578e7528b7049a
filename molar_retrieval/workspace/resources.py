"""Resources: memory and processors that this process may use, and what a piece of work takes of them.

Limits of Linux control groups count, of version 1 and 2: the own group's and those of all groups above it. A container
sees its own group as the root; a service of systemd or a job of a queue lies below, see ``/proc/self/cgroup``.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


_MEMORY = (
    ("", "", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""By version: folder, controller, files of the limit and of what is used, and pages of files that can be taken back."""


def memory_limits(proc: Path = PROC, groups: Path = GROUPS) -> list[tuple[int, int]]:
    """Each limit in bytes, and how much of it is taken, but for pages of files that can be taken back."""
    found = []
    for folder, controller, *files, pages in _MEMORY:
        for group in _groups(proc, groups / folder, controller):
            limit, used = (read(group / name).strip() for name in files)
            if limit.isdigit() and int(limit):
                facts = dict(line.split()[:2] for line in read(group / "memory.stat").splitlines() if " " in line)
                taken = int(used) - int(facts.get(pages, 0)) if used.isdigit() else 0
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


def memory_of_machine(proc: Path = PROC, groups: Path = GROUPS) -> tuple[int, int]:
    """Memory that this process may use, and the part of it that is free, in bytes; 0: unknown.

    That is the machine's memory, or less where a container, a service or a job has a limit.
    """
    facts = dict(line.split()[:2] for line in read(proc / "meminfo").splitlines())
    total, free = (1024 * int(facts.get(name, 0)) for name in ("MemTotal:", "MemAvailable:"))
    if not total and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [(limit, max(0, limit - used)) for limit, used in memory_limits(proc, groups) if limit < total]
    for limit, left in limits:
        total, free = min(total, limit), min(free, left)
    return total, free


def memory_of_alignment(interactions: int, users: int, items: int, dense_items: int) -> int:
    """Memory that `molar align` takes at its peak, about, in bytes.

    Up to ``dense_items`` items there is a matrix of items by items, 12 bytes a cell; docs/scale.md has the measurements
    of the other figures.
    """
    dense = 12 * items**2 if items <= dense_items else 0
    return 700_000_000 + 60 * interactions + 700 * users + 7_500 * items + dense


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and seconds of all processors, those of finished child processes too."""

    seconds: float = 0.0
    processor: float = 0.0

    def __add__(self, other: "Took") -> "Took":
        return Took(self.seconds + other.seconds, self.processor + other.processor)

    def __sub__(self, other: "Took") -> "Took":
        return self + other * -1.0

    def __mul__(self, factor: float) -> "Took":
        return Took(self.seconds * factor, self.processor * factor)


class Timer:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._begun = Took()
        self._begun = self.took

    @property
    def took(self) -> Took:
        """What went by since then."""
        used = os.times()
        own = used.user + used.system + used.children_user + used.children_system
        return Took(time.perf_counter(), own) - self._begun


def timed(work: Callable[[], object]) -> Took:
    """What a work takes."""
    watch = Timer()
    work()
    return watch.took


def library_versions(*names: str) -> dict[str, str]:
    """The installed version of each distribution, and Python's; a missing one is left out."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
