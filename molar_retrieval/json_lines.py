"""Logs of JSON lines that several processes append to, and that never grow beyond what they may."""

import errno
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from molar_retrieval import disk
from molar_retrieval.errors import MolarError
from molar_retrieval.locks import lock_now

_MOST, _KEPT = 16 << 20, 8  # bytes of a file; older ones that stay
_PATIENCE = 0.2  # seconds for another process to put a full file behind the others, else it grows by a line


class JsonLines:
    """A log ``NAME.jsonl``, of which older files are ``NAME.MOMENT.jsonl``, by nanoseconds when each was full.

    A line goes to the file in one write, so lines of several processes do not mix. Nobody but who runs the server can
    read it.

    Args:
        path: The file; its folder is made with the first line.
        most: Bytes of a file, and a few lines of other processes that come meanwhile; then a new one begins.
        kept: Older files that stay.
    """

    def __init__(self, path: Path, *, most: int = _MOST, kept: int = _KEPT) -> None:
        self.path, self._most, self._kept = path, most, kept
        self._lock = threading.Lock()
        self._file: int | None = None
        self._torn = False

    def append(self, record: Mapping[str, Any], *, sync: bool = False) -> None:
        """Append a line; with ``sync`` it is on the disk when this returns. A MolarError where it cannot be written."""
        line = msgspec.json.encode(record) + b"\n"
        with self._lock:
            try:
                self._write(line, sync)
            except OSError as error:
                raise disk.fault(error) or MolarError(f"{self.path} cannot be written: {error}", "see to it") from error

    def newest(self, most: int) -> list[dict[str, Any]]:
        """The last lines, the newest first, whoever wrote them; what is no JSON object is left out."""
        found: list[dict[str, Any]] = []
        for path in (self.path, *reversed(self._older())):
            with suppress(OSError):
                for line in reversed(path.read_bytes().splitlines()):
                    if len(found) == most:
                        return found
                    with suppress(msgspec.DecodeError):
                        found.append(msgspec.json.decode(line, type=dict[str, Any]))
        return found

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        with self._lock:
            self._let_go()

    def _write(self, line: bytes, sync: bool) -> None:
        file = self._opened()
        facts = os.fstat(file)
        if facts.st_nlink == 0 or facts.st_size + len(line) > self._most > len(line):
            self._rotate(file)
            self._let_go()
            file = self._opened()
        whole = b"\n" + line if self._torn else line
        self._torn = True
        if os.write(file, whole) < len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False
        if sync:
            os.fdatasync(file)

    def _opened(self) -> int:
        if self._file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._file

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _rotate(self, file: int) -> None:
        """Put the file behind the others, unless another process does so, which is waited for."""
        end = time.monotonic() + _PATIENCE
        while not lock_now(file):
            if time.monotonic() > end:
                return
            time.sleep(0.001)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), self.path.stat()):
                self.path.replace(self.path.with_suffix(f".{time.time_ns()}{self.path.suffix}"))
                for one in self._older()[: -self._kept]:
                    one.unlink(missing_ok=True)

    def _older(self) -> list[Path]:
        """Files that were full, the oldest first."""
        return sorted(self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}"))
