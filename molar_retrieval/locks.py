"""Locks on files, by portalocker: one writer at a time, and nothing is removed while somebody reads it.

A reader of a published folder holds a shared lock on its manifest, opened for reading, so that this works on read-only
media; who removes superseded folders needs an exclusive one, and leaves for the next time what is held. Where a file
system has no locks, nothing is held.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from molar_retrieval import disk
from molar_retrieval.errors import DataError, DiskError, StaleArtefactError

MANIFEST, _FORMER = "manifest.json", ".manifest-{}.held"
_PATIENCE, _PAUSE = 10.0, 0.002  # seconds


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


def unlock(descriptor: int) -> None:
    """Release what :func:`lock_now` locked, while the file stays open; OSError where the file system has no locks."""
    from portalocker import unlock as release
    from portalocker.exceptions import LockException

    try:
        release(descriptor)
    except LockException as error:
        raise OSError(str(error)) from error


@contextmanager
def lock_beside(target: Path) -> Iterator[None]:
    """Keep a second writer of ``target`` out by a file beside it; a DataError where there is one, or none can write."""
    path = target.with_name(f".{target.name}.lock")
    while True:
        file = _locked(path, target)
        if _is(file.fileno(), path):
            break
        file.close()  # whoever had the lock has removed the file meanwhile
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: nobody else can have taken it
        file.close()


@contextmanager
def wait_beside(target: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """As :func:`lock_beside`, but wait for other writers: to read, change and write a file as one step.

    Raises:
        DataError: If others write for longer than ``patience`` seconds.
        DiskError: If the folder cannot be written.
    """
    end = time.monotonic() + patience
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(lock_beside(target))
                break
            except DiskError:
                raise
            except DataError:
                if time.monotonic() > end:
                    raise
            time.sleep(_PAUSE)
        yield


def _locked(path: Path, target: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise disk.fault(error) or DataError(
            f"{target} cannot be written: {error}", "name a file in a folder that you may write to"
        ) from error
    try:
        free = lock_now(file.fileno())
    except OSError as error:
        file.close()
        raise DataError(
            f"{path.parent} is on a file system without locks: {error}", "name a file in a folder on a local disk"
        ) from error
    if not free:
        file.close()
        raise DataError(f"another process is writing {target}", "wait until it is done, or name another file")
    return file


def hold(folder: Path) -> ExitStack:
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
        with _locked_alone(former) as free:
            if free:
                former.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether nobody holds a folder; nobody can while the context lasts."""
    with ExitStack() as locked:
        files = [folder / MANIFEST, *folder.glob(_FORMER.format("*"))]
        yield all([locked.enter_context(_locked_alone(path)) for path in files])


@contextmanager
def _locked_alone(path: Path) -> Iterator[bool]:
    """Whether nobody has locked a file; nobody can while the context lasts."""
    descriptor = _opened(path)
    try:
        free = True
        if descriptor is not None:
            with suppress(OSError):  # a file system without locks
                free = lock_now(descriptor)
        yield free
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened(path: Path) -> int | None:
    for way in (os.O_RDWR, os.O_RDONLY):  # over NFS an exclusive lock takes the first
        with suppress(OSError):
            return os.open(path, way)
    return None


def _is(descriptor: int, path: Path) -> bool:
    """Whether the file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
