"""The workspace's own index and users, for as long as a server does not answer, where that is allowed."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, Protocol, Self, TypeVar

from molar_indexes.server.faults import ServerError
from molar_indexes.users import UserRecord, Users
from molar_retrieval.expressions import Expression
from molar_retrieval.index import Index, IndexSpec, SparseVector, StoredItem, Vector


class _Closable(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=_Closable)
T = TypeVar("T")


class _Falling(Generic[S]):
    """Asks the first one until it fails once, from then on the other, which is opened then."""

    def __init__(self, first: S, other: Callable[[], S], tell: Callable[[str], None]) -> None:
        self._asked, self._other, self._tell = first, other, tell
        self._fallen = False
        self._left: S | None = None

    def _ask(self, question: Callable[[S], T]) -> T:
        try:
            return question(self._asked)
        except ServerError as error:
            if self._fallen:
                raise
            self._tell(f"{error.message}; the workspace's own index answers instead")
            self._left, self._asked, self._fallen = self._asked, self._other(), True
            return question(self._asked)

    def close(self) -> None:
        """Close what is open."""
        self._asked.close()
        if self._left is not None:
            self._left.close()


class FallingIndex(_Falling[Index]):
    """An index on a server with the workspace's behind it; see :class:`molar_retrieval.index.Index`."""

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
        return type(self)(self._asked.searching(efs), self._other, self._tell)

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
