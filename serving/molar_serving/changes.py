"""The audit log as a list of changes, the newest first, each with how it ended and what would undo it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from molar_serving.audit import FOLDER

_FILE = "audit"
_OF_CHAIN = frozenset({"seq", "digest", "head_lost"})
_OURS = frozenset({"time", "request", "key", "endpoint", "state", "status", "undo", "undoes"}) | _OF_CHAIN
KEYS = {"made": "molar keys add", "revoked": "molar keys revoke"}
"""What the log says of keys, and the command that wrote it."""
_PIECE = 1 << 16  # bytes that are read at a time, from the end


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        request: The id of the request that made it; empty: a command did.
        time: When it ended, or began where nothing tells that it ended; ISO 8601.
        key: The name of the key by which it was made; of a command, who ran it.
        endpoint: Method and path of what was asked for, or the command.
        status: How it ended; None: the process ended meanwhile.
        facts: What else the log tells: names of things, numbers, pseudonyms of people.
        undo: What would undo it, see :mod:`molar_serving.undo`; None: nothing can.
        undoes: The request whose change it undid, or None.
        undone: The request that undid it, or None.
    """

    request: str
    time: str
    key: str
    endpoint: str
    status: int | None
    facts: Mapping[str, Any]
    undo: Mapping[str, Any] | None = None
    undoes: str | None = None
    undone: str | None = None

    @property
    def made(self) -> bool:
        """Whether it was made."""
        return self.status is not None and self.status < 400


def changes(workspace: Path, begin: int = 0, most: int = 100) -> list[Change]:
    """Some of the changes that the log of a workspace tells of, the newest first, after ``begin`` newer ones."""
    found: list[Change] = []
    for place, one in enumerate(_all(workspace)):
        if place >= begin + most:
            break
        if place >= begin:
            found.append(one)
    return found


def change_of(workspace: Path, request: str) -> Change | None:
    """The change that a request made; None where the log does not tell of it."""
    return next((one for one in _all(workspace) if one.request == request), None)


def _all(workspace: Path) -> Iterator[Change]:
    ended: set[str] = set()
    undone: dict[str, str] = {}
    for line in _lines(workspace / FOLDER):
        if (key := _of_key(line)) is not None:
            yield key
        request = line.get("request")
        if not isinstance(request, str) or request in ended:
            continue
        ended.add(request)  # its last line comes first, and tells all that the first one does
        begun = line.get("state") == "begun"
        one = Change(
            request,
            str(line.get("time", "")),
            str(line.get("key") or ""),
            str(line.get("endpoint", "")),
            None if begun else int(line.get("status", 0)),
            {name: value for name, value in line.items() if name not in _OURS},
            line.get("undo"),
            line.get("undoes"),
            undone.get(request),
        )
        if one.undoes is not None and one.made:
            undone.setdefault(one.undoes, request)
        yield one


def _of_key(line: Mapping[str, Any]) -> Change | None:
    """The change of a key, by somebody at the command line, if a line tells of one."""
    for what, endpoint in KEYS.items():
        if "by" in line and isinstance(name := line.get(what), str):
            return Change("", str(line.get("time", "")), str(line["by"]), endpoint, 200, {"name": name})
    return None


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of all files of the log, the last one first; what is torn is left out."""
    older = sorted(folder.glob(f"{_FILE}.*.jsonl"), reverse=True)
    for path in (folder / f"{_FILE}.jsonl", *older):
        for line in _backwards(path):
            try:
                found = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue
            if isinstance(found, dict):
                yield found


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first; none where there is no file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        end, rest = file.seek(0, 2), b""
        while end:
            begin = max(0, end - _PIECE)
            file.seek(begin)
            first, *lines = (file.read(end - begin) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            end, rest = begin, first
        if rest:
            yield rest
