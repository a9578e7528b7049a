"""Logs of JSON lines that several processes append to, and the log of the work in a workspace.

``WORKSPACE/work/log.jsonl`` tells what was done, how long it took and how it ended. Work in progress has a locked file
of its own beside the log: where it can be locked, the process was killed. Where the log cannot be written, the work is
done nevertheless.
"""

import errno
import getpass
import json
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
from pathlib import Path
from typing import Any, Literal

import msgspec

from molar_retrieval.errors import MolarError, redacted
from molar_retrieval.workspace import files as disk
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import OWNER, lock_now, wait_beside, write_atomically
from molar_retrieval.workspace.resources import Timer, Took


def current_user() -> str:
    """The name of the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # as in a container whose user has no name
        return "somebody without a name"


_MOST, _KEPT = 16 << 20, 8  # bytes of a file; older ones that stay
_PATIENCE = 0.2  # seconds for another process to put a full file behind the others, else it grows by a line
_TURN = 5.0  # seconds for other writers of a chained log
_LOST = b'"head_lost":true,'
_BLOCK = 1 << 16  # bytes that are read at a time, from the end
_LINK = re.compile(rb'(\{.*"seq":(\d+)),"digest":"([0-9a-f]{64})"\}\n?', re.DOTALL)


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
                raise disk.disk_error(error) or MolarError(
                    f"{self.path} cannot be written: {error}", "see to it"
                ) from error

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
        _write_whole(file, whole)
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


def _write_whole(file: int, data: bytes) -> None:
    if os.write(file, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class ChainLink(msgspec.Struct, frozen=True):
    """The number and the digest of a line of a chained log."""

    seq: int = 0
    digest: str = "0" * 64


class ChainHead(msgspec.Struct, frozen=True):
    """What is kept beside a chained log.

    Attributes:
        last: The last line.
        removed: The last line that went with an old file.
    """

    last: ChainLink = ChainLink()
    removed: ChainLink = ChainLink()


class ChainedLines(JsonLines):
    """A log whose lines form a hash chain, so that a missing, changed or reordered line is detected.

    Each line ends with its number ``seq`` and ``digest``, SHA-256 over the digest of the line before and all else of
    the line. ``NAME.head.json`` has both of the last line, and is replaced after each one. Writers take turns, and each
    line is on the disk when :meth:`append` returns. :func:`chain_faults` checks all of it.
    """

    def __init__(self, path: Path, *, most: int = _MOST, kept: int = _KEPT) -> None:
        super().__init__(path, most=most, kept=kept)
        self._head = _head_path(path)

    def _write(self, line: bytes, sync: bool) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with wait_beside(self.path, _TURN):
            known = chain_head(self.path)
            lost = known is None and (self.path.exists() or bool(self._older()))
            head = known or ChainHead()
            if known is None and not lost:
                self._put(head)
            head = ChainHead(self._mended(head.last), head.removed)
            size = self.path.stat().st_size if self.path.exists() else 0
            if size and size + len(line) > self._most and not lost:
                head = self._rotate_chain(head)
            self._append(line, head, lost)

    def _mended(self, last: ChainLink) -> ChainLink:
        """The last line, by the head or the file; a line that a crash left unfinished is removed from the file."""
        written = next(filter(None, map(_last_link, (self.path, *self._older()[:-2:-1]))), None)
        if written is not None and written.seq > last.seq:  # the writer was killed before it replaced the head
            last = written
        with suppress(FileNotFoundError), self.path.open("r+b") as file:
            size, rest = file.seek(0, os.SEEK_END), _end_of(file.fileno(), 1)[-1]
            if not rest:
                return last
            link = _link(rest)
            if link is not None and link.seq in (last.seq, last.seq + 1):
                file.write(b"\n")
                last = link
            elif (written or ChainLink()).seq < last.seq:  # it was whole once: it stays, for chain_faults
                file.write(b"\n")
            else:
                file.truncate(size - len(rest))
        return last

    def _append(self, line: bytes, head: ChainHead, lost: bool) -> None:
        seq, told = head.last.seq + 1, _LOST if lost else b""
        comma = b"," if len(line) > len(b"{}\n") else b""
        content = line[:-2] + comma + told + b'"seq":%d' % seq
        digest = _digest(head.last.digest, content)
        whole = content + b',"digest":"%s"}\n' % digest.encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, OWNER)
        try:
            _write_whole(file, whole)
            os.fdatasync(file)
        finally:
            os.close(file)
        self._put(ChainHead(ChainLink(seq, digest), head.removed))

    def _rotate_chain(self, head: ChainHead) -> ChainHead:
        """Put the full file behind the others, and remove those that are too many, once the head says so."""
        self._put(head)
        self.path.replace(self.path.with_suffix(f".{time.time_ns()}{self.path.suffix}"))
        old = self._older()[: -self._kept]
        links = [link for one in old if (link := _last_link(one)) is not None]
        head = ChainHead(head.last, max([head.removed, *links], key=lambda link: link.seq))
        self._put(head)
        for one in old:
            one.unlink(missing_ok=True)
        return head

    def _put(self, head: ChainHead) -> None:
        write_atomically(self._head, msgspec.json.encode(head).decode() + "\n", OWNER)


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
    head = chain_head(path)
    removed = ChainLink() if head is None else head.removed
    last: ChainLink | None = None
    files = [*sorted(path.parent.glob(f"{path.stem}.*{path.suffix}")), path]
    for one in files:
        with suppress(FileNotFoundError), one.open("rb") as file:
            for number, line in enumerate(file, 1):
                place, found, link = f"{one.name}, line {number}", _LINK.fullmatch(line), _link(line)
                if found is None or link is None:
                    if line.endswith(b"\n") or one != path:
                        yield f"{place}: this is no line of the log"
                    continue
                before = last or removed
                if last is not None or link.seq > removed.seq:  # else the file is about to be removed
                    yield from _misplaced(place, before, link)
                if before.seq + 1 == link.seq and _digest(before.digest, found[1]) != link.digest:
                    yield f"{place}: this line or the one before it was changed"
                elif head is not None and link.seq == head.last.seq and link.digest != head.last.digest:
                    yield f"{place}: this line is not the one that {_head_path(path).name} names"
                if found[1].endswith(_LOST + b'"seq":' + found[2]):
                    yield f"{place}: before it {_head_path(path).name} was missing or damaged; lines may be missing"
                last = link
    if head is None:
        if last is not None:
            yield f"{_head_path(path).name} is missing or damaged: lines may be missing at the end of {path.name}"
        return
    if (end := last or removed).seq < head.last.seq:
        yield f"{path.name}: {_lines(end.seq + 1, head.last.seq)} missing at its end"


def _misplaced(place: str, before: ChainLink, link: ChainLink) -> Iterator[str]:
    if link.seq > before.seq + 1:
        yield f"{place}: {_lines(before.seq + 1, link.seq - 1)} missing before it"
    elif link.seq <= before.seq:
        yield f"{place}: it has number {link.seq} and comes after number {before.seq}"


def _lines(first: int, last: int) -> str:
    return f"number {first} is" if first == last else f"numbers {first} to {last} are"


def _head_path(path: Path) -> Path:
    return path.with_suffix(".head.json")


def _digest(before: str, content: bytes) -> str:
    return sha256(before.encode() + content).hexdigest()


def _link(line: bytes) -> ChainLink | None:
    found = _LINK.fullmatch(line)
    return None if found is None else ChainLink(int(found[2]), found[3].decode())


def _last_link(path: Path) -> ChainLink | None:
    """The last whole line of a file."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        lines = _end_of(file.fileno(), 2)
        return _link(lines[-2]) if len(lines) > 1 else None
    return None


def _end_of(file: int, ends: int) -> list[bytes]:
    """The end of a file, with so many line ends if it has them, as lines; the last one is unfinished or empty."""
    found, begin = b"", os.fstat(file).st_size
    while begin and found.count(b"\n") < ends:
        size = min(begin, _BLOCK)
        begin -= size
        found = os.pread(file, size, begin) + found
    return found.split(b"\n")


_FOLDER, _FILE, _BYTES, _OLDER = "work", "log.jsonl", 1 << 20, 1
_UNDER_WAY = ".running"
_CHARACTERS = 500  # of an outcome, and of a remedy
State = Literal["done", "failed", "killed", "running"]
_open: list[FileIO] = []
"""Files of what is at work in this process, the innermost last."""


@dataclass(frozen=True)
class Work:
    """Something that was done in a workspace, or is being done.

    Attributes:
        what: The command: ``update``, ``align``, …
        begun: When, in ISO 8601.
        state: ``done``, ``failed`` (by an error, or because somebody interrupted it), ``killed`` or ``running``.
        seconds: What it took by the clock; None: it has not come to an end of its own.
        processor: Seconds of all processors, those of finished child processes too; None as before.
        outcome: What was done, or went wrong, in words.
        remedy: What to do where it failed.
        generation: The generation that was live then; None: there was none.
        steps: What its steps took by the clock, in seconds.
    """

    what: str
    begun: str
    state: State
    seconds: float | None = None
    processor: float | None = None
    outcome: str = ""
    remedy: str = ""
    generation: str | None = None
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> datetime | None:
        """When it came to its end, in UTC."""
        return None if self.seconds is None else datetime.fromisoformat(self.begun) + timedelta(seconds=self.seconds)


@dataclass
class WorkOutcome:
    """What the log is to tell of a work that went well: its outcome in words, and seconds by step.

    ``took`` is known once it is over.
    """

    outcome: str = ""
    steps: dict[str, float] = field(default_factory=dict)
    took: Took = field(default_factory=Took)


@contextmanager
def recorded(workspace: Workspace, what: str) -> Iterator[WorkOutcome]:
    """Write down what is done within: how it went, and what it took."""
    log, told = _Log(workspace.root), WorkOutcome()
    begun, watch = datetime.now(UTC).isoformat(timespec="seconds"), Timer()
    ended: dict[str, Any] = {"state": "done"}
    with log.under_way(what, begun):
        try:
            yield told
        except BaseException as error:
            ended = {"state": "failed", **_told(error)}
            raise
        finally:
            told.took = watch.took
            took = {"seconds": round(told.took.seconds, 2), "processor": round(told.took.processor, 2)}
            said = {"outcome": told.outcome[:_CHARACTERS], "steps": told.steps}
            if any(workspace.root.glob("*/current")):  # else a first command has failed, and leaves nothing
                with suppress(MolarError):
                    live = workspace["generations"].pointer
                    log.lines.append({"what": what, "begun": begun, **took, **said, "generation": live, **ended})
            log.lines.close()


def work_done(workspace: Workspace, most: int = 100) -> list[Work]:
    """What was done last, and what is at work, the newest first."""
    log = _Log(workspace.root)
    found = [Work(**one) for one in log.lines.newest(most)] + log.unfinished()
    return sorted(found, key=lambda one: one.begun, reverse=True)[:most]


def step(name: str) -> None:
    """Write down which step the work of this process has come to: where it is killed, that is known."""
    if _open:
        with suppress(OSError, ValueError):
            _open[-1].write(_line({"step": name[:_CHARACTERS]}))


def killed_last(workspace: Workspace) -> list[Work]:
    """What was killed since the last work of the workspace began."""
    return [one for one in _Log(workspace.root).unfinished() if one.state == "killed"]


class _Log:
    def __init__(self, workspace: Path) -> None:
        self._folder = workspace / _FOLDER
        self.lines = JsonLines(self._folder / _FILE, most=_BYTES, kept=_OLDER)

    @contextmanager
    def under_way(self, what: str, begun: str) -> Iterator[None]:
        """Say that something is at work, as long as it is."""
        path = self._folder / f"{time.time_ns()}-{os.getpid()}{_UNDER_WAY}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = path.open("xb", buffering=0)  # on a full disk nothing is left to be written as it is closed
        except OSError:
            yield
            return
        with file:
            with suppress(OSError):
                lock_now(file.fileno())
                file.write(_line({"what": what, "begun": begun}))
            self._clean(path)
            _open.append(file)
            try:
                yield
            finally:
                _open.remove(file)
                path.unlink(missing_ok=True)
                with suppress(OSError):  # something is in it
                    self._folder.rmdir()

    def unfinished(self) -> list[Work]:
        """What is at work, and what was killed."""
        found = []
        for path in self._folder.glob(f"*{_UNDER_WAY}"):
            with suppress(OSError, ValueError, TypeError):
                found.append(Work(**(_killed(path) if _is_free(path) else _begun(path)[0] | {"state": "running"})))
        return found

    def _clean(self, own: Path) -> None:
        """Put into the log what was killed before."""
        for path in self._folder.glob(f"*{_UNDER_WAY}"):
            with suppress(OSError, ValueError, MolarError):
                if path != own and _is_free(path):
                    self.lines.append(_killed(path))
                    path.unlink()


def _line(record: dict[str, str]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _is_free(path: Path) -> bool:
    """Whether nobody holds a file; False where the file system has no locks."""
    with path.open("rb") as file:
        return lock_now(file.fileno(), shared=True)


def _begun(path: Path) -> tuple[dict[str, Any], str]:
    """What is, or was, at work by its file, and the last step that it came to; a line may end in the middle."""
    first, *steps = path.read_text("utf-8").splitlines()
    last = ""
    for line in steps:
        with suppress(ValueError):
            last = json.loads(line)["step"]
    return json.loads(first), last


def _killed(path: Path) -> dict[str, Any]:
    from molar_retrieval.workspace.jobs import remedy

    begun, last = _begun(path)
    outcome = (
        f"it was ended by a signal, or with the machine, {f'in step {last!r}' if last else 'before its first step'}"
    )
    return {**begun, "state": "killed", "outcome": outcome, "remedy": f"run it again; {remedy(None)}"}


def _told(error: BaseException) -> dict[str, str]:
    """What went wrong, without secrets."""
    if isinstance(error, MolarError):
        return {"outcome": redacted(error.message)[:_CHARACTERS], "remedy": redacted(error.hint)[:_CHARACTERS]}
    if isinstance(error, KeyboardInterrupt):
        return {"outcome": "it was interrupted"}
    return {"outcome": redacted(f"{type(error).__name__}: {error}")[:_CHARACTERS]}
