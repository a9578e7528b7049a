"""Logs of JSON lines that several processes append to, and the log of the work in a workspace.

``WORKSPACE/work/log.jsonl`` tells what was done, how long it took and how it ended. Work in progress has a locked file
of its own beside the log: where it can be locked, the process was killed. Where the log cannot be written, the work is
done nevertheless.
"""

import errno
import getpass
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import FileIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Literal

import msgspec

from molar_retrieval.errors import MolarError, redacted
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import OWNER, disk_error, lock_now, wait_beside, write_atomically
from molar_retrieval.workspace.resources import Timer, Took

_MOST, _KEPT = 16 << 20, 8  # bytes of a file; older ones that stay
_TURN = 5.0  # seconds for other writers of a chained log
_LOST = b'"head_lost":true,'
_LINK = re.compile(rb'(\{.*"seq":(\d+)),"digest":"([0-9a-f]{64})"\}\n?', re.DOTALL)


def current_user() -> str:
    """The name of the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # as in a container whose user has no name
        return "somebody without a name"


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

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line; a MolarError where it cannot be written."""
        line = msgspec.json.encode(record) + b"\n"
        with self._lock:
            try:
                self._write(line)
            except OSError as error:
                words = f"{self.path} cannot be written: {error}"
                raise disk_error(error) or MolarError(words, "see to it") from error

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

    def _write(self, line: bytes) -> None:
        file = self._opened()
        facts = os.fstat(file)
        if facts.st_nlink == 0 or facts.st_size + len(line) > self._most > len(line):
            if lock_now(file):  # else another process does so; a few lines more may come meanwhile
                with suppress(FileNotFoundError):
                    if os.path.samestat(facts, self.path.stat()):
                        self._rotate()
                        for one in self._older()[: -self._kept]:
                            one.unlink(missing_ok=True)
            self._let_go()
            file = self._opened()
        whole = b"\n" + line if self._torn else line
        self._torn = True
        _write_whole(file, whole)
        self._torn = False

    def _opened(self) -> int:
        if self._file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _open_to_append(self.path)
        return self._file

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _rotate(self) -> None:
        """Put the file behind the others."""
        self.path.replace(self.path.with_suffix(f".{time.time_ns()}{self.path.suffix}"))

    def _older(self) -> list[Path]:
        """Files that were full, the oldest first."""
        return sorted(self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}"))


def _open_to_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, OWNER)


def _write_whole(file: int, data: bytes) -> None:
    if os.write(file, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class ChainLink(msgspec.Struct, frozen=True):
    """The number and the digest of a line of a chained log."""

    seq: int = 0
    digest: str = "0" * 64


class ChainHead(msgspec.Struct, frozen=True):
    """What is kept beside a chained log: its last line, and the last line that went with an old file."""

    last: ChainLink = ChainLink()
    removed: ChainLink = ChainLink()


class ChainedLines(JsonLines):
    """A log whose lines form a hash chain, so that a missing, changed or reordered line is detected.

    Each line ends with its number ``seq`` and ``digest``, SHA-256 over the digest of the line before and all else of
    the line. ``NAME.head.json`` has both of the last line, and is replaced after each one. Writers take turns, and each
    line is on the disk when :meth:`append` returns. :func:`chain_faults` checks all of it.
    """

    def _write(self, line: bytes) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with wait_beside(self.path, _TURN):
            head = chain_head(self.path)
            lost = head is None and (self.path.exists() or bool(self._older()))
            if head is None:
                head = ChainHead()
                if not lost:
                    self._put(head)
            head = ChainHead(self._mended(head.last), head.removed)
            size = self.path.stat().st_size if self.path.exists() else 0
            if size and size + len(line) > self._most and not lost:
                head = self._without_old(head)
            seq = head.last.seq + 1
            comma = b"," if len(line) > len(b"{}\n") else b""
            content = line[:-2] + comma + (_LOST if lost else b"") + b'"seq":%d' % seq
            digest = _digest(head.last.digest, content)
            file = _open_to_append(self.path)
            try:
                _write_whole(file, content + b',"digest":"%s"}\n' % digest.encode())
                os.fdatasync(file)
            finally:
                os.close(file)
            self._put(ChainHead(ChainLink(seq, digest), head.removed))

    def _mended(self, last: ChainLink) -> ChainLink:
        """The last line, by the head or the file; a line that a crash left unfinished is removed from the file."""
        written, rest = _end_of(self.path)
        if written is None and (older := self._older()):
            written, _ = _end_of(older[-1])
        written = written or ChainLink()
        if rest:
            with self.path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if written.seq < last.seq:  # it was whole once: it stays, for chain_faults
                    file.write(b"\n")
                else:
                    file.truncate(size - len(rest))
        # The writer may have been killed before it replaced the head.
        return written if written.seq > last.seq else last

    def _without_old(self, head: ChainHead) -> ChainHead:
        """Put the full file behind the others, and remove those that are too many, once the head says so."""
        self._put(head)
        self._rotate()
        old = self._older()[: -self._kept]
        links = [link for one in old if (link := _end_of(one)[0]) is not None]
        head = ChainHead(head.last, max([head.removed, *links], key=lambda link: link.seq))
        self._put(head)
        for one in old:
            one.unlink(missing_ok=True)
        return head

    def _put(self, head: ChainHead) -> None:
        write_atomically(_head_path(self.path), msgspec.json.encode(head).decode() + "\n", OWNER)


def chain_head(path: Path) -> ChainHead | None:
    """What is kept beside a chained log; None where there is nothing, or it is damaged."""
    try:
        return msgspec.json.decode(_head_path(path).read_bytes(), type=ChainHead)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def chain_faults(path: Path) -> list[str]:
    """What is wrong with a chained log, by file and line; an unfinished line at its end is no fault."""
    if not (found := list(_chain_faults(path))):
        return []
    try:
        with wait_beside(path, _TURN):  # nobody has written meanwhile
            return list(_chain_faults(path))
    except MolarError:
        return found


def _chain_faults(path: Path) -> Iterator[str]:
    head, head_name = chain_head(path), _head_path(path).name
    removed = ChainLink() if head is None else head.removed
    named = None if head is None else head.last
    last: ChainLink | None = None
    for one in (*sorted(path.parent.glob(f"{path.stem}.*{path.suffix}")), path):
        lines = one.read_bytes().splitlines(keepends=True) if one.exists() else []
        for number, line in enumerate(lines, 1):
            place, link, before = f"{one.name}, line {number}", _link(line), last or removed
            if link is None:
                if line.endswith(b"\n") or one != path:
                    yield f"{place}: this is no line of the log"
                continue
            content = line[: line.rindex(b',"digest":"')]
            if link.seq > before.seq + 1:
                yield f"{place}: {_numbers(before.seq + 1, link.seq - 1)} missing before it"
            elif link.seq <= before.seq and last is not None:  # else the file is about to be removed
                yield f"{place}: it has number {link.seq} and comes after number {before.seq}"
            elif link.seq == before.seq + 1 and _digest(before.digest, content) != link.digest:
                yield f"{place}: this line or the one before it was changed"
            elif named is not None and link.seq == named.seq and link.digest != named.digest:
                yield f"{place}: this line is not the one that {head_name} names"
            if content.endswith(b'%s"seq":%d' % (_LOST, link.seq)):
                yield f"{place}: before it {head_name} was missing or damaged; lines may be missing"
            last = link
    if named is None and last is not None:
        yield f"{head_name} is missing or damaged: lines may be missing at the end of {path.name}"
    if named is not None and (end := (last or removed).seq) < named.seq:
        yield f"{path.name}: {_numbers(end + 1, named.seq)} missing at its end"


def _numbers(first: int, last: int) -> str:
    return f"number {first} is" if first == last else f"numbers {first} to {last} are"


def _head_path(path: Path) -> Path:
    return path.with_suffix(".head.json")


def _digest(before: str, content: bytes) -> str:
    return sha256(before.encode() + content).hexdigest()


def _link(line: bytes) -> ChainLink | None:
    found = _LINK.fullmatch(line)
    return None if found is None else ChainLink(int(found[2]), found[3].decode())


def _end_of(path: Path) -> tuple[ChainLink | None, bytes]:
    """The last whole line of a file, and what is unfinished behind it."""
    with (
        suppress(FileNotFoundError, ValueError),  # an empty one cannot be mapped
        path.open("rb") as file,
        mmap(file.fileno(), 0, access=ACCESS_READ) as content,
    ):
        end = content.rfind(b"\n") + 1
        begin = content.rfind(b"\n", 0, max(0, end - 1)) + 1
        return _link(content[begin:end]), content[end:]
    return None, b""


_FOLDER, _FILE, _BYTES, _OLDER = "work", "log.jsonl", 1 << 20, 1
_UNDER_WAY = ".running"
_CHARACTERS = 500  # of an outcome, and of a remedy
_open: list[FileIO] = []
"""Files of what is at work in this process, the innermost last."""


@dataclass(frozen=True)
class Work:
    """Something that was done in a workspace, or is being done."""

    what: str  # the command: ``update``, ``align``, …
    begun: str  # in ISO 8601
    state: Literal["done", "failed", "killed", "running"]  # failed: by an error, or because somebody interrupted it
    seconds: float | None = None  # by the clock; None: it has not come to an end of its own
    processor: float | None = None  # seconds of all processors, those of finished child processes too; None as before
    outcome: str = ""  # what was done, or went wrong, in words
    remedy: str = ""  # what to do where it failed
    generation: str | None = None  # that was live then; None: there was none
    steps: dict[str, float] = field(default_factory=dict)  # seconds by the clock

    @property
    def ended(self) -> datetime | None:
        """When it came to its end, in UTC."""
        return None if self.seconds is None else datetime.fromisoformat(self.begun) + timedelta(seconds=self.seconds)


@dataclass
class WorkOutcome:
    """What the log is to tell of a work that went well."""

    outcome: str = ""
    steps: dict[str, float] = field(default_factory=dict)  # seconds by step
    took: Took = field(default_factory=Took)  # known once it is over


@contextmanager
def recorded(workspace: Workspace, what: str) -> Iterator[WorkOutcome]:
    """Write down what is done within: how it went, and what it took."""
    told, watch = WorkOutcome(), Timer()
    began: dict[str, Any] = {"what": what, "begun": datetime.now(UTC).isoformat(timespec="seconds")}
    log, ended = _log(workspace), {"state": "done"}
    with _under_way(log, began):
        try:
            yield told
        except BaseException as error:
            ended = {"state": "failed", "outcome": f"{type(error).__name__}: {error}"}
            if isinstance(error, MolarError):
                ended |= {"outcome": error.message, "remedy": error.hint}
            elif isinstance(error, KeyboardInterrupt):
                ended["outcome"] = "it was interrupted"
            ended = {name: redacted(text)[:_CHARACTERS] for name, text in ended.items()}
            raise
        finally:
            told.took = watch.took
            took = {"seconds": round(told.took.seconds, 2), "processor": round(told.took.processor, 2)}
            if any(workspace.root.glob("*/current")):  # else a first command has failed, and leaves nothing
                with suppress(MolarError):
                    more = {"outcome": told.outcome[:_CHARACTERS], "steps": told.steps}
                    live = {"generation": workspace["generations"].pointer}
                    log.append({**began, **took, **more, **live, **ended})
            log.close()


def work_done(workspace: Workspace, most: int = 100) -> list[Work]:
    """What was done last, and what is at work, the newest first."""
    log = _log(workspace)
    found = [Work(**one) for one in log.newest(most)] + _unfinished(log)
    return sorted(found, key=lambda one: one.begun, reverse=True)[:most]


def killed_last(workspace: Workspace) -> list[Work]:
    """What was killed since the last work of the workspace began."""
    return [one for one in _unfinished(_log(workspace)) if one.state == "killed"]


def step(name: str) -> None:
    """Write down which step the work of this process has come to: where it is killed, that is known."""
    if _open:
        with suppress(OSError, ValueError):
            _open[-1].write(msgspec.json.encode({"step": name[:_CHARACTERS]}) + b"\n")


def _log(workspace: Workspace) -> JsonLines:
    return JsonLines(workspace.root / _FOLDER / _FILE, most=_BYTES, kept=_OLDER)


@contextmanager
def _under_way(log: JsonLines, began: Mapping[str, str]) -> Iterator[None]:
    """Say that something is at work, as long as it is; what was killed before goes into the log."""
    folder = log.path.parent
    path = folder / f"{time.time_ns()}-{os.getpid()}{_UNDER_WAY}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("xb", buffering=0)  # on a full disk nothing is left to be written as it is closed
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):
            lock_now(file.fileno())
            file.write(msgspec.json.encode(began) + b"\n")
        for other in folder.glob(f"*{_UNDER_WAY}"):
            with suppress(OSError, ValueError, MolarError):
                if other != path and _is_free(other):
                    log.append(_described(other, killed=True))
                    other.unlink()
        _open.append(file)
        try:
            yield
        finally:
            _open.remove(file)
            path.unlink(missing_ok=True)
            with suppress(OSError):  # something is in it
                folder.rmdir()


def _unfinished(log: JsonLines) -> list[Work]:
    """What is at work, and what was killed."""
    found = []
    for path in log.path.parent.glob(f"*{_UNDER_WAY}"):
        with suppress(OSError, ValueError, TypeError):
            found.append(Work(**_described(path, killed=_is_free(path))))
    return found


def _is_free(path: Path) -> bool:
    """Whether nobody holds a file; False where the file system has no locks."""
    with path.open("rb") as file:
        return lock_now(file.fileno(), shared=True)


def _described(path: Path, *, killed: bool) -> dict[str, Any]:
    """What is, or was, at work by its file; the last line of one that was killed may end in the middle."""
    from molar_retrieval.workspace.jobs import remedy

    first, *steps = path.read_bytes().splitlines()
    began: dict[str, Any] = msgspec.json.decode(first)
    if not killed:
        return {**began, "state": "running"}
    last = ""
    for line in steps:
        with suppress(ValueError):
            last = f"in step {msgspec.json.decode(line)['step']!r}"
    outcome = f"it was ended by a signal, or with the machine, {last or 'before its first step'}"
    return {**began, "state": "killed", "outcome": outcome, "remedy": f"run it again; {remedy(None)}"}
