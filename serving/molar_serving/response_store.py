"""Answers that were given, kept for a while: shown again byte by byte, and gone on with by the next page.

They lie in memory until they are written, in batches by a thread, to ``WORKSPACE/serving/answers.sqlite``, where the
other worker processes find them. Nothing waits for the disk, and nothing fails by it: what cannot be written stays in
memory, up to a bound. The journal is a plain one, with which several processes may write whatever the version of
SQLite; a power failure may cost the file, which is made anew then.

Propensities of what was shown, in the event log: pages are not told any, and could not send them with impressions.

A page that knew them would know whom the shop knows. So an impression that comes without them gets those that its list
had, as long as the answer is kept (``[serve] response_ttl_minutes``); what is sent with some stays as it is. Of lists
for somebody alone: what was searched for, or is like another item, is no choice that an evaluation could make
otherwise.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from molar_retrieval.data.event_parsing import FIELDS, EventRow
from molar_retrieval.errors import MolarError
from molar_retrieval.privacy.suppression import NEVER, ListFollower, SuppressionList
from molar_retrieval.ranking.results import made_at
from molar_retrieval.workspace.threads import BackgroundThread
from molar_serving.asking import Question, who
from molar_serving.audit import FOLDER
from molar_serving.wire import (
    AnsweredItem,
    InExperiment,
    ListAnswer,
    RecommendationRequest,
    SearchRequest,
    SimilarRequest,
    encode,
    plain,
)

FILE = "answers.sqlite"
_KINDS: dict[str, type[Question]] = {
    kind.__name__: kind for kind in (RecommendationRequest, SearchRequest, SimilarRequest)
}
_BATCH = 0.05  # seconds in which answers gather
SOON = 1.0  # seconds after which one is on the disk, or will not be
_TICK = 0.25  # seconds between two looks at the suppression list
_UNDER_WAY = 10.0  # seconds that an answer which knew somebody's past may have been under way
_PRUNED = 10.0  # seconds between two looks for what is too old
_AGAIN = 5.0  # seconds until the file is tried again
_IN_MEMORY = 32 << 20  # bytes of answers that wait to be written
_ON_DISK = 1 << 30  # bytes of the file
_TENTH = 10  # of the answers go, the oldest, where the file is full
_NO_FILE = -1
_WAIT = 5.0  # seconds that one process waits for another one's batch
_TABLE = "CREATE TABLE IF NOT EXISTS answers (id TEXT PRIMARY KEY, placement TEXT, content BLOB)"
_log = logging.getLogger("molar.serving")
_EVENT, _REQUEST, _ITEM, _CHANCE = map(FIELDS.index, ("event", "request_id", "item_id", "propensity"))
_PATIENCE, _LOOK = 0.25, 0.025
"""Seconds that an append waits for what another process answers and has not written yet, and between two looks."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer as it was given.

    Attributes:
        answer_id: Its id.
        body: What was sent.
        question: What was asked; None: it has no next page.
        generation: What answered.
        events: The last event that the list's first page knew.
        items: The items on it and on the pages before it.
        of_browsers: Whether it is for a browser's key, and so tells little.
        placement: Where it is shown.
        experiment: Which one it is of, with the arm.
        propensities: Of a list for somebody, those of its items that are known, by id.
        told: What ``body`` says, which takes less room on the disk; None: it is written as it is.
    """

    answer_id: str
    body: bytes
    question: Question | None
    generation: str
    events: int
    items: Sequence[str]
    of_browsers: bool = False
    placement: str | None = None
    experiment: InExperiment | None = None
    propensities: Mapping[str, float] = field(default_factory=dict)
    told: ListAnswer | None = field(default=None, compare=False, repr=False)


class ShownAnswers:
    """What was answered in the last minutes; threads may share it, and processes a workspace.

    Args:
        workspace: The folder of the workspace.
        minutes: How long answers are kept; 0: none is.
        release: Called every few seconds.

    Attributes:
        problem: Why answers are not written, or None.
    """

    def __init__(self, workspace: Path, minutes: float, release: Callable[[], None] = lambda: None) -> None:
        self._workspace = workspace
        self._file, self.seconds, self._release = workspace / FOLDER / FILE, 60 * minutes, release
        self._follower: ListFollower | None = None
        self._followed: object = ()  # the list that was applied last
        self.problem: str | None = None
        self._memory: dict[str, Shown] = {}
        self._size = 0
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._came, self._ended = threading.Event(), threading.Event()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._read_from = self._written_to = _NO_FILE
        self._thread = BackgroundThread("shown", self._run)

    def start(self) -> None:
        """Begin to write."""
        if not self.seconds:
            return
        with suppress(OSError):  # a workspace that cannot be written: no list of it can be changed there, either
            self._follower = ListFollower(self._workspace)
        self._heed()
        self._thread.start()

    def keep(self, shown: Shown) -> None:
        """Keep an answer; it is found from now on."""
        with self._lock:
            self._memory[shown.answer_id] = shown
            self._size += len(shown.body)
            while self._size > _IN_MEMORY:
                self._forget(next(iter(self._memory)))
        if not self._came.is_set():  # waking the thread costs more than all else here
            self._came.set()

    def find(self, answer_id: str) -> Shown | None:
        """An answer that is not too old; None where it is not known, of other processes: not yet."""
        if self.expired(answer_id):
            return None
        with self._lock:
            known = self._memory.get(answer_id)
        found = known or self._read(answer_id)
        return None if found is None or _is_of(found, SuppressionList.of(self._workspace)) else found

    def expired(self, answer_id: str) -> bool:
        """Whether an answer of this id was given so long ago that it is not kept any more."""
        made = made_at(answer_id)
        return made is not None and made + self.seconds < time.time()

    def awaited(self, answer_id: str) -> bool:
        """Whether an answer was given just now, so that another process may not have written it yet."""
        made = made_at(answer_id)
        return bool(self.seconds) and made is not None and abs(time.time() - made) < SOON

    def close(self) -> None:
        """Write what is not written yet, and close the file."""
        self._ended.set()
        self._came.set()
        self._thread.join()
        if self._thread.started:
            self._store(prune=False)
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _run(self) -> None:
        next_look = tried = float("-inf")
        while not self._ended.is_set():
            came = self._came.wait(_TICK)
            if came:
                self._ended.wait(_BATCH)
            self._heed()
            now = time.monotonic()
            if not came and now <= next_look:
                continue
            if self.problem is None or now > tried + _AGAIN:
                tried = now
                self._came.clear()
                self._store(prune=now > next_look)
            if now > next_look:
                next_look = now + _PRUNED
                self._release()

    def _heed(self) -> None:
        """Remove from memory what was answered to people on the suppression list, whenever that has changed."""
        try:
            people = SuppressionList.of(self._workspace)
            if people.digest == self._followed:
                return
            with self._lock:
                for one in [one for one in self._memory.values() if _is_of(one, people)]:
                    self._forget(one.answer_id)
            if self._follower is not None:
                self._follower.applied(people)
            self._followed = people.digest
        except (MolarError, OSError) as error:  # who changed the list is told that this process was not reached
            _log.warning("the suppression list was not applied to answers in memory: %s", error)

    def _store(self, *, prune: bool) -> None:
        """Write what waits; what cannot be written goes on waiting."""
        with self._lock:
            batch = list(self._memory.values())
        if not batch and self._writer is None and not self._file.exists():
            return
        try:
            self._write(self._packed(batch), prune)
        except (sqlite3.Error, OSError, MolarError) as error:
            self._failed(error)
            return
        self.problem = None
        with self._lock:
            for one in batch:
                self._forget(one.answer_id)

    def _packed(self, batch: Sequence[Shown]) -> list[tuple[str, str | None, bytes]]:
        """What is to be written; nothing of people on the suppression list, nor what cannot be packed."""
        people, rows = SuppressionList.of(self._workspace), []
        for one in batch:
            if _is_of(one, people):
                continue
            try:
                rows.append((one.answer_id, one.placement, packed(one)))
            except Exception:  # one answer must not keep the others from being written
                _log.exception("answer %s cannot be kept", one.answer_id)
        return rows

    def _write(self, rows: Sequence[tuple[str, str | None, bytes]], prune: bool) -> None:
        if self._writer is not None and self._identity() != self._written_to:  # somebody removed it
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch(0o600)
            self._written_to = self._identity()
            self._writer = sqlite3.connect(self._file, _WAIT, isolation_level=None, check_same_thread=False)
            for pragma in ("page_size = 16384", "journal_mode = TRUNCATE", "synchronous = OFF", "secure_delete = ON"):
                self._writer.execute(f"PRAGMA {pragma}")
            self._writer.execute(_TABLE)
        with self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
            if prune:
                _prune(self._writer, time.time() - self.seconds)

    def _failed(self, error: Exception) -> None:
        if self.problem is None:
            _log.warning("answers are kept in memory alone, as %s cannot be written: %s", self._file, error)
        reason = error.strerror if isinstance(error, OSError) else error  # who asks need not know where it lies
        self.problem = f"answers are not kept for long, as {self._file.name} cannot be written: {reason}"
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged and self._identity() == self._written_to:
            with suppress(OSError):  # it holds nothing that must not be lost
                self._file.unlink()

    def _identity(self) -> int:
        """Which file it is: another one after it was removed and made anew."""
        try:
            return self._file.stat().st_ino
        except OSError:
            return _NO_FILE

    def _read(self, answer_id: str) -> Shown | None:
        with self._reading:
            try:
                if self._reader is not None and self._identity() != self._read_from:
                    self._reader.close()
                    self._reader = None
                if self._reader is None:
                    self._read_from = self._identity()
                    self._reader = sqlite3.connect(
                        f"{self._file.absolute().as_uri()}?mode=rw", _WAIT, check_same_thread=False, uri=True
                    )
                found = self._reader.execute("SELECT content FROM answers WHERE id = ?", (answer_id,)).fetchone()
            except sqlite3.Error:  # there is none yet, or another process makes it anew
                if self._reader is not None:
                    self._reader.close()
                self._reader = None
                return None
        return None if found is None else unpacked(answer_id, found[0])

    def _forget(self, answer_id: str) -> None:
        if (gone := self._memory.pop(answer_id, None)) is not None:
            self._size -= len(gone.body)


def _is_of(one: Shown, people: SuppressionList) -> bool:
    """Whether an answer is to somebody on the suppression list, by what is left out."""
    question = one.question
    if not people or question is None or isinstance(question, SimilarRequest):
        return False
    user_id, session_id = who(question)
    until = max((people.user(user_id) if user_id else NEVER), (people.session(session_id) if session_id else NEVER))
    made = made_at(one.answer_id)
    return until != NEVER and (made is None or 1e6 * (made - _UNDER_WAY) <= until)


def _prune(connection: sqlite3.Connection, since: float) -> None:
    """Remove what is older than a moment, and the oldest where the file is too large."""
    connection.execute("DELETE FROM answers WHERE id < ?", (f"{int(1000 * since):012x}",))
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    if (pages - free) * size > _ON_DISK:
        some = connection.execute("SELECT count(*) FROM answers").fetchone()[0] // _TENTH
        last = "SELECT id FROM answers ORDER BY id LIMIT 1 OFFSET ?"
        connection.execute(f"DELETE FROM answers WHERE id <= ({last})", (some,))


_Packed: TypeAlias = tuple[
    bytes | list[Any], str, msgspec.Raw, str, int, list[str], bool, str | None, InExperiment | None, dict[str, float]
]
_encoder, _decoder = msgspec.msgpack.Encoder(enc_hook=plain), msgspec.msgpack.Decoder(_Packed)
_OF_LIST, _OF_ITEM = ListAnswer.__struct_fields__, AnsweredItem.__struct_fields__
_ITEMS = _OF_LIST.index("items")


def packed(one: Shown) -> bytes:
    """An answer as it lies on the disk."""
    kind = "" if one.question is None else type(one.question).__name__
    about = one.generation, one.events, list(one.items), one.of_browsers, one.placement, one.experiment
    body = one.body if one.told is None else _values(one.told)
    return _encoder.encode((body, kind, one.question, *about, one.propensities))


def _values(told: ListAnswer) -> list[Any]:
    """A list without the names of its fields: half as much, and made in a tenth of the time that compressing takes."""
    values = list(msgspec.structs.astuple(told))
    values[_ITEMS] = [msgspec.structs.astuple(item) for item in told.items]
    return values


def _sent(values: list[Any]) -> bytes:
    """What was sent of a list, byte by byte: fields by name, in their order."""
    values[_ITEMS] = [dict(zip(_OF_ITEM, item, strict=True)) for item in values[_ITEMS]]
    return encode(dict(zip(_OF_LIST, values, strict=True)))


def unpacked(answer_id: str, content: bytes) -> Shown | None:
    """The answer that was packed; None where another version of molar did it, to which other questions are known."""
    try:
        values = _decoder.decode(content)
        body, kind, raw = values[:3]
        sent = body if isinstance(body, bytes) else _sent(body)
        question = msgspec.msgpack.decode(raw, type=_KINDS[kind]) if kind else None
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError):
        return None
    return Shown(answer_id, sent, question, *values[3:])


def propensities_of(told: ListAnswer) -> Mapping[str, float]:
    """Those of a list, by item id, before a page is kept from them."""
    return {item.item_id: item.propensity for item in told.items if item.propensity is not None}


class Propensities:
    """What is known of them, for the events of one append.

    Args:
        shown: The answers that are kept.
    """

    def __init__(self, shown: ShownAnswers) -> None:
        self._shown, self._left = shown, _PATIENCE

    def completed(self, lines: list[EventRow]) -> list[EventRow]:
        """The lines of an event, of an impression that tells none with the propensities of its list."""
        request = lines[0][_REQUEST]
        if lines[0][_EVENT] != "impression" or request is None or any(line[_CHANCE] is not None for line in lines):
            return lines
        answer = self._find(request)
        if answer is None or not answer.propensities:
            return lines
        chances = [answer.propensities.get(line[_ITEM]) for line in lines]
        return [(*line[:_CHANCE], chance, *line[_CHANCE + 1 :]) for line, chance in zip(lines, chances, strict=True)]

    def _find(self, request: str) -> Shown | None:
        found = self._shown.find(request)
        while found is None and self._left > 0 and self._shown.awaited(request):
            time.sleep(_LOOK)
            self._left -= _LOOK
            found = self._shown.find(request)
        return found
