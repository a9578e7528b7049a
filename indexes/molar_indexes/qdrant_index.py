"""What an index on the Qdrant engine does in the same way, embedded or on a server."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, Self

from molar_indexes import equal_lengths
from molar_indexes.filters import FilterConstructors
from molar_indexes.records import checked_query
from molar_retrieval.expressions import Expression
from molar_retrieval.index import SCAN, IndexSpec, SparseVector, Vector

Found = list[tuple[int, float]]  # rows and scores, best first


class QdrantIndex(ABC):
    """Searches of an index; see :class:`molar_retrieval.index.Index`.

    Those of the vectors named by ``graph`` use one, which may run dry before all that fits is found.
    """

    constructors: FilterConstructors  # of the engine's client

    def __init__(self, spec: IndexSpec, count: int, graph: Collection[str]) -> None:
        self._spec, self._count, self._graph = spec, count, graph

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self._spec

    @property
    def graphs(self) -> Collection[str]:
        """Names of the vectors whose searches use a graph, and may miss some of the best."""
        return {name for name in self._graph if self._spec.candidates(name, 1) != SCAN}

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same index with other candidate lists."""
        other = copy(self)
        other._spec = replace(self._spec, efs={**self._spec.efs, **efs})
        return other

    def __len__(self) -> int:
        return self._count

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> Found:
        """Rows and scores of the best, of which a graph may miss some; BackendError if the engine does not answer."""
        values = checked_query(self._spec, name, query, k)
        condition = self.constructors.to_filter(where, exclude)
        if isinstance(values, SparseVector):
            if not values.indices:
                return []
            asked = self._sparse(values)
        elif any(values):
            asked = equal_lengths.asked(self._spec, name, values)
        else:
            return self._first(name, min(k, self._count), condition) if self._count else []
        return by_row(lambda limit: self._nearest(name, asked, limit, condition), k, self._count)

    def _nearest(self, name: str, asked: Any, limit: int, condition: Any) -> Found:
        candidates = self._spec.candidates(name, limit)
        found = self._search(name, asked, limit, condition, candidates)
        if len(found) < limit and name in self._graph and candidates != SCAN:
            # The graph may run dry before everything that fits is found.
            return self._search(name, asked, limit, condition, SCAN)
        return found

    @abstractmethod
    def _sparse(self, vector: SparseVector) -> Any:
        """A sparse query of the client."""

    @abstractmethod
    def _search(self, name: str, asked: Any, limit: int, condition: Any, candidates: int) -> Found:
        """The best, with a candidate list for the graph or :data:`molar_retrieval.index.SCAN`; ties in any order."""

    @abstractmethod
    def _first(self, name: str, k: int, condition: Any) -> Found:
        """The answer to the zero vector: all scores are 0, so the lowest rows win."""


def by_row(nearest: Callable[[int], Found], k: int, count: int) -> Found:
    """The ``k`` best of ``count`` items, equal scores by row, of a search for so many that gives these in any order.

    Where equal scores straddle the k-th place it is widened until the last of them is in sight.
    """
    limit = min(k, count) + 1
    found = nearest(limit)
    while len(found) == limit and found[-1][1] == found[k - 1][1]:
        limit = min(2 * limit, count + 1)
        found = nearest(limit)
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]
