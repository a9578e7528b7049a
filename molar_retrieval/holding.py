"""Holding a published folder: what somebody reads is not removed before it was read.

A reader holds a shared lock on the folder's manifest, opened for reading, so that this works on read-only media; who
removes superseded folders needs an exclusive one, and leaves for the next time what is held. The system drops the locks
of a process that ends. Where a file system has no locks, nothing is held.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from molar_retrieval.errors import StaleArtefactError

_MANIFEST = "manifest.json"


class Hold:
    """What keeps a folder from being removed, until it is released.

    Args:
        descriptor: The locked file; None: the file system has no locks.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def hold(folder: Path) -> Hold:
    """Keep a published folder from being removed.

    Raises:
        StaleArtefactError: If it is gone, or on its way.
    """
    import fcntl

    gone = StaleArtefactError(f"{folder} was superseded and removed just now", "ask again")
    try:
        descriptor = os.open(folder / _MANIFEST, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise gone from error
    except OSError:  # whoever reads the manifest says so
        return Hold(None)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not _is(descriptor, folder / _MANIFEST):
            raise gone
    except BlockingIOError as error:
        os.close(descriptor)
        raise gone from error
    except StaleArtefactError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return Hold(None)
    return Hold(descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether nobody holds a folder; nobody can while the context lasts."""
    import fcntl

    descriptor = _opened(folder / _MANIFEST)
    try:
        free = True
        if descriptor is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                free = False
            except OSError:  # a file system without locks
                free = True
        yield free
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened(path: Path) -> int | None:
    for way in (os.O_RDWR, os.O_RDONLY):  # over NFS an exclusive lock takes the first
        with suppress(OSError):
            return os.open(path, way | os.O_CLOEXEC)
    return None


def _is(descriptor: int, path: Path) -> bool:
    """Whether the file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
