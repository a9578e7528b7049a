"""Room on a disk: asked for before the work, and named where it was not there after all."""

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from molar_retrieval.errors import DiskError, FullDiskError

SPARE = 4 << 20  # bytes that must be free beside what a step needs
_OF_ITEM, _OF_USER, _OF_INTERACTION = 12_000, 2_000, 16
"""Bytes on disk: measured, rounded up, with an index while it is built twice."""
_NO_RESERVING = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # how a file system says that it cannot reserve
_ELSEWHERE = "make room there, or name a workspace on another disk with --workspace DIR"
_OF_SYSTEM = re.compile(r"(?:os error|errno) (\d+)", re.IGNORECASE)
_OF_LIBRARIES = {
    "disk is full": errno.ENOSPC,
    "no space left": errno.ENOSPC,
    "not enough space available": errno.ENOSPC,
    "file too large": errno.EFBIG,
    "readonly database": errno.EROFS,
}
"""How libraries say it that do not raise what the system said: SQLite, the embedded engine, safetensors."""


def room(folder: Path) -> int:
    """Bytes that are free for a folder, which may not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def size_on_disk(folder: Path) -> int:
    """Bytes that the files below a folder take, holes left out; what disappears meanwhile takes none."""
    taken = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            taken += status.st_blocks * 512 if path.is_file() else 0
    return taken


def of_generation(items: int, users: int, interactions: int) -> int:
    """About how many bytes an alignment and its generation take while they are made."""
    return items * _OF_ITEM + users * _OF_USER + interactions * _OF_INTERACTION


def require(folder: Path, need: float, what: str) -> None:
    """Raise a DiskError where a folder's disk has no room for ``need`` bytes that ``the index takes``."""
    free = room(folder)
    if free < need + SPARE:
        raise FullDiskError(f"{what} {_size(need + SPARE)}, and {folder} has {_size(free)} left", _ELSEWHERE)


def reserve(folder: Path, need: int, what: str) -> None:
    """The same, tried out: quotas and limits on the size of files are known to nobody before."""
    require(folder, need, what)
    ballast = folder / f".ballast.{os.getpid()}"
    try:
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, need)
    except OSError as error:
        if error.errno not in _NO_RESERVING:
            raise fault(error) or error from error
    finally:
        with suppress(OSError):
            ballast.unlink()


def fault(error: BaseException) -> DiskError | None:
    """What an error says about a disk, with the remedy; None where it is about something else."""
    number = getattr(error, "errno", None) or _number(str(error))
    path = getattr(error, "filename", None)
    place = path if isinstance(path, str) and path else "the disk"
    if number == errno.ENOSPC:
        left = f", which has {_size(room(Path(path)))} left" if place == path else ""
        return FullDiskError(f"there is no room to write {place}{left}: {error}", _ELSEWHERE)
    if number == errno.EDQUOT:
        return FullDiskError(f"the quota of this user is used up: {error}", _ELSEWHERE)
    if number == errno.EFBIG:
        return FullDiskError(f"a file would be larger than is allowed here: {error}", "raise the limit (`ulimit -f`)")
    if number == errno.EROFS:
        return DiskError(
            f"{place} is on a read-only file system: {error}",
            "mount it for writing, or name a workspace on another disk with --workspace DIR",
        )
    if number in {errno.EACCES, errno.EPERM}:
        return DiskError(f"this user may not open {place}: {error}", "run as its owner, or change its permissions")
    return None


def _number(text: str) -> int | None:
    """The system's number, where a library tells in its own words."""
    if found := _OF_SYSTEM.search(text):
        return int(found[1])
    return next((number for words, number in _OF_LIBRARIES.items() if words in text.lower()), None)


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
