"""Processes that keep answers in memory, and whether each has applied the present suppression list to them.

Each such process holds a lock on a file of its own in ``WORKSPACE/serving/followers``, whose content is the digest of
the list that it applied last. Who changes the list waits until all of them have the present one.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.workspace.files import OWNER, lock_now

FOLDER = "serving/followers"
_NOBODY = "none"  # the digest of a list without entries
_LOOK = 0.05  # seconds between two looks


class ListFollower:
    """One process, or one of several in a process; open until :meth:`close`. OSError where the file cannot be made."""

    def __init__(self, workspace: Path) -> None:
        self._path = workspace / FOLDER / f"{os.getpid()}-{uuid4().hex}"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, OWNER)
        with suppress(OSError):  # a file system without locks: who looks takes it for a file of a dead process
            lock_now(self._descriptor)

    def applied(self, people: SuppressionList) -> None:
        """Say that nothing in memory is of the people on a list any more; OSError where that cannot be written."""
        text = _digest(people).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def close(self) -> None:
        """Nothing is in memory any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def not_reached(workspace: Path, patience: float) -> list[int]:
    """Ids of the processes that have not applied the present list after so many seconds."""
    end = time.monotonic() + patience
    while True:
        wanted = _digest(SuppressionList.of(workspace))
        late = [path for path in _files(workspace) if not _has(path, wanted)]
        if not late or time.monotonic() > end:
            return sorted({int(path.name.partition("-")[0]) for path in late})
        time.sleep(_LOOK)


def _files(workspace: Path) -> list[Path]:
    folder = workspace / FOLDER
    return [path for path in folder.iterdir() if path.name[:1].isdigit()] if folder.is_dir() else []


def _has(path: Path, wanted: str) -> bool:
    """Whether a process has applied a list, or is dead."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return not path.exists()
    try:
        if os.pread(descriptor, 1_000, 0).decode("utf-8", "replace") == wanted:
            return True
        try:
            dead = lock_now(descriptor)
        except OSError:  # no locks here
            dead = True
        if dead:
            path.unlink(missing_ok=True)
        return dead
    finally:
        os.close(descriptor)


def _digest(people: SuppressionList) -> str:
    return people.digest or _NOBODY
