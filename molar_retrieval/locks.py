"""Keeping a second writer of the same file out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from molar_retrieval.errors import DataError


@contextmanager
def lock_beside(target: Path) -> Iterator[None]:
    """Keep a second writer of ``target`` out; released when the process ends, however it does.

    The lock is on a hidden file beside the target, which is removed again.

    Raises:
        DataError: If another process is at work on it, or nothing can be written there.
    """
    path = target.with_name(f".{target.name}.lock")
    while True:
        file = _locked(path, target)
        if _is(path, file):
            break
        file.close()  # whoever had the lock has removed the file meanwhile
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: nobody else can have taken it
        file.close()


def _locked(path: Path, target: Path) -> IO[str]:
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise DataError(
            f"{target} cannot be written: {error}", "name a file in a folder that you may write to"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataError(
            f"another process is writing {target}", "wait until it is done, or name another file"
        ) from error
    except OSError as error:
        file.close()
        raise DataError(
            f"{path.parent} is on a file system without locks: {error}", "name a file in a folder on a local disk"
        ) from error
    return file


def _is(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
