"""The event log of a workspace: what users and the catalogue did, appended, never changed; days sealed in Parquet."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval import limits
from molar_retrieval.data import event_store
from molar_retrieval.data.event_log_reader import SCHEMA, Person, snapshot
from molar_retrieval.data.event_parsing import FIELDS, IDENTIFY, EventRow, FieldError, days_late, parse_event
from molar_retrieval.data.event_store import DAY, DAY_OF, FILE, KIND, OF_ITEM, SEALED, STAYS, faults, write_lock
from molar_retrieval.data.refused_events import FIRST, Refusal, RefusedEvents
from molar_retrieval.data.rows import Rejects
from molar_retrieval.errors import DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.frames import TableWriter, ending_of
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.privacy.suppression import SuppressionList, add_session
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import OWNER, for_owner, lock_beside, sync_file, sync_folder

_INSERT = f"INSERT INTO events ({event_store.COLUMNS}, seq, checksum) VALUES ({', '.join('?' * (len(FIELDS) + 3))})"
_ID, _EVENT, _USER, _SESSION, _ITEM, _TIME, _ORDER = (
    FIELDS.index(name)
    for name in ("event_id", "event", "user_id", "session_id", "item_id", "timestamp", "transaction_id")
)
_COMMIT = 5_000  # events of one transaction


def insert_events(
    connection: sqlite3.Connection, events: Iterable[list[EventRow]], received: int, names: Pseudonymiser
) -> int:
    """Insert events in a transaction, but those of which the id of the first line is known; how many are new.

    People are stored by ``names``, what the workspace calls them; ``received`` is when the events came, in
    microseconds since 1970. Of a purchase, items that another event of the same transaction and person brought are left
    out. An id is known from now on, until its day is removed.
    """
    seq, new, totals = _last(connection), 0, []

    def is_new(key: str, number: int, line: EventRow) -> bool:
        values = key, number, line[_TIME] // DAY
        return bool(connection.execute("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", values).rowcount)

    for given in events:
        lines = [_named(line, names) for line in given] if names.keys else given
        keys = {key: line for line in lines if (key := purchase_key(line)) is not None}
        bought = {key for key, line in keys.items() if not is_new(key, 0, line)}
        taken = False
        for line in lines:
            if not is_new(line[_ID], line[1], line):
                if not taken:
                    break
            elif purchase_key(line) not in bought:
                taken, seq = True, seq + 1
                row = (*line, received, seq)
                own = event_store.checksum(row)
                connection.execute(_INSERT, (*row, own))
                totals.append((line[_TIME] // DAY, 1, own))
        new += taken
    event_store.change_totals(connection, totals)
    return new


def _last(connection: sqlite3.Connection) -> int:
    """The number of the last line that ever came."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return 0 if found is None else int(found[0])


def _named(line: EventRow, names: Pseudonymiser) -> EventRow:
    stored, user, session = list(line), line[_USER], line[_SESSION]
    stored[_USER] = None if user is None else names.user(user)
    stored[_SESSION] = None if session is None else names.session(session)
    return tuple(stored)


def purchase_key(line: EventRow) -> str | None:
    """What a line of a purchase is known by beside its event: its order, person and item; None of other lines.

    No id has its first character. :meth:`molar_retrieval.data.live_events.EventLogReader.bought` reads it.
    """
    if line[_EVENT] != "purchase" or line[_ORDER] is None:
        return None
    return "\0".join(["", line[_ORDER], line[_USER] or line[_SESSION], line[_ITEM]])


@dataclass
class AppendResult:
    """What became of the events of one source.

    Attributes:
        accepted: Events that are new, and on the disk now.
        repeated: Events that were there already.
        refused: Events that were not taken.
        refusals: The first 1,000 of these, by row.
        left_out: Events of people who are forgotten or object: taken, and not kept.
        excluded: Rows of an order file that are no purchases by their status: not taken, and no fault.
        seq: The number of the last line of the log; those of the accepted events are at most that.
    """

    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    seq: int = 0
    left_out: int = 0
    excluded: int = 0

    def refuse(self, row: int, name: str, problem: str, remedy: str) -> None:
        """Count an event that is not taken, and name it."""
        self.refused += 1
        if len(self.refusals) < limits.REFUSALS:
            self.refusals.append(Refusal(row, name, problem, remedy))

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CompactResult:
    """What a compaction did.

    Attributes:
        sealed_lines: Lines sealed.
        sealed_files: Files that they are in, one a day.
        removed_lines: Lines beyond the retention, removed.
        damaged_rows: Rows removed by force, as they are not what was written.
    """

    sealed_lines: int
    sealed_files: int
    removed_lines: int
    damaged_rows: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


class EventLog:
    """The log of a workspace; threads may share it, and several processes append to one log.

    Raises:
        DataError: If the file is damaged or cannot be written.
        StaleArtefactError: If another version of molar wrote it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.folder = workspace.root / KIND
        self._queue: list[tuple[list[list[EventRow]], Future[tuple[int, int]]]] = []
        self._refused = RefusedEvents(workspace.root)
        self._gate, self._writing = threading.Lock(), threading.RLock()
        path = self.folder / FILE
        with faults(self.folder):
            (self.folder / SEALED).mkdir(parents=True, exist_ok=True)
            path.touch(OWNER)  # what SQLite writes beside it has the same permissions
            self._connection = sqlite3.connect(path, event_store.WAIT, isolation_level=None, check_same_thread=False)
            with write_lock(self.folder):
                self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            event_store.make_tables(self._connection, path)
        sync_folder(self.folder)
        sync_folder(workspace.root)

    @classmethod
    def existing(cls, workspace: Workspace) -> "EventLog":
        """The log of a workspace that has one; a MissingArtefactError where nothing was appended yet."""
        if not event_store.has_log(workspace):
            raise MissingArtefactError(f"{workspace.root} has no events yet", "run `molar events append FILE` first")
        return cls(workspace)

    def close(self) -> None:
        """Close the file; what was appended is on the disk already."""
        self._connection.close()
        self._refused.close()

    def append(
        self,
        rows: Iterable[tuple[int, Mapping[str, Any]]],
        report: AppendResult | None = None,
        *,
        late_days: float | None = None,
        barred: Mapping[str, str] | None = None,
        completed: Callable[[list[EventRow]], list[EventRow]] | None = None,
    ) -> AppendResult:
        """Append events; when it returns, they survive a kill and a loss of power.

        An event that is there already, by its id, is only counted, however late it comes and in whatever order. One
        that cannot be taken is named, and the others are not touched by it. What is of people who are forgotten or
        object is not kept, see :mod:`molar_retrieval.privacy.suppression`.

        Args:
            rows: Row numbers and events, see :func:`molar_retrieval.data.event_parsing.parse_event`.
            report: Counts on in this one; None: in a new one.
            barred: Kinds that are not taken, with the remedy of each.
            completed: Says more of an event than was sent, from its lines to as many; None: nothing does.
            late_days: Days after its time that what somebody did is still taken; what is there already is only counted,
                as ever. None: however late it comes.
        """
        report = AppendResult() if report is None else report
        refused, named = report.refused, len(report.refusals)
        source = iter(rows)
        while chunk := list(islice(source, _COMMIT)):
            now, events = time.time_ns() // 1000, []
            for number, row in chunk:
                try:
                    lines = parse_event(row, now)
                    if (remedy := (barred or {}).get(kind := lines[0][_EVENT])) is not None:
                        raise FieldError("event", f"the kind {kind} is not taken from who sends it", remedy)
                    lines = lines if completed is None else completed(lines)
                    if late_days is not None:
                        self._check_time(lines, now, late_days)
                    events.append(lines)
                except FieldError as error:
                    report.refuse(number, error.field, error.message, error.hint)
            kept = self._without_suppressed(events)
            new, report.seq = self._durable(kept)
            report.accepted += new
            report.repeated += len(kept) - new
            report.left_out += len(events) - len(kept)
        if report.refused > refused:
            self._refused.keep(report.refusals[named:], report.refused - refused)
        return report

    def _check_time(self, lines: list[EventRow], now: int, late_days: float) -> None:
        """Raise a FieldError where an event comes too late and for the first time."""
        late = days_late(lines, now)
        if late > late_days and not self.rows("SELECT 1 FROM ids WHERE event_id = ?", lines[0][_ID]):
            words = f"send it within {late_days:g} days, or raise late_days in molar.toml, [events]"
            raise FieldError("timestamp", f"the event comes {late:,.1f} days after its time", words)

    def _without_suppressed(self, events: list[list[EventRow]]) -> list[list[EventRow]]:
        suppressed = SuppressionList.of(self.workspace.root)
        if not suppressed:
            return events
        kept, names = [], Pseudonymiser.of(self.workspace.root)
        for lines in events:
            user, session = lines[0][_USER], lines[0][_SESSION]
            stored = suppressed.keyed(names.key(user, session))  # of sessions the list may know no other name
            if lines[0][_TIME] > max(stored, suppressed.person(user, session)):
                kept.append(lines)
            elif lines[0][_EVENT] == IDENTIFY:
                add_session(self.workspace.root, user, session)
                suppressed = SuppressionList.of(self.workspace.root)
        return kept

    def _durable(self, events: list[list[EventRow]]) -> tuple[int, int]:
        """Commit events, together with those that other threads bring meanwhile.

        How many of them are new, and the last line then.
        """
        own = Future[tuple[int, int]]()
        with self._gate:
            self._queue.append((events, own))
        with self._writing:
            if own.done():
                return own.result()
            with self._gate:
                group, self._queue = self._queue, []
            try:
                with self.transaction() as connection:
                    now = time.time_ns() // 1000
                    names = Pseudonymiser.of(self.workspace.root)  # those of this moment: a new key waits for its turn
                    found = [  # somebody may have been put on the list since
                        insert_events(connection, self._without_suppressed(events), now, names) for events, _ in group
                    ]
                    last = _last(connection)
            except BaseException as error:
                for _, waiting in group:
                    waiting.set_exception(error)
            else:
                for (_, waiting), new in zip(group, found, strict=True):
                    waiting.set_result((new, last))
        return own.result()

    def table(self, since: int = 0, of: Person | None = None) -> pa.Table:
        """All lines by (user, time, arrival): users first, then sessions without one, then items' changes.

        With ``since`` only those after a number, with ``of`` only those of one person.
        """
        with snapshot(self.workspace) as state:
            table = pa.concat_tables([SCHEMA.empty_table(), *state.tables(since=since, of=of)])
        without = pc.is_null(table["user_id"])
        who = pc.coalesce(table["user_id"], table["session_id"])
        keys = pa.table([without, who, table["timestamp"], table["seq"]], ["without", "who", "time", "seq"])
        order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
        return table.take(order)

    def tail(self, n: int = 10) -> pa.Table:
        """The last ``n`` lines that arrived, the newest last."""
        limits.whole("n", n, limits.TAIL)
        with snapshot(self.workspace) as state:
            return state.newest(n)

    def compact(self, keep_days: int | None = None, *, today: int | None = None, force: bool = False) -> CompactResult:
        """Seal all days before today (UTC) in Parquet, a file for each, and remove those beyond the retention.

        A file is on the disk before its lines leave the database; killed anywhere, nothing is lost or there twice.
        What a generation does not contain yet stays in the database, where answers find it.

        Args:
            keep_days: Days before today that are kept; older ones go, with the ids of their events. None: all.
            today: Days since 1970; None: by the clock.
            force: Take damaged rows out of the log, and list them among the refused events.

        Raises:
            DataError: If another process compacts this log, or rows are damaged or missing.
        """
        if keep_days is not None:
            limits.whole("keep_days", keep_days, limits.KEPT_DAYS)
        today = int(time.time() // 86_400) if today is None else today
        with self.workspace.lock(KIND):
            damaged = self._mend() if force else 0
            with snapshot(self.workspace) as state:
                state.confirm()
            self.sweep()
            gone = 0 if keep_days is None else self._forget(today - keep_days)
            until = _contained(self.workspace)
            where = f"timestamp < ? AND seq <= ? AND NOT {STAYS}"
            query = f"SELECT DISTINCT {DAY_OF} FROM events WHERE {where} ORDER BY 1"
            days = [day for (day,) in self.rows(query, today * DAY, until)]
            lines = sum(self._seal(day, until) for day in days)
            self.sweep()
        return CompactResult(lines, len(days), gone, damaged)

    def export(self, path: Path, since: int = 0, of: Person | None = None) -> int:
        """Write the lines of :meth:`table`, by time, then arrival, as .parquet, .csv or .jsonl; how many.

        One day is in memory at a time. What is written can be appended again, here or elsewhere; ``seq`` is given anew.

        Raises:
            RequestError: If the ending is none of these.
            DataError: If the path is a folder.
        """
        limits.path("the file of the export", path)
        ending, lines = ending_of(path), 0
        if path.is_dir():
            raise DataError(f"{path} is a folder", "name a file")
        partial = path.with_name(f".{path.name}.partial")
        with snapshot(self.workspace) as state, lock_beside(path):
            try:
                with TableWriter(partial, SCHEMA, ending) as writer:
                    for table in state.in_time(since, of):
                        writer.write(table)
                        lines += len(table)
                for_owner(partial)
                sync_file(partial)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            sync_folder(path.parent)
        return lines

    def _seal(self, day: int, until: int) -> int:
        span = [day * DAY, (day + 1) * DAY, until]
        where = f"timestamp >= ? AND timestamp < ? AND seq <= ? AND NOT {STAYS}"
        with snapshot(self.workspace) as state:
            table = pa.concat_tables(state.of_database(SCHEMA.names, f"WHERE {where} ORDER BY seq", span))
        last = table["seq"][-1].as_py()
        name = f"{date(1970, 1, 1) + timedelta(days=day)}.{last}.parquet"
        path = self.folder / SEALED / name
        write_sealed(path, table)
        sync_folder(path.parent)
        with self.transaction() as connection:
            gone = event_store.drop(connection, "events", f"{where} AND seq <= ?", [*span, last])
            if gone != len(table):
                raise DataError(f"{FILE}: {gone:,} rows are there, {len(table):,} were read", event_store.REMEDY)
            event_store.add_sealed(connection, (name, day, len(table), last, fingerprint.of_file(path), None))
        return len(table)

    def _mend(self) -> int:
        """Take damaged rows out of the database, and list what is damaged or missing; how many rows."""
        with snapshot(self.workspace) as state:
            found = [one for one in state.damage() if one.file == FILE]
        rows = [one.row for one in found if one.row is not None and one.problem == event_store.CHANGED]
        if not found:
            return 0
        with self.transaction() as connection:
            event_store.remove_rows(connection, rows)
        refusals = [Refusal(one.row or 0, "seq", str(one), "send the event again") for one in found]
        for first in range(0, len(refusals), FIRST):
            some = refusals[first : first + FIRST]
            self._refused.keep(some, len(some))
        return len(rows)

    def _forget(self, first: int) -> int:
        """Remove the days before ``first``, but for changes of items; how many lines."""
        with self.transaction() as connection:
            query = "SELECT coalesce(sum(lines), 0) FROM sealed WHERE day < ?"
            (lines,) = connection.execute(query, [first]).fetchone()
            event_store.drop(connection, "sealed", "day < ?", [first])
            lines += event_store.drop(connection, "events", f"timestamp < ? AND NOT {OF_ITEM}", [first * DAY])
            kept = f"SELECT event_id FROM events WHERE {OF_ITEM}"
            connection.execute(f"DELETE FROM ids WHERE day < ? AND event_id NOT IN ({kept})", [first])
            if lines:
                connection.execute("DELETE FROM removed")
                connection.execute("INSERT INTO removed VALUES (?)", [first])
        return int(lines)

    def sweep(self) -> None:
        """Remove files that the database does not name: of a compaction that was killed, or beyond the retention."""
        named = {file for (file,) in self.rows("SELECT file FROM sealed")}
        for path in (self.folder / SEALED).iterdir():
            if path.name not in named:
                path.unlink()
        days = {name.partition(".")[0] for name in named}
        for path in (self.folder / event_store.FIGURES).glob("*.parquet"):
            if path.stem not in days:
                path.unlink(missing_ok=True)

    def rows(self, query: str, *values: int | str) -> list[tuple[Any, ...]]:
        """The rows that a statement of SQL finds; what changes the log belongs into a :meth:`transaction`."""
        with self._writing, faults(self.folder):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A writer's transaction, rolled back on an error; one at a time."""
        with self._writing, write_lock(self.folder), faults(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def write_sealed(path: Path, table: pa.Table) -> None:
    """Write lines of a day; they are on the disk when it returns."""
    pq.write_table(table, path, compression="zstd")
    for_owner(path)
    sync_file(path)


def _contained(workspace: Workspace) -> int:
    """The last line that each generation contains, as any may be rolled back to; the largest number without any."""
    least = 2**63 - 1
    for folder in workspace["generations"].versions():
        with suppress(StaleArtefactError):
            least = min(least, Manifest.read(folder).facts.get("events", {}).get("interactions", 0))
    return least


class Refused(Rejects):
    """Takes what a reader of tables rejects into the report of an append."""

    def __init__(self, report: AppendResult) -> None:
        super().__init__(Path())
        self._report = report

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Refuse a row of a file."""
        problem = f"{file}: {kind}" + (f" ({detail})" if detail else "")
        self._report.refuse(row, "row", problem, "write one event a row, in UTF-8")
