"""What lists of the same people by several rules have in common: their candidates before rules weigh, made once."""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.ranking.request import RankingRequest, UserQuery
from molar_retrieval.ranking.sparse_index import Sums

if TYPE_CHECKING:
    from molar_retrieval.ranking.candidates import Candidates

_MOST = 300_000  # candidates that are kept, of about 100 bytes each
_AT_ONCE = 128  # people whose sparse products are kept, of some bytes for each item


class Remembered:
    """Candidates and sparse products of people, for one ranker and one thread at a time.

    People are told apart as objects: somebody whose history went on is another one.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Candidates] = {}
        self._sums: dict[int, Sums] = {}
        self._people: dict[int, UserQuery] = {}  # kept, so that no other object is taken for one of them
        self._size = 0

    @staticmethod
    def key(kind: str, request: RankingRequest, size: int) -> Hashable:
        """The same for requests that have the same ``size`` candidates of a kind."""
        query = request.query
        drawn = request.draw is not None
        return kind, id(request.user), request.where, request.hidden, query.k, query.rerank, drawn, size

    def get(self, key: Hashable) -> "Candidates | None":
        """The candidates under a key, where they are known."""
        return self._found.get(key)

    def keep(self, key: Hashable, request: RankingRequest, found: "Candidates") -> None:
        """Know the candidates of a request under a key from now on; of too many all others are forgotten."""
        if self._size + len(found) > _MOST:
            self._found, self._sums, self._people, self._size = {}, {}, {}, 0
        if request.user is not None:
            self._people[id(request.user)] = request.user
        self._found[key] = found
        self._size += len(found)

    def sums(self, user: UserQuery, made: Callable[[SparseVector], Sums]) -> Sums:
        """The sparse products of all items with somebody."""
        known = self._sums.get(id(user))
        if known is None:
            self._people[id(user)] = user
            known = self._sums[id(user)] = made(user.sparse)
            if len(self._sums) > _AT_ONCE:
                del self._sums[next(iter(self._sums))]
        return known
