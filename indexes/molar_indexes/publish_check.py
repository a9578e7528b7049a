"""Proof that a new generation gives back what was put into it, from a sample taken on the way in.

Exact is what is stored, and what a scan finds; how much a graph finds is measured.

How much of what is best a graph finds, and what is done where that is too little.

A graph saves time and misses some of the best; of vectors without any structure it may miss a third. So each is
measured once, on vectors of items and of users, against a scan. Where it finds too little its candidate list is
doubled, as long as that is quicker than scanning, and scanning is what is left. What was chosen is kept in
:attr:`molar_retrieval.ranking.index_protocol.IndexSpec.efs`.
"""

import math
import random
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Self, TypeAlias, TypeVar

from molar_indexes.backends import open_index
from molar_indexes.records import clean_payload, clean_sparse, held
from molar_indexes.users import UserRecord, Users, UserStore
from molar_retrieval import columns
from molar_retrieval.errors import BackendError
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.candidates import CandidateSource, source_of
from molar_retrieval.ranking.index_protocol import SCAN, Index, IndexItem, IndexSpec, SparseVector, StoredItem, Vector
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
_QUERIES, _PEOPLE = 32, 128
_AT_ONCE = 8  # people whose products with all items are held at a time
_T = TypeVar("_T")
_SAMPLE = 32
_NOTHING = 1e-30  # products of 32-bit numbers smaller than this may be lost


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


def _spread(count: int, most: int = _QUERIES) -> range:
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


class Proof:
    """Watches items and users pass, keeps a few of each (reservoir sampling) and asks for them afterwards.

    ``rows`` is one more than the highest row that passed.
    """

    def __init__(self, spec: IndexSpec) -> None:
        self._spec, self._random = spec, random.Random(0)
        self._items: list[IndexItem] = []
        self._users: list[UserRecord] = []
        self.items = self.rows = self.cold_items = self._user_count = 0

    @classmethod
    def of(
        cls, spec: IndexSpec, items: Sequence[IndexItem], rows: int, users: Sequence[UserRecord], count: int
    ) -> Self:
        """What has to come back of an index of so many ``rows``, each an item, and of a ``count`` of users."""
        proof = cls(spec)
        proof._items, proof._users = list(items), list(users)
        proof.items = proof.rows = rows
        proof._user_count = count
        return proof

    def watch(self, items: Iterable[IndexItem]) -> Iterator[IndexItem]:
        """The same items, one by one."""
        for item in items:
            self._keep(self._items, item, self.items)
            self.items += 1
            self.rows = item.row + 1
            self.cold_items += columns.COLD_START in item.vectors
            yield item

    def watch_users(self, users: Iterable[UserRecord]) -> Iterator[UserRecord]:
        """The same users, one by one."""
        for user in users:
            self._keep(self._users, user, self._user_count)
            self._user_count += 1
            yield user

    def _keep(self, kept: list[_T], new: _T, seen: int) -> None:
        if seen < _SAMPLE:
            kept.append(new)
        elif (place := self._random.randrange(seen + 1)) < _SAMPLE:
            kept[place] = new

    def check(
        self, index_folder: Path, users_file: Path, store: ItemStore, backend: str, progress: Progress
    ) -> dict[str, Any]:
        """Open index and users, read the sample back and search with it; BackendError if something else comes back.

        The facts for the manifest are the spec with the candidate lists that searches need, and what graphs find.
        """
        progress.start("proof", None)
        index = open_index(index_folder, backend, self._spec)
        try:
            with UserStore(users_file) as users:
                problems = [*self._item_problems(index), *self._user_problems(users)]
                if problems:
                    raise BackendError(
                        f"the new index does not give back what was put in: {problems[0]}",
                        "run `molar align` again; the live generation was not touched",
                    )
                queries = sample(index, users, store) if index.graphs else {}
                reached = widened(index, scanning(index), queries, progress.note)
        finally:
            index.close()
        progress.finish()
        efs = {name: reach.ef for name, reach in reached.items() if reach.ef != self._spec.ef}
        graphs = {name: asdict(reach) for name, reach in reached.items()}
        return {"spec": asdict(replace(self._spec, efs=efs)), "graphs": graphs}

    def _item_problems(self, index: Index) -> Iterator[str]:
        if len(index) != self.items:
            yield f"{len(index)} items instead of {self.items}"
        for item in self._items:
            found = index.fetch([item.row], vectors=[*self._spec.dims, *self._spec.sparse])
            if not found or found[0].item_id != item.item_id:
                yield f"item {item.item_id!r} is missing"
            elif found[0].payload != clean_payload(item.item_id, item.payload):
                yield f"item {item.item_id!r} has another payload"
            elif {n: _float32(v) for n, v in item.vectors.items()} != {n: list(v) for n, v in found[0].vectors.items()}:
                yield f"item {item.item_id!r} has other vectors"
            elif _sparse(held(self._spec, item).sparse) != _sparse(found[0].sparse):
                yield f"item {item.item_id!r} has other sparse vectors"
        yield from search_problems(index, [item.row for item in self._items[:4]])

    def _user_problems(self, users: UserStore) -> Iterator[str]:
        if len(users) != self._user_count:
            yield f"{len(users)} users instead of {self._user_count}"
        for user in self._users:
            found = users.keyed(user.user_id)
            if found is None or list(found.history) != [int(row) for row in user.history]:
                yield f"user {user.user_id!r} is missing or has another history"
            elif list(found.times) != [int(time) for time in user.times]:
                yield f"user {user.user_id!r} has other times"
            elif found.events != user.events:
                yield f"the history of user {user.user_id!r} is of other events"
            elif list(found.vector) != _float32(user.vector):
                yield f"user {user.user_id!r} has another vector"
            elif _sparse({"": user.sparse}) != _sparse({"": found.sparse}):
                yield f"user {user.user_id!r} has another sparse vector"


def search_problems(index: Index, rows: Iterable[int]) -> Iterator[str]:
    """Searches with the vectors of stored items, dense and sparse, and recomputes the scores.

    A scan finds every item; a graph may miss one, but not give it another score.
    """
    scan = scanning(index)
    for name in [*index.spec.dims, *index.spec.sparse]:
        for item in index.fetch(list(rows), vectors=[name]):
            query = _own(item, name)
            if query is None:
                continue
            best = scan.top(name, query, BEST)
            own, slack = _product(query, query)
            if item.row not in dict(best) and (not best or own > best[-1][1] + slack):
                yield f"searching {name!r} with the vector of item {item.item_id!r} misses that item"
            if name in index.graphs:
                best += index.top(name, query, BEST)
            others = {other.row: _own(other, name) for other in index.fetch([r for r, _ in best], vectors=[name])}
            if any(_differs(query, others.get(row), score) for row, score in best):
                yield f"searching {name!r} with the vector of item {item.item_id!r} gives wrong scores"


def _own(item: StoredItem, name: str) -> Vector | SparseVector | None:
    return item.vectors.get(name) or item.sparse.get(name)


def _differs(query: Vector | SparseVector, other: Vector | SparseVector | None, score: float) -> bool:
    if other is None:
        return True
    right, slack = _product(query, other)
    return abs(right - score) > slack


def _product(left: Vector | SparseVector, right: Vector | SparseVector) -> tuple[float, float]:
    """The dot product, and by how much a sum of the same 32-bit numbers may differ from it."""
    if isinstance(left, SparseVector) and isinstance(right, SparseVector):
        found = dict(zip(*right, strict=True))
        addends = [value * found.get(index, 0.0) for index, value in zip(*left, strict=True)]
    else:
        addends = [a * b for a, b in zip(left, right, strict=True)]  # type: ignore[operator]
    return sum(addends), _NOTHING + TOLERANCE * sum(map(abs, addends))


def _sparse(vectors: Mapping[str, SparseVector]) -> dict[str, tuple[list[int], list[float]]]:
    """Sparse vectors as they are stored: float32, without zeros, none that is empty."""
    cleaned = {name: clean_sparse(name, vector) for name, vector in vectors.items()}
    return {name: (list(v.indices), list(v.values)) for name, v in cleaned.items() if v.indices}


def _float32(vector: Vector) -> list[float]:
    import numpy as np

    return np.asarray(vector, dtype=np.float32).tolist()  # type: ignore[no-any-return]
