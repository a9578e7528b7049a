"""The tables of the event log's database, and what of an event goes into them."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from molar_retrieval import bounds
from molar_retrieval.disk import fault
from molar_retrieval.errors import DataError, StaleArtefactError
from molar_retrieval.events.event import DESCRIBE, FIELDS, IDENTIFY, OF_ITEMS, Line
from molar_retrieval.interactions.pseudonyms import Pseudonymiser
from molar_retrieval.locks import lock_now, unlock
from molar_retrieval.marks import file_in
from molar_retrieval.workspace import Workspace

KIND, FILE, LOCK, SEALED = "events", "log.sqlite", "log.lock", "sealed"
FORMAT = 4
READ = (3, FORMAT)
"""Formats in which answers find what they read; an older one is brought up first."""
FIGURES = "figures"
"""Where what is counted of sealed days is kept, a file ``DAY.parquet`` for each; it goes with its day."""
DAY = 86_400_000_000  # microseconds
WAIT = 60.0  # seconds that one waits for another process
_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01  # seconds between two looks whether it is through
_REPRESENTABLE = -62_135_596_800_000_000, 253_402_300_799_999_999  # microseconds: the years 1 to 9999
TIME = f"min(max(timestamp, {_REPRESENTABLE[0]}), {_REPRESENTABLE[1]}) AS timestamp"
"""The time of a line as readers get it: always one that a calendar has, whatever the database holds."""
OUT_OF_BOUNDS = f"(timestamp < {bounds.EARLIEST} * 1000000 OR timestamp > {_REPRESENTABLE[1]})"
"""Which lines have a time that no append accepts; a compaction removes them."""
COLUMNS = ", ".join((*FIELDS, "received"))
OF_ITEM = f"event IN {OF_ITEMS}"
"""Which lines change items. They stay in the database, where an index finds them; no retention removes an item."""
STAYS = f"event IN {(*OF_ITEMS, IDENTIFY, DESCRIBE)}"
"""Which lines are never sealed, so that answers find them."""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS ids (event_id TEXT, line INTEGER, day INTEGER, PRIMARY KEY (event_id, line)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events ({COLUMNS}, seq INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS sealed (file TEXT PRIMARY KEY, day INTEGER, lines INTEGER, last INTEGER);
CREATE TABLE IF NOT EXISTS removed (before INTEGER);
CREATE INDEX IF NOT EXISTS item_changes ON events (seq) WHERE {OF_ITEM};
CREATE INDEX IF NOT EXISTS of_user ON events (user_id, seq) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS identified ON events (session_id, seq) WHERE event = '{IDENTIFY}';
CREATE INDEX IF NOT EXISTS of_session ON events (session_id, seq) WHERE user_id IS NULL;
"""
_INSERT = f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join('?' * (len(FIELDS) + 1))})"
_USER, _SESSION = (FIELDS.index(name) for name in ("user_id", "session_id"))
_TIME, _KIND, _TRANSACTION = (FIELDS.index(name) for name in ("timestamp", "event", "transaction_id"))


def bring_up(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new log, or add to those of an older one what they lack.

    Raises:
        StaleArtefactError: If a later version of molar wrote the log at ``path``.
    """
    known = connection.execute("PRAGMA user_version").fetchone()[0]
    if known not in range(FORMAT + 1):
        words = f"{path} has format {known}, this version of molar reads {FORMAT}"
        raise StaleArtefactError(words, "use the version of molar that wrote it, or export it with that one")
    if known == FORMAT:
        return
    with closing(Writing(path.parent)) as turns, turns.turn():
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
            connection.execute("ALTER TABLE events ADD COLUMN transaction_id")
            connection.execute("ALTER TABLE events ADD COLUMN received INTEGER")
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")


def insert(connection: sqlite3.Connection, lines: list[Line], received: int, names: Pseudonymiser) -> bool:
    """Insert an event, unless the id of its first line is known; whether it is new.

    Its people are stored by what ``names`` calls them. Of a purchase, items that another event of the same transaction
    and person brought are left out.
    """
    lines = [_named(line, names) for line in lines] if names.keys else lines
    keys = {key: line for line in lines if (key := _bought(line)) is not None}
    bought = {key for key, line in keys.items() if not _remember(connection, key, 0, line)}
    taken = False
    for line in lines:
        if _remember(connection, line[0], line[1], line):
            if _bought(line) not in bought:
                connection.execute(_INSERT, [*line, received])
                taken = True
        elif not taken:
            return False
    return taken


def _named(line: Line, names: Pseudonymiser) -> Line:
    stored, user, session = list(line), line[_USER], line[_SESSION]
    stored[_USER] = None if user is None else names.user(user)
    stored[_SESSION] = None if session is None else names.session(session)
    return tuple(stored)


def _remember(connection: sqlite3.Connection, key: str, number: int, line: Line) -> bool:
    """Whether an id is new; it is known from now on, until its day is removed."""
    day = line[_TIME] // DAY
    return bool(connection.execute("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", [key, number, day]).rowcount)


def _bought(line: Line) -> str | None:
    """What a line of a purchase is known by beside its event; no id has its first character."""
    if line[_KIND] != "purchase" or line[_TRANSACTION] is None:
        return None
    event = dict(zip(FIELDS, line, strict=True))
    return bought_key(event["transaction_id"], event["user_id"] or event["session_id"], event["item_id"])


def bought_key(order: str, person: str, item_id: str) -> str:
    """What an item of an order is known by, of which :meth:`molar_retrieval.events.live.LiveLog.bought` reads."""
    return "\0".join(["", order, person, item_id])


def has_log(workspace: Workspace) -> bool:
    """Whether anything was appended in a workspace."""
    return file_in(workspace.root, f"{KIND}/{FILE}").exists()


class Writing:
    """Whose turn it is to write the log of a folder, among processes; threads of one take turns before.

    SQLite would sort writers out by itself, but for its versions before 3.51.3: there a connection that writes while
    another one brings the journal into the database may damage the file (https://sqlite.org/wal.html#walresetbug). All
    that writes does both in here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / LOCK).open("ab")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for it; a DataError where somebody keeps it too long."""
        with suppress(OSError):  # a file system without locks
            self._wait()
        try:
            yield
        finally:
            with suppress(OSError):
                unlock(self._file.fileno())

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _wait(self) -> None:
        end, pause = time.monotonic() + WAIT, _PAUSE
        while not lock_now(self._file.fileno()):
            if time.monotonic() > end:
                raise _busy(self._folder)
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
        raise fault(error) or DataError(f"{path}: {error}", "bring the file back from a backup") from error
    except OSError as error:
        raise fault(error) or error from error
