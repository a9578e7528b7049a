"""Files that survive a loss of power, disk space, and locks on files.

Files and folders are synced before anything depends on them, and space is checked before the work. By portalocker there
is one writer at a time, and nothing is removed while it is read: a reader holds a shared lock on the manifest of a
published folder, opened for reading, which works on read-only media; removal needs an exclusive one, and leaves for the
next time what is held. Where a file system has no locks, nothing is held.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from molar_retrieval.errors import DataError, DiskError, FullDiskError, StaleArtefactError

OWNER, _FOLDER = 0o600, 0o700
"""Who may read what has people in it: its owner."""

_NO_FOLDERS = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES}
"""How a file system says that it cannot wait for a folder, as some network ones do; it orders renames by itself."""


def sync_tree(folder: Path) -> None:
    """Wait until every file below a folder, and every folder with its names, is on the disk."""
    from concurrent.futures import ThreadPoolExecutor

    below = [path for path in folder.rglob("*") if not path.is_symlink()]
    with ThreadPoolExecutor(8) as pool:  # a file system with a journal then writes it once for several of them
        list(pool.map(sync_file, [path for path in below if path.is_file()]))
        list(pool.map(sync_folder, [path for path in below if path.is_dir()]))
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: what was renamed in it before is so after a loss of power."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise


def write_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Write a small text file so that a reader sees the old content or the new one, nothing between.

    ``mode`` None: who may read it is as for any new file; else it has these permissions before there is a byte in it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        if mode is not None:
            temporary.chmod(mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def for_owner(path: Path) -> None:
    """Let nobody but its owner read a file, or any file below a folder: there are people in it."""
    for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
        file.chmod(_FOLDER if file.is_dir() else OWNER)


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Bring a file to another place: by a hard link, which takes no space, or a copy where the file system has none."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


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


def free_space(folder: Path) -> int:
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


def generation_size(items: int, users: int, interactions: int) -> int:
    """About how many bytes an alignment and its generation take while they are made."""
    return items * _OF_ITEM + users * _OF_USER + interactions * _OF_INTERACTION


def require_space(folder: Path, need: float, what: str) -> None:
    """Raise a DiskError where a folder's disk has no room for ``need`` bytes that ``the index takes``."""
    free = free_space(folder)
    if free < need + SPARE:
        raise FullDiskError(f"{what} {_size(need + SPARE)}, and {folder} has {_size(free)} left", _ELSEWHERE)


def reserve_space(folder: Path, need: int, what: str) -> None:
    """The same, tried out: quotas and limits on the size of files are known to nobody before."""
    require_space(folder, need, what)
    ballast = folder / f".ballast.{os.getpid()}"
    try:
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, need)
    except OSError as error:
        if error.errno not in _NO_RESERVING:
            raise disk_error(error) or error from error
    finally:
        with suppress(OSError):
            ballast.unlink()


def disk_error(error: BaseException) -> DiskError | None:
    """What an error says about a disk, with the remedy; None where it is about something else."""
    number, text = getattr(error, "errno", None), str(error)
    if not number and (found := _OF_SYSTEM.search(text)):  # a library that tells in its own words
        number = int(found[1])
    if not number:
        number = next((number for words, number in _OF_LIBRARIES.items() if words in text.lower()), None)
    path = getattr(error, "filename", None)
    place = path if isinstance(path, str) and path else "the disk"
    if number == errno.ENOSPC:
        left = f", which has {_size(free_space(Path(path)))} left" if place == path else ""
        return FullDiskError(f"there is no room to write {place}{left}: {error}", _ELSEWHERE)
    if number == errno.EDQUOT:
        return FullDiskError(f"the quota of this user is used up: {error}", _ELSEWHERE)
    if number == errno.EFBIG:
        return FullDiskError(f"a file would be larger than is allowed here: {error}", "raise the limit (`ulimit -f`)")
    if number == errno.EROFS:
        remedy = "mount it for writing, or name a workspace on another disk with --workspace DIR"
        return DiskError(f"{place} is on a read-only file system: {error}", remedy)
    if number in {errno.EACCES, errno.EPERM}:
        return DiskError(f"this user may not open {place}: {error}", "run as its owner, or change its permissions")
    return None


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def file_stamp(path: Path) -> object:
    """What changes whenever a file is replaced or written to; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a call less of Python, several times an answer
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=64)
def file_in(folder: Path, name: str) -> Path:
    """A file of a folder that is looked at before every answer: to join the path costs more than the look."""
    return folder / name


MANIFEST, _FORMER = "manifest.json", ".manifest-{}.held"
_PAUSE = 0.002  # seconds between two looks whether a lock is free


def lock_now(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; False where somebody has it, OSError where the file system has no locks."""
    from portalocker import LockFlags, lock
    from portalocker.exceptions import AlreadyLocked, LockException

    try:
        lock(descriptor, (LockFlags.SHARED if shared else LockFlags.EXCLUSIVE) | LockFlags.NON_BLOCKING)
    except AlreadyLocked:
        return False
    except LockException as error:
        cause = error.__cause__
        raise (cause if isinstance(cause, OSError) else OSError(str(error))) from error
    return True


@contextmanager
def lock_beside(target: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep a second writer of ``target`` out by a file beside it.

    Raises:
        DataError: If others write for longer than ``patience`` seconds, or the file system has no locks.
        DiskError: If the folder cannot be written.
    """
    path, end = target.with_name(f".{target.name}.lock"), time.monotonic() + patience
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as error:
            remedy = "name a file in a folder that you may write to"
            raise disk_error(error) or DataError(f"{target} cannot be written: {error}", remedy) from error
        try:
            free = lock_now(file.fileno())
        except OSError as error:
            file.close()
            words = f"{path.parent} is on a file system without locks: {error}"
            raise DataError(words, "name a file in a folder on a local disk") from error
        if free and _is(file.fileno(), path):
            break
        file.close()  # somebody has the lock, or whoever had it has removed the file meanwhile
        if not free:
            if time.monotonic() > end:
                words = f"another process is writing {target}"
                raise DataError(words, "wait until it is done, or name another file")
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: nobody else can have taken it
        file.close()


def wait_beside(target: Path, patience: float = 10.0) -> AbstractContextManager[None]:
    """As :func:`lock_beside`, but wait for other writers: to read, change and write a file as one step."""
    return lock_beside(target, patience)


def read_lock(folder: Path) -> ExitStack:
    """Keep a published folder from being removed until the result is closed; a StaleArtefactError says it is gone."""
    gone = StaleArtefactError(f"{folder} was superseded and removed just now", "ask again")
    path = folder / MANIFEST
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise gone from error
    except OSError:  # whoever reads the manifest says so
        return ExitStack()
    with ExitStack() as held:
        held.callback(os.close, descriptor)
        try:
            there = lock_now(descriptor, shared=True) and _is(descriptor, path)
        except OSError:  # a file system without locks
            return ExitStack()
        if not there:
            raise gone
        return held.pop_all()


@contextmanager
def kept_held(folder: Path) -> Iterator[None]:
    """Replace a folder's manifest meanwhile: who holds the folder goes on, by the former one, which stays for them."""
    path = folder / MANIFEST
    with suppress(OSError):  # a file system without hard links
        path.with_name(_FORMER.format(path.stat().st_ino)).hardlink_to(path)
    yield
    for former in folder.glob(_FORMER.format("*")):
        with locked_alone(former) as free:
            if free:
                former.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path) -> Iterator[bool]:
    """Whether nobody holds a folder; nobody can while the context lasts."""
    with ExitStack() as locked:
        files = [folder / MANIFEST, *folder.glob(_FORMER.format("*"))]
        yield all([locked.enter_context(locked_alone(path)) for path in files])


@contextmanager
def locked_alone(path: Path) -> Iterator[bool]:
    """Whether nobody has locked a file; nobody can while the context lasts."""
    with ExitStack() as opened:
        free = True
        for mode in ("r+b", "rb"):  # over NFS an exclusive lock takes the first
            with suppress(OSError):  # there is no file, or a file system without locks
                free = lock_now(opened.enter_context(path.open(mode)).fileno())
                break
        yield free


def _is(descriptor: int, path: Path) -> bool:
    """Whether the file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
