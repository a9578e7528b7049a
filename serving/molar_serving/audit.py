"""The audit log: who changed what, when, and how it ended, in ``WORKSPACE/serving/audit.jsonl``.

A change has two lines with the id of its request: one before it is made, on the disk, and one with its status. What
cannot be written down is not done: the log fails closed. A line without a second one is a change during which the
process ended. The lines form a hash chain (``ChainedLines``), which `molar doctor --deep`
checks.

Events are in a log of their own and come by the thousand, and whoever is refused can ask as often as they like; of
both, the log counts requests by key, endpoint and status, and what these were about, in a line each ten seconds. These
lines cannot push others out, and where one cannot be written the event log still is: here the log fails open, and says
so. Wrong keys are counted in the same way, with the address.

People and addresses appear under pseudonyms: HMAC-SHA256 of their id with a key of the workspace, 16 bytes of it.
"""

import asyncio
import hmac
import logging
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from starlette.requests import Request

from molar_retrieval.errors import MolarError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace import files
from molar_retrieval.workspace.activity_log import ChainedLines

FOLDER = "serving"
_EVERY = 10.0  # seconds that are counted together
_MOST = 1_000  # addresses that are told apart in this time
_NAMED = ("item", "generation", "name", "version", "rule")  # parts of paths that are no people
_log = logging.getLogger("molar.serving")
_FILE = "audit"
_OF_CHAIN = frozenset({"seq", "digest", "head_lost"})
_OURS = frozenset({"time", "request", "key", "endpoint", "state", "status", "undo", "undoes"}) | _OF_CHAIN
KEYS = {"made": "molar keys add", "revoked": "molar keys revoke"}
"""What the log says of keys, and the command that wrote it."""
_PIECE = 1 << 16  # bytes that are read at a time, from the end


class SecretFile:
    """32 random bytes in a file that nobody else can read; whichever process needs them first makes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: bytes | None = None

    @property
    def value(self) -> bytes:
        """The secret; a MolarError where there is none and none can be made."""
        if self._known is None:
            try:
                self._known = self._read() or self._made()
            except OSError as error:
                told = f"{self.path} cannot be made: {error}"
                raise files.disk_error(error) or MolarError(told, "see to it") from error
        return self._known

    def _read(self) -> bytes | None:
        try:
            return bytes.fromhex(self.path.read_text("ascii"))
        except FileNotFoundError:
            return None

    def _made(self) -> bytes:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = self.path.with_name(f".{self.path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        file = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as text:
            text.write(secrets.token_hex(32))
            text.flush()
            os.fsync(text.fileno())
        try:
            self.path.hardlink_to(own)  # fails where another process was first: its secret is everybody's
        except FileExistsError:
            pass
        finally:
            own.unlink()
        found = self._read()
        assert found is not None
        return found


class Pseudonyms:
    """Names for people that only who has the key of the workspace can connect with what it calls them."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._key = SecretFile(workspace / FOLDER / "pseudonyms.key")

    def of(self, person: str) -> str:
        """The pseudonym of an id; a MolarError where there is no key and none can be made."""
        stored = Pseudonymiser.of(self._workspace).user(person)
        return hmac.digest(self._key.value, stored.encode("utf-8", "surrogatepass"), "sha256")[:16].hex()


class _Counted(NamedTuple):
    """What requests have in common that are counted together; ``tried`` is the name of a key that was sent wrong."""

    key: str | None
    endpoint: str
    status: int
    address: str | None = None
    tried: str | None = None


class Audited(Protocol):
    """What changes something: an endpoint, or a screen of the studio."""

    @property
    def method(self) -> str:
        """The HTTP method."""

    @property
    def path(self) -> str:
        """The path, with its names in braces."""

    @property
    def changes(self) -> bool:
        """Whether it changes something."""

    @property
    def counted(self) -> bool:
        """Whether its requests are counted together, instead of a line for each."""


class AuditLog:
    """The audit log of a workspace, for one process.

    Args:
        workspace: The workspace.
    """

    def __init__(self, workspace: Path) -> None:
        self.lines = ChainedLines(workspace / FOLDER / "audit.jsonl")
        self.pseudonyms = Pseudonyms(workspace)
        self._counts: dict[_Counted, Counter[str]] = {}
        self._since = ""

    def write(self, **facts: Any) -> None:
        """Write what is told, on the disk when this returns; a MolarError where it cannot be."""
        self.lines.append({"time": _now(), **facts})

    async def begin(self, endpoint: Audited, request: Request, key: str) -> None:
        """Write down that a change is about to be made; a MolarError where it cannot be written."""
        if not endpoint.counted:
            await asyncio.to_thread(self.write, **self._facts(endpoint, request, key), state="begun")

    async def end(self, endpoint: Audited, request: Request, key: str, status: int, told: Mapping[str, Any]) -> None:
        """Write down how it ended, with what is told of it: ids of people in a list ``people``."""
        if endpoint.counted:
            self._count(_Counted(key, _named(endpoint), status), told)
        else:
            await asyncio.to_thread(self._ended, endpoint, request, key, status, told)

    def refuse(self, key: str | None, endpoint: Audited, status: int) -> None:
        """Count a change that was not even begun."""
        self._count(_Counted(key, _named(endpoint), status), {})

    def wrong_key(self, endpoint: Audited, status: int, address: str, tried: str | None) -> None:
        """Count a request with a wrong key, from an address, by the name of the key if there is one of the name."""
        what = _Counted(None, _named(endpoint), status)
        self._count(what if len(self._counts) >= _MOST else what._replace(address=address, tried=tried), {})

    def flush(self) -> None:
        """Write what was counted."""
        counts, self._counts = self._counts, {}
        self._write_counts(counts, self._since)

    def close(self) -> None:
        """Write what was counted, and close the file."""
        self.flush()
        self.lines.close()

    def _ended(self, endpoint: Audited, request: Request, key: str, status: int, told: Mapping[str, Any]) -> None:
        try:
            people = {"people": [self.pseudonyms.of(one) for one in told["people"]]} if "people" in told else {}
            self.write(**{**self._facts(endpoint, request, key), "status": status, **told, **people})
        except MolarError as error:
            about = request.scope["request_id"], status, error
            _log.error("the audit log misses how request %s ended: status %d; %s", *about)

    def _count(self, what: _Counted, told: Mapping[str, Any]) -> None:
        if not self._counts:
            self._since = _now()
            asyncio.get_running_loop().call_later(_EVERY, self._flush_aside)
        found = self._counts.setdefault(what, Counter())
        found.update({"requests": 1, **{name: n for name, n in told.items() if isinstance(n, int)}})

    def _flush_aside(self) -> None:
        counts, self._counts = self._counts, {}
        asyncio.get_running_loop().run_in_executor(None, self._write_counts, counts, self._since)

    def _write_counts(self, counts: Mapping[_Counted, Counter[str]], since: str) -> None:
        for what, found in counts.items():
            facts = {"since": since, "key": what.key, "endpoint": what.endpoint, "status": what.status}
            try:
                facts |= {} if what.address is None else {"address": self.pseudonyms.of(what.address)}
                facts |= {} if what.tried is None else {"tried": what.tried}
                self.write(**facts, **found)
            except MolarError as error:
                told = dict(found), what.endpoint, what.status, error
                _log.error("the audit log misses %s of %s, status %d: %s", *told)

    def _facts(self, endpoint: Audited, request: Request, key: str) -> dict[str, Any]:
        where = {
            name: value if name.startswith(_NAMED) else self.pseudonyms.of(value)
            for name, value in request.path_params.items()
        }
        return {"request": request.scope["request_id"], "key": key, "endpoint": _named(endpoint), **where}


def _named(endpoint: Audited) -> str:
    return f"{endpoint.method} {endpoint.path}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
        undo: What would undo it, see :mod:`molar_serving.studio.screens.changes`; None: nothing can.
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
