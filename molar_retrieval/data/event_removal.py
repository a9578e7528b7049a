"""Lines of people who are forgotten or object leave the event log, and no byte of them stays in its files."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.data import event_store
from molar_retrieval.data.event_log import EventLog, purchase_key
from molar_retrieval.data.event_log_reader import suppressed_lines
from molar_retrieval.data.event_parsing import FIELDS, EventRow
from molar_retrieval.data.event_store import DAY_OF, FIGURES, FILE, KIND, OF_ITEM, SEALED, has_log, write_lock
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.suppression import NEVER, SuppressionList
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import for_owner, sync_file, sync_folder

_PATIENCE = 10.0  # seconds for a compaction that is under way, and for readers of the journal
_WHO = ["user_id", "session_id", "timestamp"]


def remove_lines(workspace: Workspace, suppressed: SuppressionList) -> int:
    """Remove what people on the list did up to their moment, with the ids of these events; how many lines.

    The database is written anew and its journal emptied, so that free pages hold nothing. Of an item that somebody
    changed, the change stays, without who did it. It may be killed anywhere.

    Raises:
        DataError: If another process compacts the log, or keeps its journal from being emptied, for ten seconds.
    """
    if not has_log(workspace) or not suppressed:
        return 0
    with _compacting(workspace), closing(EventLog(workspace)) as log:
        log._asked("PRAGMA secure_delete = ON")
        with log._transaction() as connection:
            opened = list(_open(connection, suppressed))
            sealed = dict(_sealed(connection, log.folder / SEALED, suppressed))
            _remove_open(connection, [row[0] for row in opened])
            gone = [*(row[1:] for row in opened), *(line for _, lines in sealed.values() for line in lines)]
            ids = [(line[0], line[1]) for line in gone]  # events that came with these lines are new if they come again
            ids += [(key, 0) for line in gone if (key := purchase_key(line)) is not None]
            connection.executemany("DELETE FROM ids WHERE event_id = ? AND line = ?", ids)
            for name, (rest, _) in sealed.items():
                _replace_sealed(connection, log.folder / SEALED / name, rest)
        for name in sealed:
            _replace(log.folder / SEALED / name)
        if sealed:  # figures of days count them
            for path in (log.folder / FIGURES).glob("*.parquet"):
                path.unlink(missing_ok=True)
        log._sweep()
        _clean(log)
    return len(gone)


def _open(connection: sqlite3.Connection, suppressed: SuppressionList) -> Iterator[tuple[int, *EventRow]]:
    """Lines of the database, each after its number."""
    query = f"SELECT seq, {', '.join(FIELDS)} FROM events WHERE timestamp <= ? AND "
    for column, until_of, where in (
        ("user_id", suppressed.user, "user_id = ?"),
        ("session_id", suppressed.session, "session_id = ? AND user_id IS NULL"),
    ):
        more = "user_id IS NOT NULL" if column == "user_id" else "user_id IS NULL"
        for (name,) in connection.execute(f"SELECT DISTINCT {column} FROM events WHERE {more}").fetchall():
            until = NEVER if name is None else until_of(name)
            if until != NEVER:
                yield from connection.execute(query + where, [until, name]).fetchall()


def _sealed(
    connection: sqlite3.Connection, folder: Path, suppressed: SuppressionList
) -> Iterator[tuple[str, tuple[pa.Table, list[EventRow]]]]:
    """Sealed days with lines to remove: what is left of each, and what goes."""
    for (name,) in connection.execute("SELECT file FROM sealed ORDER BY day, last").fetchall():
        path = folder / name
        try:
            gone = suppressed_lines(pq.read_table(path, columns=_WHO, use_threads=False), suppressed)
            if gone.any():
                whole = pq.read_table(path, use_threads=False)
                lines = whole.select(FIELDS).filter(pa.array(gone)).to_pylist()
                yield name, (whole.filter(pa.array(~gone)), [tuple(line.values()) for line in lines])
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} cannot be read: {error}", "bring it back from a backup") from error


def _remove_open(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Rows go by their numbers; of a change of an item only who made it."""
    totals = event_store.Totals()
    for number in numbers:
        query = f"SELECT {DAY_OF}, {event_store.ROW}, checksum FROM events WHERE seq = ?"
        day, *row, own = connection.execute(query, [number]).fetchone()
        totals.add(day, -own, -1)
        change = "UPDATE events SET user_id = NULL, session_id = NULL WHERE seq = ?"
        if not connection.execute(f"{change} AND {OF_ITEM}", [number]).rowcount:
            connection.execute("DELETE FROM events WHERE seq = ?", [number])
            continue
        if event_store.checksum(row) == own:  # else it stays known as damaged
            (row,) = connection.execute(f"SELECT {event_store.ROW} FROM events WHERE seq = ?", [number]).fetchall()
            own = event_store.checksum(row)
            connection.execute("UPDATE events SET checksum = ? WHERE seq = ?", [own, number])
        totals.add(day, own)
    totals.write(connection)


def _replace_sealed(connection: sqlite3.Connection, path: Path, rest: pa.Table) -> None:
    """Write a sealed day anew beside the file that it is to replace, and have the database know both."""
    _partial(path).unlink(missing_ok=True)
    if not len(rest):
        event_store.drop_sealed(connection, "file = ?", [path.name])
        return
    pq.write_table(rest, _partial(path), compression="zstd")
    for_owner(_partial(path))
    sync_file(_partial(path))
    day, last = connection.execute("SELECT day, last FROM sealed WHERE file = ?", [path.name]).fetchone()
    digests = event_store.digest_of(_partial(path)), event_store.digest_of(path)
    event_store.add_sealed(connection, (path.name, day, len(rest), last, *digests))


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}")  # a compaction removes what nothing names


def _replace(path: Path) -> None:
    """Put a day that was written anew in its place, or remove it; who reads it has the former file or the new one."""
    if _partial(path).exists():
        _partial(path).replace(path)
    else:
        path.unlink(missing_ok=True)
    sync_folder(path.parent)


def _clean(log: EventLog) -> None:
    """Write the database anew, without free pages, and empty its journal."""
    with write_lock(log.folder):
        log._asked("VACUUM")
        end = time.monotonic() + _PATIENCE
        while log._asked("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
            if time.monotonic() > end:
                words = f"somebody reads {log.folder / FILE}, so that its journal cannot be emptied"
                raise DataError(words, "run the same again when they are through")
            time.sleep(0.02)


@contextmanager
def _compacting(workspace: Workspace) -> Iterator[None]:
    """Keep compactions out; one that is under way is waited for."""
    end = time.monotonic() + _PATIENCE
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(workspace.lock(KIND))
                break
            except DataError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        yield
