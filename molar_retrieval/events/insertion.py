"""What of an event goes into the tables of the event log, in one transaction."""

import sqlite3

from molar_retrieval.events.checksums import Totals, checksum
from molar_retrieval.events.event import FIELDS, Line
from molar_retrieval.events.tables import COLUMNS, DAY
from molar_retrieval.privacy.pseudonyms import Pseudonymiser

_INSERT = f"INSERT INTO events ({COLUMNS}, seq, checksum) VALUES ({', '.join('?' * (len(FIELDS) + 3))})"
_EVENT, _USER, _SESSION, _ITEM, _TIME = (
    FIELDS.index(name) for name in ("event", "user_id", "session_id", "item_id", "timestamp")
)
_KIND, _TRANSACTION = (FIELDS.index(name) for name in ("event", "transaction_id"))


class Insertion:
    """Events that are inserted in a transaction, which :meth:`finish` ends.

    Args:
        connection: In a transaction.
        received: When the events came, in microseconds since 1970.
        names: What people are called in the workspace.

    Attributes:
        last: The ``seq`` of the last row.
    """

    def __init__(self, connection: sqlite3.Connection, received: int, names: Pseudonymiser) -> None:
        self._connection, self._received, self._names = connection, received, names
        found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        self.last = 0 if found is None else int(found[0])
        self._totals = Totals()

    def insert(self, lines: list[Line]) -> bool:
        """Insert an event, unless the id of its first line is known; whether it is new.

        Its people are stored by what the workspace calls them. Of a purchase, items that another event of the same
        transaction and person brought are left out.
        """
        names = self._names
        lines = [_named(line, names) for line in lines] if names.keys else lines
        keys = {key: line for line in lines if (key := purchase_key(line)) is not None}
        bought = {key for key, line in keys.items() if not self._remember(key, 0, line)}
        taken = False
        for line in lines:
            if self._remember(line[0], line[1], line):
                if purchase_key(line) not in bought:
                    self._insert(line)
                    taken = True
            elif not taken:
                return False
        return taken

    def finish(self) -> None:
        """Write what the rows of each day add up to."""
        self._totals.write(self._connection)

    def _insert(self, line: Line) -> None:
        self.last += 1
        row = (*line, self._received, self.last)
        own = checksum(row)
        self._connection.execute(_INSERT, (*row, own))
        self._totals.add(line[_TIME] // DAY, own)

    def _remember(self, key: str, number: int, line: Line) -> bool:
        """Whether an id is new; it is known from now on, until its day is removed."""
        values = key, number, line[_TIME] // DAY
        return bool(self._connection.execute("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", values).rowcount)


def _named(line: Line, names: Pseudonymiser) -> Line:
    stored, user, session = list(line), line[_USER], line[_SESSION]
    stored[_USER] = None if user is None else names.user(user)
    stored[_SESSION] = None if session is None else names.session(session)
    return tuple(stored)


def purchase_key(line: Line) -> str | None:
    """What a line of a purchase is known by beside its event: its order, person and item; None of other lines.

    No id has its first character. :meth:`molar_retrieval.events.live.LiveLog.bought` reads it.
    """
    if line[_KIND] != "purchase" or line[_TRANSACTION] is None:
        return None
    return "\0".join(["", line[_TRANSACTION], line[_USER] or line[_SESSION], line[_ITEM]])
