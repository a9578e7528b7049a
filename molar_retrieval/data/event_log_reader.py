"""Reading the event log: a snapshot of all of it for batches, and the latest lines of one user for an answer."""

import heapq
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.data import event_store
from molar_retrieval.data.event_parsing import DESCRIBE, FIELDS, IDENTIFY
from molar_retrieval.data.event_store import DAY, FILE, KIND, OF_ITEM, SEALED, WAIT, faults, has_log, make_tables
from molar_retrieval.data.rows import Mask
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.pseudonyms import StoredName
from molar_retrieval.privacy.suppression import NEVER, NOBODY, SuppressionList
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import OWNER

_TYPES = {
    pa.string(): "event_id event user_id session_id item_id list_id request_id transaction_id arm data",
    pa.int64(): "line position seq",
    pa.float64(): "quantity value propensity",
    pa.timestamp("us", "UTC"): "timestamp received",
}
SCHEMA = pa.schema(
    [(name, next(t for t, names in _TYPES.items() if name in names.split())) for name in (*FIELDS, "received", "seq")]
)
"""The log as a table; ``seq`` numbers its lines in the order of their arrival, and is never used twice.

``received`` is when a line arrived.
"""
_AT_ONCE = 65_536
_PLACES = {name: place for place, name in enumerate((*FIELDS, "received", "seq"))}
Person = tuple[str, StoredName]
"""``user_id`` or ``session_id``, and which."""


class EventLogSnapshot:
    """The state of a log that a reader's transaction sees.

    Whoever reads a row that is not as it was written, or a sealed file that is not what was sealed, gets a DataError
    that names it; so does who reads all of it where a row is missing.

    Attributes:
        root: The folder of the workspace.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection, self._folder, self.root = connection, folder, folder.parent

    @property
    def last(self) -> int:
        """The number of the last line that ever came, 0 before the first one."""
        return self._number("SELECT seq FROM sqlite_sequence WHERE name = 'events'")

    @property
    def last_of_items(self) -> int:
        """The number of the last line that changes an item, 0 where there is none."""
        return self._number(f"SELECT max(seq) FROM events WHERE {OF_ITEM}")

    @property
    def removed(self) -> int:
        """Before which day, in days since 1970, lines were removed; 0 where none were."""
        return self._number("SELECT max(before) FROM removed")

    def copy(self, target: Path) -> list[Path]:
        """Copy the database as this state has it; the sealed files that belong to it."""
        names = self._connection.execute("SELECT file FROM sealed ORDER BY day, last").fetchall()
        target.touch(OWNER)
        with closing(sqlite3.connect(target)) as other:
            self._connection.backup(other)
        return [self._folder / SEALED / name for (name,) in names]

    def has_since(self, seq: int, kinds: Collection[str]) -> bool:
        """Whether a line of some kinds came after a number."""
        marks = ", ".join("?" * len(kinds))
        query = f"SELECT EXISTS (SELECT 1 FROM events WHERE seq > ? AND event IN ({marks}))"
        return bool(self._number(query, seq, *kinds)) or any(
            len(table) for table in self._of_files(["seq"], kinds, seq)
        )

    def identified(self, suppressed: SuppressionList = NOBODY) -> dict[StoredName, StoredName]:
        """Which user a session is, by session; the first event that says so counts.

        What is left out of ``suppressed`` people says nothing.
        """
        columns = "session_id", "user_id", "timestamp"
        found = self._rows(columns, f"WHERE event = '{IDENTIFY}' ORDER BY seq DESC")
        return {session: user for session, user, micros in found if micros > suppressed.user(user)}

    def changes_of_people(self, suppressed: SuppressionList = NOBODY) -> Iterator[tuple[StoredName, str]]:
        """What lines say that users are, as JSON, in the order of their arrival, but what is left out of anybody."""
        found = self._rows(("user_id", "data", "timestamp"), f"WHERE event = '{DESCRIBE}' ORDER BY seq")
        return ((user, data) for user, data, micros in found if micros > suppressed.user(user))

    def changes_of_items(self) -> Iterator[dict[str, object]]:
        """Lines that change items, in the order of their arrival."""
        for table in self.of_database(SCHEMA.names, f"WHERE {OF_ITEM} ORDER BY seq"):
            yield from table.to_pylist()

    def tables(
        self,
        columns: Sequence[str] = tuple(SCHEMA.names),
        kinds: Collection[str] | None = None,
        since: int = 0,
        of: Person | None = None,
    ) -> Iterator[pa.Table]:
        """Some columns of lines in no order, in tables of bounded size.

        All of them, or those after ``since``, of some kinds or of one person.
        """
        if not since and of is None:
            self.confirm()
        yield from self._of_files(columns, kinds, since, of)
        yield from self.of_database(columns, *_condition(kinds, since, of))

    def in_time(self, since: int = 0, of: Person | None = None) -> Iterator[pa.Table]:
        """All lines, or those after ``since`` or of one person, by time, then arrival; a table for each day."""
        if not since and of is None:
            self.confirm()
        condition, values = _condition(None, since, of)
        stream = self.of_database(SCHEMA.names, f"{condition} ORDER BY timestamp, seq", values)
        names = self._connection.execute("SELECT day, file FROM sealed WHERE last > ? ORDER BY day", [since]).fetchall()
        files = ((day, table) for day, name in names for table in self.of_sealed(name, SCHEMA.names, None, since, of))
        days = heapq.merge(files, _by_day(stream), key=itemgetter(0))
        for _, tables in groupby(days, key=itemgetter(0)):
            whole = pa.concat_tables(table for _, table in tables)
            if len(whole):
                yield whole.sort_by([("timestamp", "ascending"), ("seq", "ascending")])

    def sealed(self, first: int) -> dict[int, tuple[str, ...]]:
        """Names of the sealed files of each day, from one on, in days since 1970."""
        query = "SELECT day, file FROM sealed WHERE day >= ? ORDER BY day, last"
        found: dict[int, tuple[str, ...]] = {}
        for day, file in self._connection.execute(query, [first]).fetchall():
            found[day] = (*found.get(day, ()), file)
        return found

    def unsealed(self, first: int, kinds: Collection[str]) -> dict[int, tuple[int, int]]:
        """How many lines of some kinds are not sealed yet, and the number of the last, by day, from one on."""
        marks = ", ".join("?" * len(kinds))
        where = f"timestamp >= ? AND event IN ({marks})"
        query = f"SELECT timestamp / {DAY}, count(*), max(seq) FROM events WHERE {where} GROUP BY 1"
        found = self._connection.execute(query, [max(first, 0) * DAY, *kinds])
        return {int(day): (int(count), int(last)) for day, count, last in found}

    def newest(self, count: int) -> pa.Table:
        """The last lines that arrived, the newest last."""
        tables = list(self.of_database(SCHEMA.names, f"ORDER BY seq DESC LIMIT {count}"))
        for file, last in self._connection.execute("SELECT file, last FROM sealed ORDER BY last DESC").fetchall():
            newest = sorted((seq for table in tables for seq in table["seq"].to_pylist()), reverse=True)
            if len(newest) >= count and newest[count - 1] > last:
                break
            tables += self.of_sealed(file, SCHEMA.names)
        table = pa.concat_tables([SCHEMA.empty_table(), *tables]).sort_by("seq")
        return table.slice(max(0, len(table) - count))

    def _number(self, query: str, *values: object) -> int:
        found = self._connection.execute(query, values).fetchone()
        return 0 if found is None or found[0] is None else int(found[0])

    def of_database(self, columns: Sequence[str], condition: str, values: Sequence[object] = ()) -> Iterator[pa.Table]:
        """Some columns of the lines that are not sealed yet, by the rest of an SQL query."""
        schema = pa.schema([SCHEMA.field(name) for name in columns])
        for rows in event_store.verified(self._connection, condition, list(values), _AT_ONCE):
            whole = list(zip(*rows, strict=True))
            arrays = [pa.array(whole[_PLACES[field.name]], field.type) for field in schema]
            yield pa.Table.from_arrays(arrays, schema=schema)

    def damage(self) -> list[event_store.Damage]:
        """All that is not as it was written, in the database and in sealed files; everything is read."""
        return event_store.damage(self._connection, self._folder)

    def _rows(self, columns: Sequence[str], condition: str) -> Iterator[tuple[Any, ...]]:
        chosen = itemgetter(*(_PLACES[name] for name in columns))
        for rows in event_store.verified(self._connection, condition, (), _AT_ONCE):
            yield from map(chosen, rows)

    def confirm(self) -> None:
        """Raise a DataError where a row of the database is missing, or there twice."""
        event_store.confirm(self._connection)

    def _of_files(
        self, columns: Sequence[str], kinds: Collection[str] | None, since: int, of: Person | None = None
    ) -> Iterator[pa.Table]:
        query = "SELECT file FROM sealed WHERE last > ? ORDER BY day, last"
        for (name,) in self._connection.execute(query, [since]).fetchall():
            yield from self.of_sealed(name, columns, kinds, since, of)

    def of_sealed(
        self,
        name: str,
        columns: Sequence[str],
        kinds: Collection[str] | None = None,
        since: int = 0,
        of: Person | None = None,
    ) -> Iterator[pa.Table]:
        """Some columns of the lines of a sealed file: all of them, or as :meth:`tables` has them."""
        path = self._folder / SEALED / name
        reading = list(dict.fromkeys([*columns, "seq", *([] if kinds is None else ["event"]), *(of or ())[:1]]))
        try:
            event_store.check_file(path, self._connection)
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_AT_ONCE, columns=reading, use_threads=False):
                    table = pa.table([batch[name] for name in reading], reading)
                    keep = pc.greater(table["seq"], since)
                    keep = keep if kinds is None else pc.and_(keep, pc.is_in(table["event"], pa.array(kinds)))
                    keep = keep if of is None else pc.and_(keep, pc.equal(table[of[0]], of[1]))
                    yield table.select(list(columns)).filter(keep)
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing", "ask again; if it stays, bring it back from a backup") from error
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged: {error}", "bring it back from a backup") from error


def suppressed_lines(table: pa.Table, suppressed: SuppressionList) -> Mask:
    """Which lines of the log are of suppressed people, by its columns of user, session and time."""
    users, sessions = (table[name].combine_chunks() for name in ("user_id", "session_id"))
    of_session = np.where(np.asarray(pc.is_null(users)), suppressed.sessions(sessions), NEVER)
    until = np.maximum(suppressed.users(users), of_session)
    gone: Mask = table["timestamp"].cast(pa.int64()).to_numpy() <= until
    return gone


def _condition(kinds: Collection[str] | None, since: int, of: Person | None) -> tuple[str, list[object]]:
    where, values = "WHERE seq > ?", [since, *(kinds or ())]
    if kinds is not None:
        where += f" AND event IN ({', '.join('?' * len(kinds))})"
    return (where, values) if of is None else (f"{where} AND {of[0]} = ?", [*values, of[1]])


def _by_day(tables: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """Tables in the order of time, cut where a day ends."""
    for table in tables:
        days = table["timestamp"].cast(pa.int64()).to_numpy() // DAY
        borders = [0, *(np.flatnonzero(days[1:] != days[:-1]) + 1).tolist(), len(table)]
        for begin, end in pairwise(borders):
            yield int(days[begin]), table.slice(begin, end - begin)


@contextmanager
def opened(workspace: Workspace) -> Iterator[EventLogSnapshot | None]:
    """The present state of the log of a workspace; None where there is none."""
    if not has_log(workspace):
        yield None
        return
    with snapshot(workspace) as state:
        yield state


@contextmanager
def snapshot(workspace: Workspace) -> Iterator[EventLogSnapshot]:
    """The present state of the log of a workspace that has one."""
    folder = workspace.root / KIND
    with faults(folder), closing(sqlite3.connect(folder / FILE, WAIT, isolation_level=None)) as connection:
        make_tables(connection, folder / FILE)
        connection.execute("BEGIN")
        yield EventLogSnapshot(connection, folder)
