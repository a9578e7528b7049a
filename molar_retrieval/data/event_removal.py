"""Lines of people who are forgotten or object leave the event log, and no byte of them stays in its files."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.data import event_store
from molar_retrieval.data.event_log import EventLog, purchase_key, write_sealed
from molar_retrieval.data.event_log_reader import suppressed_lines
from molar_retrieval.data.event_parsing import FIELDS, OF_ITEMS, EventRow
from molar_retrieval.data.event_store import DAY_OF, FIGURES, FILE, KIND, ROW, SEALED, checksum, write_lock
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.suppression import NEVER, SuppressionList
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import sync_folder

_PATIENCE = 10.0  # seconds for a compaction that is under way, and for readers of the journal
_EVENT, _USER, _SESSION = (FIELDS.index(name) for name in ("event", "user_id", "session_id"))


def remove_lines(workspace: Workspace, suppressed: SuppressionList) -> int:
    """Remove what people on the list did up to their moment, with the ids of these events; how many lines.

    The database is written anew and its journal emptied, so that free pages hold nothing. Of an item that somebody
    changed, the change stays, without who did it. It may be killed anywhere.

    Raises:
        DataError: If another process compacts the log, or keeps its journal from being emptied, for ten seconds.
    """
    if not event_store.has_log(workspace) or not suppressed:
        return 0
    with workspace.lock(KIND, patience=_PATIENCE), closing(EventLog(workspace)) as log:
        log.rows("PRAGMA secure_delete = ON")
        with log.transaction() as connection:
            gone, anew = _remove_open(connection, suppressed), []
            for (name,) in connection.execute("SELECT file FROM sealed ORDER BY day, last").fetchall():
                if lines := _rewrite_sealed(connection, log.folder / SEALED / name, suppressed):
                    gone += lines
                    anew.append(log.folder / SEALED / name)
            ids = [(line[0], line[1]) for line in gone]  # events that came with these lines are new if they come again
            ids += [(key, 0) for line in gone if (key := purchase_key(line)) is not None]
            connection.executemany("DELETE FROM ids WHERE event_id = ? AND line = ?", ids)
        for path in anew:
            _replace(path)
        if anew:  # figures of days count them
            for path in (log.folder / FIGURES).glob("*.parquet"):
                path.unlink(missing_ok=True)
        log.sweep()
        with write_lock(log.folder):
            log.rows("VACUUM")  # free pages go
            end = time.monotonic() + _PATIENCE
            while log.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
                if time.monotonic() > end:
                    words = f"somebody reads {log.folder / FILE}, so that its journal cannot be emptied"
                    raise DataError(words, "run the same again when they are through")
                time.sleep(0.02)
    return len(gone)


def _remove_open(connection: sqlite3.Connection, suppressed: SuppressionList) -> list[EventRow]:
    """Lines of the database go, of a change of an item only who made it; which lines."""
    lines, changes = [], []
    for column, until_of, ours in (
        ("user_id", suppressed.user, "user_id IS NOT NULL"),
        ("session_id", suppressed.session, "user_id IS NULL"),
    ):
        query = f"SELECT {DAY_OF}, {ROW}, checksum FROM events WHERE timestamp <= ? AND {column} = ? AND {ours}"
        for (name,) in connection.execute(f"SELECT DISTINCT {column} FROM events WHERE {ours}").fetchall():
            until = NEVER if name is None else until_of(name)
            for day, *row, own in [] if until == NEVER else connection.execute(query, [until, name]).fetchall():
                lines.append(tuple(row[: len(FIELDS)]))
                changes.append((day, -1, -own))
                if row[_EVENT] not in OF_ITEMS:
                    connection.execute("DELETE FROM events WHERE seq = ?", [row[-1]])
                    continue
                if checksum(row) == own:  # else it stays known as damaged
                    row[_USER] = row[_SESSION] = None
                    own = checksum(row)
                change = "UPDATE events SET user_id = NULL, session_id = NULL, checksum = ? WHERE seq = ?"
                connection.execute(change, [own, row[-1]])
                changes.append((day, 1, own))
    event_store.change_totals(connection, changes)
    return lines


def _rewrite_sealed(connection: sqlite3.Connection, path: Path, suppressed: SuppressionList) -> list[EventRow]:
    """Write a sealed day with lines to remove beside the file that it is to replace; which lines.

    The database knows both files then.
    """
    try:
        who = ["user_id", "session_id", "timestamp"]
        gone = suppressed_lines(pq.read_table(path, columns=who, use_threads=False), suppressed)
        if not gone.any():
            return []
        whole = pq.read_table(path, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}", "bring it back from a backup") from error
    rest, partial = whole.filter(pa.array(~gone)), _partial(path)
    partial.unlink(missing_ok=True)
    if len(rest):
        write_sealed(partial, rest)
        day, last = connection.execute("SELECT day, last FROM sealed WHERE file = ?", [path.name]).fetchone()
        digests = fingerprint.of_file(partial), fingerprint.of_file(path)
        event_store.add_sealed(connection, (path.name, day, len(rest), last, *digests))
    else:
        event_store.drop(connection, "sealed", "file = ?", [path.name])
    return [tuple(line.values()) for line in whole.select(FIELDS).filter(pa.array(gone)).to_pylist()]


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}")  # a compaction removes what nothing names


def _replace(path: Path) -> None:
    """Put a day that was written anew in its place, or remove it; who reads it has the former file or the new one."""
    if _partial(path).exists():
        _partial(path).replace(path)
    else:
        path.unlink(missing_ok=True)
    sync_folder(path.parent)
