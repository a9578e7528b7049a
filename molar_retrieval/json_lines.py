"""Logs of JSON lines that several processes append to, and that never grow beyond what they may."""

import errno
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from molar_retrieval import disk
from molar_retrieval.durable import OWNER, write_atomically
from molar_retrieval.errors import MolarError
from molar_retrieval.locks import lock_now, wait_beside

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
            head = _read_head(self._head)
            lost = head is None and (self.path.exists() or bool(self._older()))
            if head is None:
                head = ChainHead()
                if not lost:
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
            size, rest = file.seek(0, os.SEEK_END), _unfinished(file.fileno())
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
            if os.write(file, whole) < len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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
    return _read_head(_head_path(path))


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
                place, found = f"{one.name}, line {number}", _LINK.fullmatch(line)
                if found is None:
                    if line.endswith(b"\n") or one != path:
                        yield f"{place}: this is no line of the log"
                    continue
                link = ChainLink(int(found[2]), found[3].decode())
                if last is None and link.seq <= removed.seq:
                    before = None  # of a file that is about to be removed
                else:
                    before = last or removed
                    yield from _misplaced(place, before, link)
                if (
                    before is not None
                    and before.seq + 1 == link.seq
                    and _digest(before.digest, found[1]) != link.digest
                ):
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


def _read_head(path: Path) -> ChainHead | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ChainHead)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


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


def _unfinished(file: int) -> bytes:
    """What follows the last line end of a file."""
    return _end_of(file, 1)[-1]


def _end_of(file: int, ends: int) -> list[bytes]:
    """The end of a file, with so many line ends if it has them, as lines; the last one is unfinished or empty."""
    found, begin = b"", os.fstat(file).st_size
    while begin and found.count(b"\n") < ends:
        size = min(begin, _BLOCK)
        begin -= size
        found = os.pread(file, size, begin) + found
    return found.split(b"\n")
