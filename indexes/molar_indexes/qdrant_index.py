"""What an index on the Qdrant engine does in the same way, embedded or on a server."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Self

from molar_indexes import equal_lengths
from molar_indexes.filters import FilterConstructors
from molar_indexes.records import checked_query
from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import SCAN, IndexSpec, Search, SparseVector, Vector

Found = list[tuple[int, float]]  # rows and scores, best first
_FEW = 10_000
"""Vectors of one name up to which all are scanned at once, once a graph of theirs has run dry."""


class EngineSearch(NamedTuple):
    """One search as the engine is asked; ``candidates`` are the graph's, or :data:`SCAN`."""

    name: str
    vector: Any  # in the client's words
    limit: int
    candidates: int


class QdrantIndex(ABC):
    """Searches of an index; see :class:`molar_retrieval.ranking.index_protocol.Index`.

    Those of the vectors named by ``graph`` use one, which may run dry before all that fits is found.
    """

    constructors: FilterConstructors  # of the engine's client

    def __init__(self, spec: IndexSpec, count: int, graph: Collection[str]) -> None:
        self._spec, self._count, self._graph = spec, count, graph
        self._few: set[str] = set()  # names of which there are no more vectors than that

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
        other._spec, other._few = replace(self._spec, efs={**self._spec.efs, **efs}), set()
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
        return self.tops([Search(name, query, k)], exclude=exclude, where=where)[0]

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[Found]:
        """The answers to several searches, for which the engine is asked together."""
        hidden = list(exclude)
        condition = self.constructors.to_filter(where, hidden)
        nearest = partial(self._nearest, condition=condition, alone=where is None and len(hidden) < _FEW)
        asked = [self._asked(search) for search in searches]
        first = iter(nearest([one for one in asked if one is not None]))
        return [
            self._unscored(search, condition) if one is None else self._by_row(search, one, next(first), nearest)
            for search, one in zip(searches, asked, strict=True)
        ]

    def _asked(self, search: Search) -> EngineSearch | None:
        """A search as the engine is asked, for one more than is wanted; None where all scores are 0."""
        name, query, k = search
        values = checked_query(self._spec, name, query, k)
        if isinstance(values, SparseVector):
            vector = self._sparse(values) if values.indices else None
        else:
            vector = equal_lengths.asked(self._spec, name, values) if any(values) else None
        return None if vector is None else self._limited(EngineSearch(name, vector, 0, SCAN), min(k, self._count) + 1)

    def _limited(self, asked: EngineSearch, limit: int) -> EngineSearch:
        candidates = SCAN if asked.name in self._few else self._spec.candidates(asked.name, limit)
        return asked._replace(limit=limit, candidates=candidates)

    def _unscored(self, search: Search, condition: Any) -> Found:
        """What is found where all scores are 0: of a sparse vector nothing, else the lowest rows."""
        if search.name in self._spec.sparse or not self._count:
            return []
        return self._first(search.name, min(search.k, self._count), condition)

    def _by_row(
        self, search: Search, asked: EngineSearch, found: Found, nearest: Callable[[list[EngineSearch]], list[Found]]
    ) -> Found:
        """The best, equal scores by row, of a search that gives these in any order.

        Where equal scores straddle the k-th place it is widened until the last of them is in sight.
        """
        k, limit = search.k, asked.limit
        while len(found) == limit and found[-1][1] == found[k - 1][1]:
            limit = min(2 * limit, self._count + 1)
            (found,) = nearest([self._limited(asked, limit)])
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]

    def _nearest(self, asked: list[EngineSearch], condition: Any, alone: bool) -> list[Found]:
        """The best of each; ``alone``: the condition leaves out a few rows at most."""
        found = self._searches(asked, condition) if asked else []
        graph = [one.name in self._graph and one.candidates != SCAN for one in asked]
        dry = [n for n, one in enumerate(asked) if graph[n] and len(found[n]) < one.limit]
        if dry:  # before everything that fits is found, as a graph may
            again = self._searches([asked[n]._replace(candidates=SCAN) for n in dry], condition)
            for n, whole in zip(dry, again, strict=True):
                found[n] = whole
                if alone and len(whole) < asked[n].limit < _FEW and asked[n].name not in self._spec.efs:
                    self._few.add(asked[n].name)
        return found

    def _searches(self, asked: Sequence[EngineSearch], condition: Any) -> list[Found]:
        """The answers of :meth:`_search` to several searches, in a request where the engine is elsewhere."""
        return [self._search(one.name, one.vector, one.limit, condition, one.candidates) for one in asked]

    @abstractmethod
    def _sparse(self, vector: SparseVector) -> Any:
        """A sparse query of the client."""

    @abstractmethod
    def _search(self, name: str, asked: Any, limit: int, condition: Any, candidates: int) -> Found:
        """The best, with a candidate list for the graph or :data:`SCAN`; ties in any order."""

    @abstractmethod
    def _first(self, name: str, k: int, condition: Any) -> Found:
        """The answer to the zero vector: all scores are 0, so the lowest rows win."""
