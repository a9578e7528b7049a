"""The event log as answers read it: whether anything came, what it says of items, and what one person did.

A look costs microseconds and reads nothing of the log; what one person did is found by an index. Nothing is written, so
that the log may lie on read-only media, and no table library is imported, so that an answer need not wait for one.
"""

import os
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.events.event import DESCRIBE, IDENTIFY
from molar_retrieval.events.tables import FILE, KIND, OF_ITEM, WAIT, faults, has_log, is_made
from molar_retrieval.privacy.pseudonyms import StoredName, of_key, session_key, user_key
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import file_stamp

_MOST = 10_000  # lines of one person that an answer reads: the latest ones
_SESSIONS = 1_000  # of one user


class LiveLine(NamedTuple):
    """What somebody did with an item, as the log has it; the time in microseconds since 1970."""

    kind: str
    item_id: str | None
    micros: int
    order: str | None
    request: str | None
    seq: int


_LINE = "event, item_id, timestamp, transaction_id, request_id, seq"


class LiveLog:
    """A connection to the log of a workspace, which may not have one yet; threads may share it.

    Methods raise a DataError or DiskError where the file cannot be read, a StaleArtefactError where a later version of
    molar wrote it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._folder = workspace, workspace.root / KIND
        self._lock = threading.RLock()
        self._found: sqlite3.Connection | None = None
        self._frozen: object = None  # the state of the files, where the connection takes no notice of others

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._found is not None:
                self._found.close()
            self._found = self._frozen = None

    @property
    def mark(self) -> object:
        """What changes whenever something is committed; None where there is no log yet."""
        with self._lock:
            if self._frozen is not None and self._frozen != self._files():
                self.close()
            if self._found is None and has_log(self._workspace):
                with faults(self._folder):
                    self._found = self._opened()
            return None if self._found is None else (self._rows("PRAGMA data_version")[0], self._frozen)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is asked within is of one state of the log."""
        with self._lock:
            self._rows("BEGIN")
            try:
                yield
            finally:
                self._rows("COMMIT")

    @property
    def last(self) -> int:
        """The number of the last line that ever came, 0 before the first one."""
        return int(next(iter(self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'events'")), [0])[0])

    def last_by(self, micros: int) -> int:
        """The number of the last line that came by a moment, in microseconds since 1970; 0 where none is known."""
        query = "SELECT seq FROM events WHERE received <= ? ORDER BY seq DESC LIMIT 1"
        return int(next(iter(self._rows(query, micros)), [0])[0])

    def changes_of_items(self, since: int, until: int) -> list[dict[str, Any]]:
        """Kind, item and data of the lines that change items, after a number and up to another, as they arrived."""
        names = "event", "item_id", "data"
        query = f"SELECT {', '.join(names)} FROM events WHERE seq > ? AND seq <= ? AND {OF_ITEM} ORDER BY seq"
        return [dict(zip(names, row, strict=True)) for row in self._rows(query, since, until)]

    def changes_of_item(self, item_id: str) -> list[dict[str, Any]]:
        """Kind, item and data of the lines that change one item, in the order of their arrival."""
        names = "event", "item_id", "data"
        query = f"SELECT {', '.join(names)} FROM events WHERE item_id = ? AND {OF_ITEM} ORDER BY seq"
        return [dict(zip(names, row, strict=True)) for row in self._rows(query, item_id)]

    def changed_items(self) -> set[str]:
        """Ids of all items that events change or bring."""
        return {item_id for (item_id,) in self._rows(f"SELECT DISTINCT item_id FROM events WHERE {OF_ITEM}")}

    def of_person(self, key: str, since: int, until: int, kinds: Collection[str]) -> list[LiveLine]:
        """Lines of some kinds of who has a key, after one number and up to another, in the order of their arrival.

        Keys are those of :mod:`molar_retrieval.privacy.pseudonyms`. Of more than 10,000 lines the latest come.
        """
        who, name = _who(key)
        among = ", ".join("?" * len(kinds))
        where = f"{who} AND seq > ? AND seq <= ? AND event IN ({among})"
        query = f"SELECT {_LINE} FROM events WHERE {where} ORDER BY seq DESC LIMIT {_MOST}"
        return [LiveLine(*row) for row in reversed(self._rows(query, name, since, until, *kinds))]

    def extent(self, key: str, since: int, until: int) -> tuple[int, int | None]:
        """How many lines there are of who has a key after one number and up to another, and the number of the last.

        It changes whenever one comes or is removed, and an index alone tells it.
        """
        who, name = _who(key)
        query = f"SELECT count(*), max(seq) FROM events WHERE {who} AND seq > ? AND seq <= ?"
        return next(iter(self._rows(query, name, since, until)), (0, None))

    def people(self, since: int, until: int, kinds: Collection[str]) -> set[str]:
        """The keys of all who have lines of some kinds after one number and up to another, or are identified there."""
        among = ", ".join("?" * (len(kinds) + 1))
        where = f"seq > ? AND seq <= ? AND event IN ({among})"
        query = f"SELECT DISTINCT user_id, session_id, event = '{IDENTIFY}' FROM events WHERE {where}"
        rows = self._rows(query, since, until, *kinds, IDENTIFY)
        users = {user_key(user) for user, _, _ in rows if user is not None}
        return users | {session_key(session) for user, session, identified in rows if user is None or identified}

    def identified(self, until: int) -> dict[StoredName, StoredName]:
        """Which user a session is, by session id, up to a number; the first line that says so counts."""
        query = f"SELECT session_id, user_id FROM events WHERE event = '{IDENTIFY}' AND seq <= ? ORDER BY seq DESC"
        return dict(self._rows(query, until))

    @property
    def has_identified(self) -> bool:
        """Whether any session is known to be a user."""
        return bool(self._rows(f"SELECT 1 FROM events WHERE event = '{IDENTIFY}' LIMIT 1"))

    def user_of(self, session: StoredName, until: int) -> tuple[StoredName, int] | None:
        """Which user a session is, and the number of the line that says so, up to a number; None where nothing does."""
        query = f"SELECT user_id, seq FROM events WHERE event = '{IDENTIFY}' AND session_id = ? AND seq <= ?"
        found = self._rows(f"{query} ORDER BY seq LIMIT 1", session, until)
        return (StoredName(found[0][0]), int(found[0][1])) if found else None

    def sessions_of(self, user: StoredName, until: int) -> list[tuple[StoredName, int]]:
        """The sessions that are a user, each with the number of the line that says so; the first 1,000."""
        query = f"SELECT DISTINCT session_id FROM events WHERE event = '{IDENTIFY}' AND user_id = ? AND seq <= ?"
        found = self._rows(f"{query} ORDER BY seq LIMIT {_SESSIONS}", user, until)
        told = [(session, self.user_of(session, until)) for (session,) in found]
        return [(session, known[1]) for session, known in told if known is not None and known[0] == user]

    def describes(self, since: int, until: int) -> bool:
        """Whether a line after one number and up to another says what somebody is."""
        query = f"SELECT 1 FROM events WHERE seq > ? AND seq <= ? AND event = '{DESCRIBE}' LIMIT 1"
        return bool(self._rows(query, since, until))

    def said_of(self, user: StoredName, since: int, until: int) -> list[tuple[int, str]]:
        """What lines after one number and up to another say that a user is: the time of each, and JSON."""
        where = f"user_id = ? AND seq > ? AND seq <= ? AND event = '{DESCRIBE}'"
        return self._rows(f"SELECT timestamp, data FROM events WHERE {where} ORDER BY seq", user, since, until)

    def orders_taken_back(self, since: int, until: int) -> list[LiveLine]:
        """Returns that name an order, whoever sent them, after a number and up to another."""
        where = "seq > ? AND seq <= ? AND event = 'return' AND transaction_id IS NOT NULL"
        query = f"SELECT {_LINE} FROM events WHERE {where} ORDER BY seq"
        return [LiveLine(*row) for row in self._rows(query, since, until)]

    def bought(self, order: str) -> list[tuple[StoredName, str, int]]:
        """Who bought what in an order: user or session, item, and its day since 1970 (UTC); in sealed days as well."""
        query = "SELECT event_id, day FROM ids WHERE event_id > ? AND event_id < ?"
        found = [(key.split("\0"), day) for key, day in self._rows(query, f"\0{order}\0", f"\0{order}\1")]
        return [(StoredName(person), item_id, int(day)) for (_, _, person, item_id), day in found]

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, faults(self._folder):
            return [] if self._found is None else self._found.execute(query, values).fetchall()

    def _opened(self, how: str = "") -> sqlite3.Connection | None:
        """A connection for reading; None while somebody makes the log."""
        path = self._folder / FILE
        uri = f"{path.absolute().as_uri()}?mode=ro{how}"
        connection = sqlite3.connect(uri, WAIT, isolation_level=None, check_same_thread=False, uri=True)
        try:  # what cannot be read is only told now
            if is_made(connection, path):
                return connection
        except (sqlite3.OperationalError, StaleArtefactError) as error:
            connection.close()
            journal = path.with_name(f"{FILE}-wal")
            unfinished = journal.exists() and journal.stat().st_size
            if how or unfinished or isinstance(error, StaleArtefactError) or os.access(self._folder, os.W_OK):
                raise
            self._frozen = self._files()  # somebody may write there all the same, from where it is not read-only
            return self._opened("&immutable=1")
        connection.close()
        return None

    def _files(self) -> object:
        return file_stamp(self._folder / FILE), file_stamp(self._folder / f"{FILE}-wal")


def _who(key: str) -> tuple[str, StoredName]:
    """Which lines are of who has a key, as a condition, and the name in it."""
    column, name = of_key(key)
    return "user_id = ?" if column == "user_id" else "session_id = ? AND user_id IS NULL", name
