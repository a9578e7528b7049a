"""The tables of the event log's database, the lock of those who write them, and what goes wrong with the file."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from molar_retrieval.errors import DataError, StaleArtefactError
from molar_retrieval.events.event import DESCRIBE, FIELDS, IDENTIFY, OF_ITEMS
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import disk_error, file_in, lock_now

KIND, FILE, LOCK, SEALED = "events", "log.sqlite", "log.lock", "sealed"
FORMAT = 5
FIGURES = "figures"
"""Where what is counted of sealed days is kept, a file ``DAY.parquet`` for each; it goes with its day."""
DAY = 86_400_000_000  # microseconds
WAIT = 60.0  # seconds that one waits for another process
_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01  # seconds between two looks whether it is through
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
    with (folder / LOCK).open("ab") as file:
        with suppress(OSError):  # a file system without locks
            _wait(file.fileno(), folder)
        yield


def _wait(descriptor: int, folder: Path) -> None:
    end, pause = time.monotonic() + WAIT, _PAUSE
    while not lock_now(descriptor):
        if time.monotonic() > end:
            raise _busy(folder)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _busy(folder: Path) -> DataError:
    return DataError(
        f"another process has been writing {folder / FILE} for {WAIT:.0f} s", "wait until it is done, then run again"
    )


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
