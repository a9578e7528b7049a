"""Proof that a new generation gives back what was put into it, from a sample taken on the way in.

Exact is what is stored, and what a scan finds; how much a graph finds is measured, see :mod:`molar_indexes.recall`.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from molar_indexes.backends import open_index
from molar_indexes.recall import BEST, TOLERANCE, sample, scanning, widened
from molar_indexes.records import clean_payload, held
from molar_indexes.sparse import clean_sparse
from molar_indexes.users import UserRecord, UserStore
from molar_retrieval import columns
from molar_retrieval.errors import BackendError
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.index_protocol import Index, IndexItem, IndexSpec, SparseVector, StoredItem, Vector
from molar_retrieval.ranking.item_store import ItemStore

_T = TypeVar("_T")
_SAMPLE = 32
_NOTHING = 1e-30  # products of 32-bit numbers smaller than this may be lost


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
