"""Lines of people who are forgotten or object leave the event log, and no byte of them stays in its files."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.durable import for_owner, sync_file, sync_folder
from molar_retrieval.errors import DataError
from molar_retrieval.events import checksums
from molar_retrieval.events.insertion import bought_key
from molar_retrieval.events.tables import (
    DAY_OF,
    FIGURES,
    FILE,
    KIND,
    OF_ITEM,
    SEALED,
    WAIT,
    Writing,
    bring_up,
    faults,
    has_log,
)
from molar_retrieval.interactions.suppressed import NEVER, SuppressedPeople
from molar_retrieval.workspace import Workspace

_PATIENCE = 10.0  # seconds for a compaction that is under way, and for readers of the journal
_WHO = ("user_id", "session_id", "timestamp")
_KEYS = ("event_id", "line", "event", "user_id", "session_id", "item_id", "transaction_id")


@dataclass(frozen=True)
class RemovedLines:
    """What left the event log: lines, and sealed days that were written anew."""

    lines: int = 0
    files: int = 0


def remove_lines(workspace: Workspace, suppressed: SuppressedPeople) -> RemovedLines:
    """Remove what people on the list did up to their moment, with the ids of these events; may be killed anywhere.

    The database is written anew and its journal emptied, so that free pages hold nothing. Of an item that somebody
    changed, the change stays, without who did it.

    Raises:
        DataError: If another process compacts the log, or keeps its journal from being emptied, for ten seconds.
    """
    folder = workspace.root / KIND
    if not has_log(workspace) or not suppressed:
        return RemovedLines()
    connecting = sqlite3.connect(folder / FILE, WAIT, isolation_level=None)
    with _compacting(workspace), faults(folder), closing(Writing(folder)) as turns, closing(connecting) as connection:
        bring_up(connection, folder / FILE)
        connection.execute("PRAGMA secure_delete = ON")
        with turns.turn():
            sealed = dict(_sealed(connection, folder, suppressed))
            opened = list(_open(connection, suppressed))
            for name, (rest, _) in sealed.items():
                _write_beside(folder / SEALED / name, rest)
            _remove(connection, folder, opened, sealed)
        for name in sealed:
            _replace(folder / SEALED / name)
        _sweep(connection, folder)
        if sealed:  # figures of days count them
            for path in (folder / FIGURES).glob("*.parquet"):
                path.unlink(missing_ok=True)
        with turns.turn():
            _clean(connection, folder)
    return RemovedLines(len(opened) + sum(len(gone) for _, gone in sealed.values()), len(sealed))


def _open(connection: sqlite3.Connection, suppressed: SuppressedPeople) -> Iterator[tuple[Any, ...]]:
    """Lines of the database: their numbers, then what they are known by."""
    query = f"SELECT seq, {', '.join(_KEYS)} FROM events WHERE timestamp <= ? AND "
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
    connection: sqlite3.Connection, folder: Path, suppressed: SuppressedPeople
) -> Iterator[tuple[str, tuple[pa.Table, list[dict[str, Any]]]]]:
    """Sealed days with lines to remove: what is left of each, and what goes."""
    for (name,) in connection.execute("SELECT file FROM sealed ORDER BY day, last").fetchall():
        path = folder / SEALED / name
        try:
            who = pq.read_table(path, columns=list(_WHO), use_threads=False).combine_chunks()
            users, sessions = (who[column].combine_chunks() for column in _WHO[:2])
            of_session = np.where(np.asarray(pc.is_null(users)), suppressed.sessions(sessions), NEVER)
            until = np.maximum(suppressed.users(users), of_session)
            gone = who["timestamp"].cast(pa.int64()).to_numpy() <= until
            if gone.any():
                whole = pq.read_table(path, use_threads=False)
                there = [key for key in _KEYS if key in whole.column_names]
                yield name, (whole.filter(pa.array(~gone)), whole.select(there).filter(pa.array(gone)).to_pylist())
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} cannot be read: {error}", "bring it back from a backup") from error


def _remove(
    connection: sqlite3.Connection,
    folder: Path,
    opened: Sequence[tuple[Any, ...]],
    sealed: dict[str, tuple[pa.Table, list[dict[str, Any]]]],
) -> None:
    """In one transaction: lines, ids of events and of what was bought, and what is known of sealed days."""
    gone = [dict(zip(_KEYS, row[1:], strict=True)) for row in opened]
    gone += [line for _, lines in sealed.values() for line in lines]
    ids = [(line["event_id"], line["line"]) for line in gone]
    ids += [(key, 0) for line in gone if (key := _bought(line)) is not None]
    connection.execute("BEGIN IMMEDIATE")
    try:
        _remove_open(connection, [row[0] for row in opened])
        connection.executemany("DELETE FROM ids WHERE event_id = ? AND line = ?", ids)
        for name, (rest, _) in sealed.items():
            if not len(rest):
                checksums.drop_sealed(connection, "file = ?", [name])
                continue
            path = folder / SEALED / name
            query = "SELECT day, last FROM sealed WHERE file = ?"
            day, last = connection.execute(query, [name]).fetchone()
            digests = checksums.digest_of(_partial(path)), checksums.digest_of(path)
            checksums.add_sealed(connection, (name, day, len(rest), last, *digests))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _remove_open(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Rows go by their numbers; of a change of an item only who made it."""
    totals = checksums.Totals()
    for number in numbers:
        query = f"SELECT {DAY_OF}, {checksums.ROW}, checksum FROM events WHERE seq = ?"
        day, *row, own = connection.execute(query, [number]).fetchone()
        totals.add(day, -own, -1)
        change = "UPDATE events SET user_id = NULL, session_id = NULL WHERE seq = ?"
        if not connection.execute(f"{change} AND {OF_ITEM}", [number]).rowcount:
            connection.execute("DELETE FROM events WHERE seq = ?", [number])
            continue
        if checksums.checksum(row) == own:  # else it stays known as damaged
            (row,) = connection.execute(f"SELECT {checksums.ROW} FROM events WHERE seq = ?", [number]).fetchall()
            own = checksums.checksum(row)
            connection.execute("UPDATE events SET checksum = ? WHERE seq = ?", [own, number])
        totals.add(day, own)
    totals.write(connection)


def _bought(line: dict[str, Any]) -> str | None:
    if line["event"] != "purchase" or line.get("transaction_id") is None:
        return None
    return bought_key(line["transaction_id"], line["user_id"] or line["session_id"], line["item_id"])


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}")  # a compaction removes what nothing names


def _write_beside(path: Path, rest: pa.Table) -> None:
    """Write a sealed day anew beside the file that it is to replace."""
    _partial(path).unlink(missing_ok=True)
    if len(rest):
        pq.write_table(rest, _partial(path), compression="zstd")
        for_owner(_partial(path))
        sync_file(_partial(path))


def _replace(path: Path) -> None:
    """Put a day that was written anew in its place, or remove it; who reads it has the former file or the new one."""
    if _partial(path).exists():
        _partial(path).replace(path)
    else:
        path.unlink(missing_ok=True)
    sync_folder(path.parent)


def _sweep(connection: sqlite3.Connection, folder: Path) -> None:
    """Remove days that nothing names any more: of a run that was killed before it removed them."""
    named = {file for (file,) in connection.execute("SELECT file FROM sealed")}
    for path in (folder / SEALED).iterdir():
        if path.name not in named:
            path.unlink()


def _clean(connection: sqlite3.Connection, folder: Path) -> None:
    """Write the database anew, without free pages, and empty its journal."""
    connection.execute("VACUUM")
    end = time.monotonic() + _PATIENCE
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > end:
            words = f"somebody reads {folder / FILE}, so that its journal cannot be emptied"
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
