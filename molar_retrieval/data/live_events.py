"""What events change for answers: lines of one user, attributes of users, fields of items; read without tables."""

import json
import math
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

from molar_retrieval.columns import TITLE
from molar_retrieval.data.availability import ACTIVE, Availability, understood
from molar_retrieval.data.event_parsing import DESCRIBE, IDENTIFY
from molar_retrieval.data.event_store import FILE, KIND, OF_ITEM, WAIT, faults, has_log, is_made
from molar_retrieval.errors import StaleArtefactError
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


class EventLogReader:
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
        return self._item_changes("seq > ? AND seq <= ?", since, until)

    def changes_of_item(self, item_id: str) -> list[dict[str, Any]]:
        """Kind, item and data of the lines that change one item, in the order of their arrival."""
        return self._item_changes("item_id = ?", item_id)

    def _item_changes(self, where: str, *values: Any) -> list[dict[str, Any]]:
        rows = self._rows(f"SELECT event, item_id, data FROM events WHERE {where} AND {OF_ITEM} ORDER BY seq", *values)
        return [dict(zip(("event", "item_id", "data"), row, strict=True)) for row in rows]

    def changed_items(self) -> set[str]:
        """Ids of all items that events change or bring."""
        return {item_id for (item_id,) in self._rows(f"SELECT DISTINCT item_id FROM events WHERE {OF_ITEM}")}

    def of_person(self, key: str, since: int, until: int, kinds: Collection[str]) -> list[LiveLine]:
        """Lines of some kinds of who has a key, after one number and up to another, in the order of their arrival.

        Keys are those of :mod:`molar_retrieval.privacy.pseudonyms`. Of more than 10,000 lines the latest come.
        """
        who, name = _who(key)
        where = f"{who} AND seq > ? AND seq <= ? AND event IN ({', '.join('?' * len(kinds))})"
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


WANTED = {"keyword": "a text, or a list of texts", "integer": "a whole number", "float": "a number", "bool": "a truth"}
"""What a column of each kind takes, in words."""
_WHOLE = 2**63  # what a stored integer holds


def apply_attributes(attributes: Mapping[str, Any], changes: Iterable[str], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Attributes of somebody after changes, JSON objects in the order of their arrival; null takes a value away.

    ``kinds`` are the kept columns with the kind of each; other names, and values of other kinds, change nothing.
    """
    found = dict(attributes)
    for change in changes:
        for name, value in json.loads(change).items():
            if value is None:
                found.pop(name, None)
            elif fits(kinds.get(name), value):
                found[name] = value
    return found


def fits(kind: str | None, value: Any) -> bool:
    """Whether a column of a kind can hold a value; of no kind, none."""
    if kind == "keyword":
        return all(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and abs(value) < _WHOLE
    return kind == "float" and isinstance(value, int | float) and math.isfinite(value)


KINDS_OF_ROLES = {"active": ("bool",), "available_from": ("keyword",), "stock": ("integer", "float")}


@dataclass(frozen=True)
class PayloadFields:
    """The fields of a payload, and what events call them.

    Attributes:
        kinds: Of each field: ``keyword``, ``integer``, ``float`` or ``bool``.
        columns: The field that a column of the items file fills, where its name is another one.
        lists: Fields of several values, and what stands between these where the file writes them in one text.
        availability: The fields that say from when an item may be shown.
    """

    kinds: Mapping[str, str]
    columns: Mapping[str, str]
    lists: Mapping[str, str | None]
    availability: Availability

    @classmethod
    def of(cls, kinds: Mapping[str, str], facts: Mapping[str, Any], availability: Availability) -> Self:
        """From the kinds of fields that can be filtered, and what :attr:`Catalogue.described` says of its file."""
        free = {role: _free(role, name, kinds) for name, role in availability.roles.items()}
        columns, lists = {TITLE: TITLE, **facts.get("columns", {})}, facts.get("lists", {})
        return cls({TITLE: "keyword", **kinds}, columns, lists, replace(availability, **free))

    @cached_property
    def _named(self) -> dict[str, str]:
        """The field by every name that an event may give it."""
        roles = {role: name for name, role in self.availability.roles.items()}
        own = {name: name for name in self.kinds if name not in self.columns.values()}
        return {**roles, **own, **self.columns}

    @property
    def names(self) -> Collection[str]:
        """All names that an event may use."""
        return self._named.keys()

    def field(self, name: str) -> str | None:
        """The field that an event means by a name; None where it means none."""
        return self._named.get(name)

    def changed(self, event: str, data: str | None) -> dict[str, Any]:
        """The new values of fields as an index keeps them, with 15 digits; None for one that has no value any more.

        What is no field of the payload, or no value of its field, is left out.
        """
        return {name: _rounded(value) for name, value in self.read(event, data)[0].items()}

    def read(self, event: str, data: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The new values of fields by an event's type and data, and what cannot be used, by the name in the event."""
        if event == "item_withdraw":
            return {self.availability.active: False}, {}
        values: dict[str, Any] = {}
        unusable: dict[str, Any] = {}
        for name, value in json.loads(data or "{}").items():
            try:
                field = self._named[name]
                values[field] = self._fitted(field, value)
            except (KeyError, ValueError, TypeError, OverflowError):
                unusable[name] = value
        return values, unusable

    def _fitted(self, field: str, value: Any) -> Any:
        if value is None or value == "":
            return None
        role = self.availability.roles.get(field)
        if role is not None and (value := understood(role, value)) is None:
            raise ValueError(role)
        kind = self.kinds.get(field, KINDS_OF_ROLES[role][-1] if role else "keyword")
        if field not in self.lists:
            return _single(kind, value)
        if isinstance(value, str) and (separator := self.lists[field]) is not None:
            value = [part.strip() for part in value.split(separator)]
        several = value if isinstance(value, list) else [value]
        return [_single(kind, one) for one in several if one is not None and one != ""]


def _single(kind: str, value: Any) -> str | int | float | bool:
    """A single value as a field of a kind has it; a ValueError or the like where it cannot."""
    if isinstance(value, list | dict):
        raise TypeError("no single value")
    if kind == "keyword":
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if kind == "bool":
        if (truth := understood(ACTIVE, value)) is None:
            raise ValueError("no truth")
        return bool(truth)
    number = float(value)
    whole = kind == "integer" and number.is_integer()
    if isinstance(value, bool) or not math.isfinite(number) or (whole and not -_WHOLE <= int(value) < _WHOLE):
        raise ValueError("no number of this kind")
    return int(value) if whole else number


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.15g}") if isinstance(value, float) else value


def _free(role: str, name: str, kinds: Mapping[str, str]) -> str:
    """The field of a role; by another name where one of another kind has it, which is of no column with the role."""
    while kinds.get(name, KINDS_OF_ROLES[role][0]) not in KINDS_OF_ROLES[role]:
        name += "_"
    return name
