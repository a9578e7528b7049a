"""How much of what is best a graph finds, and what is done where that is too little.

A graph saves time and misses some of the best; of vectors without any structure it may miss a third. So each is
measured once, on vectors of items and of users, against a scan. Where it finds too little its candidate list is
doubled, as long as that is quicker than scanning, and scanning is what is left. What was chosen is kept in
:attr:`molar_retrieval.index.IndexSpec.efs`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from molar_indexes.users import Users
from molar_retrieval import columns
from molar_retrieval.arrays import Array
from molar_retrieval.index import SCAN, Index, IndexSpec, SparseVector, Vector
from molar_retrieval.ranking.item_store import whitened

LEAST = 0.95
"""Share of the best ten that a graph finds, on average, at least. Catalogues of real shops are at .98 to 1; measured
there, lists of graphs at .96 have an NDCG@10 .0004 below those of a scan, at .94 .0011 (docs/results.md)."""
WORSE = 0.05  # by so much less than :data:`LEAST` later measurements may find: other items and users are asked for
BEST = 10  # so many of the best are looked for
_OF_CANDIDATES = 250, 0.975, 1.5
"""Of ``whitened``, whose lists are candidates: how many of the best are looked for, the share that is found at least,
by how much lists grow. Of 200 candidates what somebody had is left out, which is among their best; many of the best
sums come from sparse products, of which none is missed."""
TOLERANCE = 1e-4
"""Scores that differ by less, relative to their size, are equal: they are sums in 32 bits, in any order."""
_SAMPLE = 32

Queries = Mapping[str, Sequence[Vector | SparseVector]]


@dataclass(frozen=True)
class Reach:
    """How a vector that has a graph is searched."""

    found: float  # share of the best ten, of candidates of the best 250; 0 to 1
    ef: int  # candidate list; :data:`molar_retrieval.index.SCAN`: everything is scanned
    milliseconds: float  # that a search takes, the median


def sample(index: Index, users: Users, whitening: Array | None) -> Queries:
    """What is searched with, by the name of the vector: vectors of items and, where people are, of users.

    ``whitening`` is that of the generation's item store.
    """
    names = [*index.spec.dims, *index.spec.sparse]
    items = index.fetch(_spread(len(index)), vectors=names)
    found: dict[str, list[Vector | SparseVector]] = {
        name: [vector for item in items if (vector := item.vectors.get(name) or item.sparse.get(name))]
        for name in names
    }
    people = [user.vector for n in _spread(len(users), 2 * _SAMPLE) for user in users.between(n, n + 1)]
    for name in (columns.ALIGNED, columns.COLD_START, columns.EMERGING):
        if name in index.spec.dims:
            found[name] += [people[n] for n in _spread(len(people))]
    if whitening is not None:  # no item is ever searched with
        found[columns.WHITENED] = [whitened(user, whitening) for user in people]
    return {name: [one for one in asked if isinstance(one, SparseVector) or any(one)] for name, asked in found.items()}


def _spread(count: int, most: int = _SAMPLE) -> range:
    return range(0, count, max(1, -(-count // most)))


def scanning(index: Index) -> Index:
    """The same index without its graphs."""
    return index.searching(dict.fromkeys(index.graphs, SCAN))


def enough(name: str) -> tuple[int, float]:
    """How many of the best are looked for by a vector, and the share of them that is found at least."""
    return _OF_CANDIDATES[:2] if name == columns.WHITENED else (BEST, LEAST)


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
        tried = []
        for ef in _steps(index.spec, name, len(index)):
            tried.append(_measured(index.searching({name: ef}), name, asked, bars, ef))
            if tried[-1].found >= enough(name)[1]:
                break
        chosen[name] = tried[-1]
        if len(tried) > 1:
            tell(_sentence(name, tried[0], tried[-1], len(index)))
    return chosen


def share(index: Index, truth: Index, name: str, queries: Sequence[Vector | SparseVector]) -> float:
    """Share of the best that an index finds, of so many as :func:`enough` says, 0 to 1; of equal scores any."""
    bars = [_bar(truth, name, query) for query in queries]
    return _measured(index, name, queries, bars, SCAN).found


def _steps(spec: IndexSpec, name: str, count: int) -> Iterator[int]:
    """The candidate lists to try: a list is good for twice ``m`` items a place, and a scan looks at all one by one."""
    ef = spec.efs.get(name, spec.ef)
    growth = _OF_CANDIDATES[2] if name == columns.WHITENED else 2
    if ef != SCAN:
        yield ef
        while 2 * spec.m * (ef := int(growth * ef)) <= count:
            yield ef
    yield SCAN


def _bar(truth: Index, name: str, query: Vector | SparseVector) -> tuple[int, float]:
    """How many there are to be found, and the score from which on an item is one of them."""
    scores = [score for _, score in truth.top(name, query, enough(name)[0])]
    size = max(map(abs, scores), default=0.0)
    return len(scores), min(scores, default=0.0) - TOLERANCE * size


def _measured(
    index: Index, name: str, queries: Sequence[Vector | SparseVector], bars: Sequence[tuple[int, float]], ef: int
) -> Reach:
    found, wanted, seconds = 0, 0, []
    for query, (count, least) in zip(queries, bars, strict=True):
        began = time.perf_counter()
        best = index.top(name, query, enough(name)[0])
        seconds.append(time.perf_counter() - began)
        found += sum(score >= least for _, score in best)
        wanted += count
    return Reach(found / wanted if wanted else 1.0, ef, round(1000 * median(seconds), 2) if seconds else 0.0)


def _sentence(name: str, first: Reach, last: Reach, count: int) -> str:
    missed = f"with {first.ef:,} candidates the graph of {name!r} finds {first.found:.1%} of the best {enough(name)[0]}"
    cost = f"{last.milliseconds:.1f} ms a search instead of {first.milliseconds:.1f}"
    if last.ef == SCAN:
        return f"{missed}; searches scan all {count:,} items instead: {cost}"
    return f"{missed}; searches look at {last.ef:,} instead, which finds {last.found:.1%}: {cost}"
