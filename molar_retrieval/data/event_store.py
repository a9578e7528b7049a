"""The database of the event log: its tables, its write lock, checksums, and what goes wrong with the file.

A row of ``events`` and of ``sealed`` has a CRC-32 of its values. ``totals`` has, for each day, how many rows of both
tables there are and the sum of their checksums, so that a row that is missing or there twice is noticed. A sealed file
has a BLAKE2b digest in ``sealed``. They find bit rot; whoever can write the file can write matching checksums.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from molar_retrieval.data.event_parsing import DESCRIBE, FIELDS, IDENTIFY, OF_ITEMS
from molar_retrieval.errors import DataError, StaleArtefactError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import disk_error, file_in, file_stamp, lock_now

KIND, FILE, LOCK, SEALED = "events", "log.sqlite", "log.lock", "sealed"
FORMAT = 5
FIGURES = "figures"
"""Where what is counted of sealed days is kept, a file ``DAY.parquet`` for each; it goes with its day."""
DAY = 86_400_000_000  # microseconds
WAIT = 60.0  # seconds that one waits for another process
DAY_OF = f"timestamp / {DAY} - (timestamp < 0 AND timestamp % {DAY} <> 0)"
COLUMNS = ", ".join((*FIELDS, "received"))
OF_ITEM = f"event IN {OF_ITEMS}"
"""Which lines change items. They stay in the database, where an index finds them; no retention removes an item."""
STAYS = f"event IN {(*OF_ITEMS, IDENTIFY, DESCRIBE)}"
"""Which lines are never sealed, so that answers find them."""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS ids (event_id TEXT, line INTEGER, day INTEGER, PRIMARY KEY (event_id, line)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events ({COLUMNS}, checksum, seq INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS sealed
 (file TEXT PRIMARY KEY, day INTEGER, lines INTEGER, last INTEGER, digest TEXT, replaced TEXT, checksum INTEGER);
CREATE TABLE IF NOT EXISTS totals (day INTEGER PRIMARY KEY, lines INTEGER, checksum INTEGER);
CREATE TABLE IF NOT EXISTS removed (before INTEGER);
CREATE INDEX IF NOT EXISTS item_changes ON events (seq) WHERE {OF_ITEM};
CREATE INDEX IF NOT EXISTS of_user ON events (user_id, seq) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS identified ON events (session_id, seq) WHERE event = '{IDENTIFY}';
CREATE INDEX IF NOT EXISTS of_session ON events (session_id, seq) WHERE user_id IS NULL;
"""


def is_made(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the log at ``path`` has its tables; a StaleArtefactError if another version of molar wrote it."""
    known = connection.execute("PRAGMA user_version").fetchone()[0]
    if known not in (0, FORMAT):
        words = f"{path} has format {known}, this version of molar reads {FORMAT}"
        raise StaleArtefactError(words, "use the version of molar that wrote it, or export it with that one")
    return bool(known)


def make_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new log."""
    if is_made(connection, path):
        return
    with write_lock(path.parent):
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")


def has_log(workspace: Workspace) -> bool:
    """Whether anything was appended in a workspace."""
    return file_in(workspace.root, f"{KIND}/{FILE}").exists()


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Be the one process that writes the log of a folder; threads of one process take turns before.

    SQLite would sort writers out by itself, but for its versions before 3.51.3: there a connection that writes while
    another one brings the journal into the database may damage the file (https://sqlite.org/wal.html#walresetbug). All
    that writes does both in here.

    Raises:
        DataError: If another process keeps it too long.
    """
    end, pause = time.monotonic() + WAIT, 0.0005
    with (folder / LOCK).open("ab") as file:
        with suppress(OSError):  # a file system without locks
            while not lock_now(file.fileno()):
                if time.monotonic() > end:
                    raise _busy(folder)
                time.sleep(pause)
                pause = min(2 * pause, 0.01)
        yield


def _busy(folder: Path) -> DataError:
    words = f"another process has been writing {folder / FILE} for {WAIT:.0f} s"
    return DataError(words, "wait until it is done, then run again")


@contextmanager
def faults(folder: Path) -> Iterator[None]:
    """Say of what goes wrong with the database which file it is, and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        path = folder / FILE
        if "locked" in str(error):
            raise _busy(folder) from error
        raise disk_error(error) or DataError(f"{path}: {error}", "bring the file back from a backup") from error
    except OSError as error:
        raise disk_error(error) or error from error


REMEDY = (
    "bring the event log back from a backup; without one, `molar events compact --force` takes damaged rows out and"
    " lists them in events/refused.jsonl"
)
ROW = f"{COLUMNS}, seq"
"""The columns whose values a checksum covers, in their order."""
_TIME = FIELDS.index("timestamp")
_SEALED = "file, day, lines, last, digest, replaced"
CHANGED = "it is not as it was written"
"""The problem of a row whose values are not those that were written."""
_MESSAGES = 20  # of SQLite's own check
_LAST = "SELECT max(last) FROM (SELECT max(seq) AS last FROM events UNION SELECT max(last) FROM sealed)"
_encoded = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class Damage:
    """Something of the event log that is not as it was written."""

    file: str  # of the log, below its folder
    day: str | None  # in ISO 8601; None: that is not known
    row: int | None  # its ``seq``; None: it is not one row
    problem: str

    def __str__(self) -> str:
        where = [self.file, *([] if self.day is None else [f"day {self.day}"])]
        return ", ".join([*where, *([] if self.row is None else [f"row {self.row}"])]) + f": {self.problem}"


def checksum(values: Sequence[Any]) -> int:
    """Of the values of a row: of ``events`` in the order of :data:`ROW`, of ``sealed`` in that of its columns."""
    return crc32(_encoded(values))


def change_totals(connection: sqlite3.Connection, changes: Iterable[Sequence[int]]) -> None:
    """Have days say what they add up to after a change of rows: day, rows, sum of checksums; in its transaction."""
    upsert = (
        "INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT (day) DO UPDATE SET lines = lines + excluded.lines,"
        " checksum = checksum + excluded.checksum"
    )
    connection.executemany(upsert, changes)
    connection.execute("DELETE FROM totals WHERE lines = 0 AND checksum = 0")


_TOTALS = f"""
SELECT day, sum(lines), sum(checksum) FROM (
 SELECT {DAY_OF} AS day, count(*) AS lines, sum(checksum) AS checksum FROM events GROUP BY 1
 UNION ALL SELECT day, count(*), sum(checksum) FROM sealed GROUP BY 1) GROUP BY 1
"""


def drop(connection: sqlite3.Connection, table: str, where: str, values: Sequence[object]) -> int:
    """Delete rows of ``events`` or ``sealed``, and take them from the totals of their days; how many."""
    day = DAY_OF if table == "events" else "day"
    query = f"SELECT {day} AS day, -count(*), -sum(checksum) FROM {table} WHERE {where} GROUP BY 1"
    gone = connection.execute(query, values).fetchall()
    count = connection.execute(f"DELETE FROM {table} WHERE {where}", values).rowcount
    change_totals(connection, gone)
    return count


def add_sealed(connection: sqlite3.Connection, values: tuple[str, int, int, int, str, str | None]) -> None:
    """Name a sealed file from now on, or have what is known of it replaced."""
    drop(connection, "sealed", "file = ?", values[:1])
    own = checksum(values)
    insert = f"INSERT INTO sealed ({_SEALED}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"
    connection.execute(insert, [*values, own])
    change_totals(connection, [(values[1], 1, own)])


def remove_rows(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Take damaged rows out, and have everything else be that of the present rows, in a transaction.

    Raises:
        DataError: If that does not mend it.
    """
    numbers = [(row,) for row in rows]
    known = "DELETE FROM ids WHERE (event_id, line) IN (SELECT event_id, line FROM events WHERE seq = ?)"
    connection.executemany(known, numbers)
    connection.executemany("DELETE FROM events WHERE seq = ?", numbers)
    connection.execute(f"INSERT OR IGNORE INTO ids SELECT event_id, line, {DAY_OF} FROM events")
    connection.execute(f"UPDATE sqlite_sequence SET seq = max(seq, ({_LAST})) WHERE name = 'events'")
    _total_anew(connection)
    connection.execute("REINDEX")
    if left := [*damaged_rows(connection), *_wrong_structure(connection)]:
        raise DataError(f"the event log cannot be mended: {left[0]}", "bring it back from a backup")


def rebuild(connection: sqlite3.Connection, digests: Mapping[str, str]) -> None:
    """Have all checksums be those of the present rows, and of sealed files with these digests, in a transaction."""
    connection.create_function("checksum_of", -1, lambda *values: checksum(values), deterministic=True)
    connection.execute(f"UPDATE events SET checksum = checksum_of({ROW})")
    for file, day, lines, last in connection.execute("SELECT file, day, lines, last FROM sealed").fetchall():
        own = checksum((file, day, lines, last, digests[file], None))
        change = "UPDATE sealed SET digest = ?, replaced = NULL, checksum = ? WHERE file = ?"
        connection.execute(change, [digests[file], own, file])
    _total_anew(connection)


def _total_anew(connection: sqlite3.Connection) -> None:
    """Have the totals be those of the present rows."""
    connection.execute("DELETE FROM totals")
    connection.execute(f"INSERT INTO totals {_TOTALS}")


def verified(
    connection: sqlite3.Connection, condition: str, values: Sequence[object], size: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of ``events`` by the rest of an SQL query, up to ``size`` at a time, with the columns of :data:`ROW`.

    Raises:
        DataError: If one is not as it was written, which is named.
    """
    try:
        cursor = connection.execute(f"SELECT {ROW}, checksum FROM events {condition}", values)
        while rows := cursor.fetchmany(size):
            for row in rows:
                if checksum(row[:-1]) != row[-1]:
                    raise _refused([_damage(row[-2], row[_TIME])])
            yield [row[:-1] for row in rows]
    except sqlite3.DatabaseError as error:  # a value that cannot even be read
        if "locked" in str(error):
            raise
        if found := next(damaged_rows(connection), None):
            raise _refused([found]) from error
        raise


def confirm(connection: sqlite3.Connection) -> None:
    """Raise a DataError where a row is missing or there twice, or what is known of a sealed file was changed."""
    if found := [*_wrong_totals(connection), *_wrong_sealed(connection)]:
        raise _refused(found)


def check_file(path: Path, connection: sqlite3.Connection) -> None:
    """Raise a DataError where a sealed file is not what a reader's transaction knows.

    It may also be what is known by now, where somebody has written it anew meanwhile.
    """
    query, found = "SELECT digest, replaced FROM sealed WHERE file = ?", _digest_of(path, file_stamp(path))
    known = connection.execute(query, [path.name]).fetchall()
    if not any(found in digests for digests in known):
        with closing(sqlite3.connect(path.parents[1] / FILE, WAIT, isolation_level=None)) as now:
            known = now.execute(query, [path.name]).fetchall()
    if not any(found in digests for digests in known):
        raise DataError(f"{path} is damaged: it is not what was sealed", "bring the file back from a backup")


@lru_cache(maxsize=1024)
def _digest_of(path: Path, mark: object) -> str:
    return fingerprint.of_file(path)


def damage(connection: sqlite3.Connection, folder: Path) -> list[Damage]:
    """All that is wrong with the log in a folder, by a reader's transaction; everything is read."""
    found = [*damaged_rows(connection)]
    for check in (_wrong_totals, _wrong_sealed, _wrong_structure, _wrong_ids):
        try:
            found += check(connection)
        except sqlite3.Error as error:
            found.append(Damage(FILE, None, None, str(error)))
    with suppress(sqlite3.Error):  # which is told already
        query = "SELECT file, day, digest, replaced FROM sealed ORDER BY day, last"
        for file, day, *digests in connection.execute(query).fetchall():
            try:
                if fingerprint.of_file(folder / SEALED / file) not in digests:
                    found.append(Damage(f"{SEALED}/{file}", _iso(day), None, "it is not what was sealed"))
            except OSError as error:
                found.append(Damage(f"{SEALED}/{file}", _iso(day), None, f"it cannot be read: {error.strerror}"))
    return found


def damaged_rows(connection: sqlite3.Connection) -> Iterator[Damage]:
    """Rows of ``events`` that are not as they were written, as far as the table can be read."""
    former, connection.text_factory = connection.text_factory, lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        for row in connection.execute(f"SELECT {ROW}, checksum FROM events NOT INDEXED"):
            try:
                whole = checksum(row[:-1]) == row[-1]
            except (ValueError, OverflowError, msgspec.MsgspecError):  # a text that is no text any more
                whole = False
            if not whole:
                yield _damage(row[-2], row[_TIME])
    except sqlite3.Error as error:
        yield Damage(FILE, None, None, f"its rows cannot be read to the end: {error}")
    finally:
        connection.text_factory = former


def _damage(seq: int, micros: object) -> Damage:
    return Damage(FILE, _iso(micros // DAY if isinstance(micros, int) else None), seq, CHANGED)


def _wrong_totals(connection: sqlite3.Connection) -> Iterator[Damage]:
    wanted = {day: total for day, *total in connection.execute("SELECT day, lines, checksum FROM totals")}
    there = {day: total for day, *total in connection.execute(_TOTALS)}
    for day in dict.fromkeys([*wanted, *there]):
        if wanted.get(day) != there.get(day):
            lines, now = (total[0] if total else 0 for total in (wanted.get(day), there.get(day)))
            what = f"{now} rows are there, {lines} were written" if now != lines else "its rows are not those written"
            yield Damage(FILE, _iso(day), None, what)


def _wrong_structure(connection: sqlite3.Connection) -> Iterator[Damage]:
    for (message,) in connection.execute(f"PRAGMA integrity_check({_MESSAGES})"):
        if message != "ok":
            yield Damage(FILE, None, None, " ".join(str(message).split()))


def _wrong_ids(connection: sqlite3.Connection) -> Iterator[Damage]:
    query = (
        f"SELECT seq, {DAY_OF} FROM events AS e WHERE NOT EXISTS (SELECT 1 FROM ids WHERE ids.event_id = e.event_id"
        " AND ids.line = e.line)"
    )
    for seq, day in connection.execute(f"{query} LIMIT {_MESSAGES}"):
        yield Damage(FILE, _iso(day), seq, "its id is not known, so that the event would be taken twice")
    ((last,),) = connection.execute(_LAST).fetchall()
    numbered = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    if last is not None and (numbered is None or numbered[0] < last):
        yield Damage(FILE, None, None, "the number of the last row is less than that of a row")


def _wrong_sealed(connection: sqlite3.Connection) -> Iterator[Damage]:
    for *values, own in connection.execute(f"SELECT {_SEALED}, checksum FROM sealed").fetchall():
        if checksum(values) != own:
            what = f"what it says of the sealed file {values[0]} is not as it was written"
            yield Damage(FILE, _iso(values[1]), None, what)


def _refused(found: Sequence[Damage]) -> DataError:
    return DataError(f"the event log is damaged: {'; '.join(map(str, found[:3]))}", REMEDY)


def _iso(day: object) -> str | None:
    with suppress(OverflowError, TypeError):
        return str(date(1970, 1, 1) + timedelta(days=day))  # type: ignore[arg-type]
    return None
