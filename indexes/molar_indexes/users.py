"""The users of a generation: vectors and history of each, in one SQLite file.

The file is written once and opened with ``immutable=1``: no locks, no journal, no NumPy. It holds keys
as the interaction log does, see :mod:`molar_retrieval.privacy.pseudonyms`.
"""

import json
import os
import sqlite3
import sys
import threading
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from molar_indexes.records import checked
from molar_retrieval.errors import DataError, StaleArtefactError
from molar_retrieval.privacy.pseudonyms import StoredName, user_key
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.ranking.results import NOTHING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FORMAT = 5
BATCH = 2000
_REMOVED = "removed"
_COLUMNS = "user_id, vector, history, times, dimensions, numbers, events, attributes"
_SCHEMA = """
CREATE TABLE users (
    row INTEGER PRIMARY KEY, user_id TEXT NOT NULL UNIQUE, vector BLOB NOT NULL, history BLOB NOT NULL,
    times BLOB NOT NULL, dimensions BLOB NOT NULL, numbers BLOB NOT NULL,
    events BLOB NOT NULL, attributes TEXT
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One user; what is read from a file is in arrays of Python."""

    user_id: str
    vector: Sequence[float]  # aligned, float32
    history: "Sequence[int] | npt.NDArray[np.int32]"  # item rows in the order of time, repeats included, int32
    sparse: SparseVector = NOTHING  # beside the vector, int32 and float32
    attributes: Mapping[str, Any] = field(default_factory=dict)  # by which rules may choose people
    times: "Sequence[int] | npt.NDArray[np.int64]" = ()  # of each item of the history, in seconds since 1970; or 0
    events: bytes = b""  # which events the history is, see :func:`molar_retrieval.data.event_history.pack_events`
    active: int = 0  # when they did something last, in seconds since 1970, if after all of the history

    @property
    def last(self) -> int:
        """When they did something last, in seconds since 1970; 0 where it is not known."""
        return max(self.active, int(self.times[-1]) if len(self.times) else 0)


def write_users(path: Path, users: Iterable[UserRecord], *, dim: int, items: int, progress: Progress = SILENT) -> int:
    """Write all users, each id once, into a new file, batch by batch; returns how many they are.

    Raises:
        DataError: If an id occurs twice, a vector is not of length ``dim``, a history names a row beyond ``items`` or
            its items do not have one time each, in their order.
    """
    return _write(path, (_row(user, dim, items) for user in users), dim, progress)


def _write(path: Path, users: Iterable[tuple[str | bytes | None, ...]], dim: int, progress: Progress) -> int:
    connection = sqlite3.connect(path, isolation_level=None)
    count = 0
    try:
        # Nothing to recover: a file that was not finished is thrown away as a whole.
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        stream = iter(users)
        progress.start("users", None)
        while rows := list(islice(stream, BATCH)):
            connection.execute("BEGIN")
            try:
                connection.executemany(f"INSERT INTO users ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            except sqlite3.IntegrityError as error:
                twice = _twice(connection, [str(row[0]) for row in rows], count)
                raise DataError(f"the user {twice!r} occurs more than once", "make the user ids unique") from error
            connection.execute("COMMIT")
            count += len(rows)
            progress.advance(len(rows))
        connection.executemany("INSERT INTO facts VALUES (?, ?)", [("count", count), ("dim", dim)])
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        progress.finish()
    finally:
        connection.close()
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return count


def rewrite_users(former: Path, path: Path, people: Iterable[tuple[str, Mapping[str, Any]]]) -> int:
    """Write the users of another file, in their order, with other ids and attributes, into a new one; how many."""
    with closing(sqlite3.connect(f"{former.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as before:
        rows = before.execute(f"SELECT {_COLUMNS} FROM users ORDER BY row")
        facts = before.execute("SELECT name, value FROM facts").fetchall()
        stored = ((key, *row[1:-1], _attributes(own)) for row, (key, own) in zip(rows, people, strict=True))
        return _write(path, stored, dict(facts)["dim"], SILENT)


def write_without(source: Path, path: Path, keys: Collection[str]) -> int:
    """Write the users of a file but for some into a new one, numbered anew; returns how many are left.

    The new file says how many were left out, so that it can be told from one that lost somebody.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rwc", isolation_level=None, uri=True)
    try:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        connection.execute("ATTACH DATABASE ? AS source", [f"{source.absolute().as_uri()}?mode=ro&immutable=1"])
        connection.execute("CREATE TEMP TABLE gone (user_id TEXT PRIMARY KEY) WITHOUT ROWID")
        connection.executemany("INSERT OR IGNORE INTO gone VALUES (?)", [(key,) for key in keys])
        connection.execute("BEGIN")
        connection.execute(
            f"INSERT INTO users ({_COLUMNS}) SELECT {_COLUMNS} FROM source.users"
            " WHERE user_id NOT IN (SELECT user_id FROM gone) ORDER BY row"
        )
        facts = dict(connection.execute("SELECT name, value FROM source.facts"))
        left = int(connection.execute("SELECT count(*) FROM users").fetchone()[0])
        facts |= {"count": left, _REMOVED: facts.get(_REMOVED, 0) + facts["count"] - left}
        connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
    finally:
        connection.close()
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return left


def _twice(connection: sqlite3.Connection, ids: list[str], before: int) -> str | None:
    """The first of ``ids`` that comes again, in the list or among the first ``before`` rows."""
    for place, user_id in enumerate(ids):
        found = connection.execute("SELECT 1 FROM users WHERE user_id = ? AND row <= ?", (user_id, before))
        if found.fetchone() or user_id in ids[:place]:
            return user_id
    return None


def _row(user: UserRecord, dim: int, items: int) -> tuple[str | bytes | None, ...]:
    import numpy as np

    vector, history = np.asarray(user.vector, dtype="<f4"), np.asarray(user.history, dtype=np.int64)
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise DataError(
            f"the vector of user {user.user_id!r} has the shape {vector.shape} or is not finite; {dim} numbers are due",
            "run `molar align` again",
        )
    if len(history) and not 0 <= history.min() <= history.max() < items:
        raise DataError(
            f"the history of user {user.user_id!r} names an item row outside 0…{items - 1}", "run `molar align` again"
        )
    times = np.asarray(user.times, dtype="<i8")
    if times.shape != history.shape or (np.diff(times) < 0).any():
        raise DataError(
            f"user {user.user_id!r} has {len(history)} items and {len(times)} times, or they do not ascend",
            "run `molar align` again",
        )
    indices, values = checked(f"user {user.user_id!r}", user.sparse)
    dimensions, numbers = indices.astype("<i4"), values.astype("<f4", copy=False)
    blobs = [array.tobytes() for array in (vector, history.astype("<i4"), times, dimensions, numbers)]
    return user.user_id, *blobs, user.events, _attributes(user.attributes)


def _attributes(attributes: Mapping[str, Any]) -> str | None:
    return json.dumps(attributes, ensure_ascii=False) if attributes else None


class Users(Protocol):
    """Users of a generation, wherever they are."""

    removed: int = 0
    """How many were removed since they were published."""

    def __len__(self) -> int:
        """How many there are."""

    def get(self, name: StoredName) -> UserRecord | None:
        """The user with this name, or None."""
        return self.keyed(user_key(name))

    def keyed(self, key: str) -> UserRecord | None:
        """Who is stored under a key of :mod:`molar_retrieval.privacy.pseudonyms`, or None."""

    def between(self, first: int, last: int) -> list[UserRecord]:
        """The users from one number up to another, counted from 0 in their order."""

    def batches(self, size: int = BATCH) -> Iterator[list[UserRecord]]:
        """All users in their order, ``size`` at a time."""
        for first in range(0, len(self), size):
            yield self.between(first, first + size)

    def close(self) -> None:
        """Release what is held; the users cannot be asked for afterwards."""


class UserStore(Users):
    """Users by id, read-only, of a file that :func:`write_users` wrote; safe to share between threads.

    Raises:
        StaleArtefactError: If the file is missing, damaged or of another format.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        try:
            # as_uri escapes '#', '?', '%' and blanks, which would end or change the path.
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        try:
            version = self._rows("PRAGMA user_version")[0][0]
            facts: dict[str, int] = dict(self._rows("SELECT name, value FROM facts"))
            self._count, self.dim = facts["count"], facts["dim"]
            self.removed = facts.get(_REMOVED, 0)
        except (StaleArtefactError, KeyError) as error:
            self.close()
            raise self._damaged(error) from error
        if version != _FORMAT:
            self.close()
            raise self._damaged(f"format {version}, not {_FORMAT}")

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keyed(self, key: str) -> UserRecord | None:
        """Who is stored under a key, or None."""
        found = self._rows(f"SELECT {_COLUMNS} FROM users WHERE user_id = ?", key)
        return _record(found[0]) if found else None

    def keys(self) -> Iterator[str]:
        """The keys of all users, in no order."""
        return (key for (key,) in self._rows("SELECT user_id FROM users"))

    def between(self, first: int, last: int) -> list[UserRecord]:
        """The users from one number up to another, counted from 0 in the order in which they were written."""
        query = f"SELECT {_COLUMNS} FROM users WHERE row > ? AND row <= ? ORDER BY row"
        return [_record(row) for row in self._rows(query, first, last)]

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: object) -> StaleArtefactError:
        return StaleArtefactError(
            f"the users in {self._path} cannot be read: {error}", "run `molar align` to publish a new generation"
        )


def _record(row: Sequence[Any]) -> UserRecord:
    user_id, vector, history, times, dimensions, numbers, events, attributes = row
    sparse = SparseVector(_array("i", dimensions), _array("f", numbers)) if dimensions else NOTHING
    known = json.loads(attributes) if attributes else {}
    return UserRecord(user_id, _array("f", vector), _array("i", history), sparse, known, _array("q", times), events)


def _array(kind: str, blob: bytes) -> Any:
    values = array(kind)
    values.frombytes(blob)
    if sys.byteorder == "big":
        values.byteswap()
    return values
