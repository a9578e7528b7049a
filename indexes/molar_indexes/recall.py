"""How much of what is best a graph finds, and what is done where that is too little.

A graph saves time and misses some of the best; of vectors without any structure it may miss a third. So each is
measured once, on vectors of items and of users, against a scan. Where it finds too little its candidate list is
doubled, as long as that is quicker than scanning, and scanning is what is left. What was chosen is kept in
:attr:`molar_retrieval.ranking.index_protocol.IndexSpec.efs`.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeAlias

from molar_indexes.users import UserRecord, Users
from molar_retrieval import columns
from molar_retrieval.ranking.candidates import CandidateSource, source_of
from molar_retrieval.ranking.index_protocol import SCAN, Index, IndexSpec, SparseVector, Vector
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.objectives import TOP
from molar_retrieval.ranking.query import Query, ResolvedQuery
from molar_retrieval.ranking.reranker import CANDIDATES
from molar_retrieval.workspace.tensors import Array

LEAST = 0.95
"""Share of the best ten that a graph finds, on average, at least. Catalogues of real shops are at .98 to 1; measured
there, lists of graphs at .96 have an NDCG@10 .0004 below those of a scan, at .94 .0011 (docs/results.md)."""
WORSE = 0.05  # by so much less than :data:`LEAST` later measurements may find: other items and users are asked for
BEST = 10  # so many of the best are looked for
_OF_CANDIDATES = 0.992
"""Share of the best sums that are among somebody's candidates, on average, at least: 99 of 100 for others too, as the
mean of so few people is off by .0015."""
_GROWTH = 2, 1.15  # of a list that finds too little; that of candidates, which costs every query, grows slowly
_POWERS = 0.25, 4.0  # of the list's length by which the share that is missed may be thought to fall
TOLERANCE = 1e-4
"""Scores that differ by less, relative to their size, are equal: they are sums in 32 bits, in any order."""
_SAMPLE, _PEOPLE = 32, 128
_AT_ONCE = 8  # people whose products with all items are held at a time


@dataclass(frozen=True)
class Reach:
    """How a vector that has a graph is searched."""

    found: float  # share of the best ten, of people's candidates of the 200 best sums; 0 to 1
    ef: int  # candidate list; :data:`molar_retrieval.ranking.index_protocol.SCAN`: everything is scanned
    milliseconds: float  # that a search takes, for candidates with their sums, the median


class PersonAsked:
    """Somebody whose candidates are looked for: the items with the best sums of dense and sparse products.

    ``products`` are the dense ones with all items, shape (n,), by which it is known what there is to be found.
    """

    def __init__(self, store: ItemStore, user: UserRecord, products: Array) -> None:
        self._store, self._request = store, ResolvedQuery(Query(), user, hidden=frozenset(map(int, user.history)))
        self.best = _scores(source_of(None, store, self._request, products))

    def found(self, index: Index) -> list[float]:
        """The sums of the candidates that come with the help of an index, as a query finds them."""
        return _scores(source_of(index, self._store, self._request))


_Query: TypeAlias = Vector | SparseVector | PersonAsked
Queries = Mapping[str, Sequence[_Query]]


def sample(index: Index, users: Users, store: ItemStore) -> Queries:
    """What is searched with, by the name of the vector: vectors of items and, where people are, of users.

    ``store`` is that of the generation.
    """
    names = [*index.spec.dims, *index.spec.sparse]
    items = index.fetch(_spread(len(index)), vectors=names)
    found: dict[str, list[_Query]] = {
        name: [item.vectors[name] for item in items if any(item.vectors.get(name, ()))] for name in index.spec.dims
    }
    found |= {name: [item.sparse[name] for item in items if name in item.sparse] for name in index.spec.sparse}
    people = [user for n in _spread(len(users), _PEOPLE) for user in users.between(n, n + 1) if any(user.vector)]
    for name in (columns.ALIGNED, columns.COLD_START, columns.LOW_SUPPORT):
        if name in index.spec.dims:
            found[name] += [people[n].vector for n in _spread(len(people))]
    if store.whitening is not None:  # no item is ever searched with
        found[columns.WHITENED] = list(_people(store, people))
    return found


def _people(store: ItemStore, users: Sequence[UserRecord]) -> Iterator[PersonAsked]:
    for begin in range(0, len(users), _AT_ONCE):
        some = users[begin : begin + _AT_ONCE]
        yield from map(partial(PersonAsked, store), some, store.products([user.vector for user in some]))


def _scores(source: CandidateSource) -> list[float]:
    scores: list[float] = source.known(TOP, CANDIDATES).scores.tolist()
    return scores


def _spread(count: int, most: int = _SAMPLE) -> range:
    return range(0, count, max(1, -(-count // most)))


def scanning(index: Index) -> Index:
    """The same index without its graphs."""
    return index.searching(dict.fromkeys(index.graphs, SCAN))


def enough(name: str) -> tuple[int, float]:
    """How many of the best are looked for by a vector, and the share of them that is found at least."""
    return (CANDIDATES, _OF_CANDIDATES) if name == columns.WHITENED else (BEST, LEAST)


def widened(index: Index, truth: Index, queries: Queries, tell: Callable[[str], None]) -> dict[str, Reach]:
    """How each vector with a graph has to be searched so that it finds :func:`enough`; scanning always is enough.

    ``truth`` finds exactly what is best; queries are those of :func:`sample`; ``tell`` is told of every vector for
    which the settings were not enough.
    """
    chosen = {}
    for name in sorted(index.graphs):
        asked = queries[name]
        if not asked:
            continue
        bars = [_bar(truth, name, query) for query in asked]
        reach = partial(_reach, index, name, asked, bars)
        first, last = _first_enough(list(_steps(index.spec, name, len(index))), reach, enough(name)[1])
        chosen[name] = last
        if last is not first:
            tell(_sentence(name, first, last, len(index)))
    return chosen


def share(index: Index, truth: Index, name: str, queries: Sequence[_Query]) -> float:
    """Share of the best that an index finds, of so many as :func:`enough` says, 0 to 1; of equal scores any."""
    bars = [_bar(truth, name, query) for query in queries]
    return _measured(index, name, queries, bars, SCAN).found


def _steps(spec: IndexSpec, name: str, count: int) -> Iterator[int]:
    """The candidate lists to try: a list is good for twice ``m`` items a place, and a scan looks at all one by one."""
    ef = spec.efs.get(name, spec.ef)
    growth = _GROWTH[name == columns.WHITENED]
    if ef != SCAN:
        yield ef
        while 2 * spec.m * (ef := int(growth * ef)) <= count:
            yield ef
    yield SCAN


def _first_enough(steps: Sequence[int], reach: Callable[[int], Reach], least: float) -> tuple[Reach, Reach]:
    """What the first step reaches, and the first step that reaches enough; steps are rising lists, and then a scan.

    The share that is missed falls about as a power of the list's length: so it is looked for where it should lie by
    what two of them missed.
    """
    first = lower = reach(steps[0])
    low, high, last, power = 0, len(steps) - 1, None, 1.0
    if first.found >= least or not high:
        return first, first
    while high - low > 1:
        length = steps[low] * (_missed(lower) / (1 - least)) ** (1 / power)
        place = min(max(bisect_left(steps, length, low + 1, high), low + 1), high - 1)
        tried = reach(steps[place])
        ratio = math.log(_missed(lower) / _missed(tried)) / math.log(steps[place] / steps[low])
        power = min(max(ratio, _POWERS[0]), _POWERS[1])
        if tried.found >= least:
            high, last = place, tried
        else:
            low, lower = place, tried
    return first, last or reach(steps[high])


def _missed(reach: Reach) -> float:
    return max(1 - reach.found, TOLERANCE)


def _bar(truth: Index, name: str, query: _Query) -> tuple[int, float]:
    """How many there are to be found, and the score from which on an item is one of them."""
    scores = query.best if isinstance(query, PersonAsked) else _asked(truth, name, query)
    size = max(map(abs, scores), default=0.0)
    return len(scores), min(scores, default=0.0) - TOLERANCE * size


def _asked(index: Index, name: str, query: _Query) -> list[float]:
    """The scores of what an index finds."""
    if isinstance(query, PersonAsked):
        return query.found(index)
    return [score for _, score in index.top(name, query, enough(name)[0])]


def _reach(index: Index, name: str, queries: Sequence[_Query], bars: Sequence[tuple[int, float]], ef: int) -> Reach:
    return _measured(index.searching({name: ef}), name, queries, bars, ef)


def _measured(index: Index, name: str, queries: Sequence[_Query], bars: Sequence[tuple[int, float]], ef: int) -> Reach:
    found, wanted, seconds = 0, 0, []
    for query, (count, least) in zip(queries, bars, strict=True):
        began = time.perf_counter()
        scores = _asked(index, name, query)
        seconds.append(time.perf_counter() - began)
        found += sum(score >= least for score in scores)
        wanted += count
    return Reach(found / wanted if wanted else 1.0, ef, round(1000 * median(seconds), 2) if seconds else 0.0)


def _sentence(name: str, first: Reach, last: Reach, count: int) -> str:
    missed = f"with {first.ef:,} candidates the graph of {name!r} finds {first.found:.1%} of the best {enough(name)[0]}"
    cost = f"{last.milliseconds:.1f} ms a search instead of {first.milliseconds:.1f}"
    if last.ef == SCAN:
        return f"{missed}; searches scan all {count:,} items instead: {cost}"
    return f"{missed}; searches look at {last.ef:,} instead, which finds {last.found:.1%}: {cost}"
