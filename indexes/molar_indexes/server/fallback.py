"""The workspace's own index and users, for as long as a server does not answer, where that is allowed."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, Protocol, Self, TypeVar

from molar_indexes.server.faults import ServerError
from molar_indexes.users import UserRecord, Users
from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import Index, IndexSpec, Search, SparseVector, StoredItem, Vector


class _Closable(Protocol):
    def close(self) -> None: ...


_AGAIN = 10.0
"""Seconds until a server that failed is asked again; that question waits for it."""
S = TypeVar("S", bound=_Closable)
T = TypeVar("T")


class _Falling(Generic[S]):
    """Asks the first one until it fails, then the other, which is opened then; the first is tried again by and by.

    ``notes`` says so for as long as the other answers.
    """

    def __init__(self, first: S, other: Callable[[], S], notes: list[str]) -> None:
        self._first, self._other, self._notes = first, other, notes
        self._second: S | None = None
        self._said: str | None = None
        self._again = float("-inf")  # from when the first one is asked
        self._falling = threading.Lock()

    @property
    def _asked(self) -> S:
        """What answers now."""
        return self._first if self._said is None or self._second is None else self._second

    def _ask(self, question: Callable[[S], T]) -> T:
        if time.monotonic() >= self._again:
            if self._said is not None:
                self._again = time.monotonic() + _AGAIN  # the others do not wait for this one
            try:
                found = question(self._first)
            except ServerError as error:
                self._fall(error.message)
            else:
                self._tell(None)
                return found
        assert self._second is not None
        return question(self._second)

    def _fall(self, reason: str) -> None:
        with self._falling:
            if self._second is None:
                self._second = self._other()
            self._again = time.monotonic() + _AGAIN
        self._tell(f"{reason}; the workspace's own index answers instead")

    def _tell(self, note: str | None) -> None:
        if note == self._said:
            return
        with self._falling:
            if self._said in self._notes:
                self._notes.remove(self._said)
            if note is not None:
                self._notes.append(note)
            self._said, self._again = note, float("-inf") if note is None else self._again

    def close(self) -> None:
        """Close what is open."""
        self._first.close()
        if self._second is not None:
            self._second.close()


class FallingIndex(_Falling[Index]):
    """An index on a server with the workspace's behind it."""

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self._asked.spec

    @property
    def graphs(self) -> Collection[str]:
        """Names of the vectors whose searches use a graph."""
        return self._asked.graphs

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same with other candidate lists."""
        return type(self)(self._asked.searching(efs), self._other, self._notes)

    def __len__(self) -> int:
        return len(self._asked)

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the best."""
        hidden = list(exclude)
        return self._ask(lambda index: index.top(name, query, k, exclude=hidden, where=where))

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[list[tuple[int, float]]]:
        """The answers to several searches."""
        hidden = list(exclude)
        return self._ask(lambda index: index.tops(searches, exclude=hidden, where=where))

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        return self._ask(lambda index: index.fetch(rows, vectors=vectors))

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        return self._ask(lambda index: index.rows(item_ids))


class FallingUsers(_Falling[Users], Users):
    """Users on a server with the workspace's behind them; see :class:`molar_indexes.users.Users`."""

    def __len__(self) -> int:
        return len(self._asked)

    def keyed(self, key: str) -> UserRecord | None:
        """Who is stored under a key, or None."""
        return self._ask(lambda users: users.keyed(key))

    def between(self, first: int, last: int) -> list[UserRecord]:
        """The users from one number up to another."""
        return self._ask(lambda users: users.between(first, last))
