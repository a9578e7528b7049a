"""The audit log: who changed what, when, and how it ended, in ``WORKSPACE/serving/audit.jsonl``.

A change has two lines with the id of its request: one before it is made, on the disk, and one with its status. What
cannot be written down is not done: the log fails closed. A line without a second one is a change during which the
process ended. The lines form a hash chain (``ChainedLines``), which `molar doctor
--deep` checks.

Events are in a log of their own and come by the thousand, and whoever is refused can ask as often as they like; of
both, the log counts requests by key, endpoint and status, and what these were about, in a line each ten seconds. These
lines cannot push others out, and where one cannot be written the event log still is: here the log fails open, and says
so. Wrong keys are counted in the same way, with the address.

People and addresses appear under pseudonyms: HMAC-SHA256 of their id with a key of the workspace, 16 bytes of it.
"""

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from molar_retrieval.errors import MolarError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace.activity_log import ChainedLines
from molar_serving.endpoint import Call
from molar_serving.secret_file import SecretFile

FOLDER = "serving"
_EVERY = 10.0  # seconds that are counted together
_MOST = 1_000  # addresses that are told apart in this time
_NAMED = ("item", "generation", "name", "version", "rule")  # parts of paths that are no people
_log = logging.getLogger("molar.serving")


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

    async def begin(self, call: Call, endpoint: Audited) -> None:
        """Write down that a change is about to be made; a MolarError where it cannot be written."""
        if not endpoint.counted:
            await asyncio.to_thread(self.write, **self._facts(call, endpoint), state="begun")

    async def end(self, call: Call, endpoint: Audited, status: int) -> None:
        """Write down how it ended."""
        if endpoint.counted:
            self._count(_Counted(call.key.name, _named(endpoint), status), call.audit)
        else:
            await asyncio.to_thread(self._ended, call, endpoint, status)

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

    def _ended(self, call: Call, endpoint: Audited, status: int) -> None:
        told = {name: value for name, value in call.audit.items() if name != "people"}
        try:
            people = {"people": self._people(call.audit["people"])} if "people" in call.audit else {}
            self.write(**{**self._facts(call, endpoint), "status": status, **told, **people})
        except MolarError as error:
            _log.error("the audit log misses how request %s ended: status %d; %s", call.request_id, status, error)

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

    def _facts(self, call: Call, endpoint: Audited) -> dict[str, Any]:
        where = {
            name: value if name.startswith(_NAMED) else self.pseudonyms.of(value) for name, value in call.path.items()
        }
        return {"request": call.request_id, "key": call.key.name, "endpoint": _named(endpoint), **where}

    def _people(self, ids: Iterable[str]) -> list[str]:
        return [self.pseudonyms.of(person) for person in ids]


def _named(endpoint: Audited) -> str:
    return f"{endpoint.method} {endpoint.path}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
