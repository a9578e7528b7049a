"""Many users at once: the ranking of :mod:`molar_retrieval.ranking` over one matrix product for a batch of them.

Where the vectors of all items are scanned anyway, one product for hundreds of users costs as much as ten searches. The
lists that a search would return are then read off its rows, so that what follows is the same code with the same input.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval import columns
from molar_retrieval.expressions import Expression
from molar_retrieval.index import Index, IndexSpec, SparseVector, StoredItem, Vector
from molar_retrieval.ranking.ranker import Ranker
from molar_retrieval.ranking.table import ItemTable
from molar_retrieval.ranking.wishes import Asker, Listing, Wishes

Scores = npt.NDArray[np.float32]
_MOST_SCANNED = 1 << 24
"""Numbers in the items' dense vectors up to which they are scanned; what an index scans as well."""
_MOST_SCORES = 1 << 24
"""Parts of scores that are held at a time."""


def rank_all(
    ranker: Ranker, newcomer: npt.NDArray[np.bool_], askers: Sequence[Asker], k: int, wishes: Sequence[Wishes]
) -> Iterator[Listing]:
    """The lists of several users, the same as :meth:`Ranker.rank` gives each of them.

    Args:
        ranker: Of one generation.
        newcomer: Whether an item had no training interactions, shape (n,).
        askers: The users.
        k: How many items each.
        wishes: Of each.
    """
    table = ranker.table
    if table.dense.size > _MOST_SCANNED:
        yield from (ranker.rank(asker, k, wish) for asker, wish in zip(askers, wishes, strict=True))
        return
    size = max(1, _MOST_SCORES // max(1, len(table) * len(table.names)))
    for begin in range(0, len(askers), size):
        some = askers[begin : begin + size]
        scan = Scan(ranker.index, table, newcomer, some)
        scanning = Ranker(scan, scan.table, ranker.slots, ranker.reranker)
        yield from _listed(scanning, scan, some, k, wishes[begin : begin + size])


def _listed(
    ranker: Ranker, scan: "Scan", askers: Sequence[Asker], k: int, wishes: Sequence[Wishes]
) -> Iterator[Listing]:
    """The lists of the scan's users; the second stage is asked for all that nothing else shapes at once."""
    plain = [number for number, wish in enumerate(wishes) if not wish.shape]
    found = []
    for number in plain:
        scan.user = number
        found.append(ranker.candidates(askers[number], k, wishes[number]))
    own = [askers[number] for number in plain], found, k, [wishes[number] for number in plain]
    lists = dict(zip(plain, ranker.listed(*own), strict=True))
    for number, (asker, wish) in enumerate(zip(askers, wishes, strict=True)):
        scan.user = number
        yield lists[number] if number in lists else ranker.rank(asker, k, wish)


class Scan:
    """An index for some users: their own searches are answered from matrix products, all else by the real one.

    Args:
        index: The real one.
        table: Of the same items.
        newcomer: Whether an item had no training interactions, shape (n,).
        askers: The users.

    Attributes:
        user: Number of the user whose searches come.
        table: The same items, their scores for that user known.
    """

    def __init__(
        self, index: Index, table: ItemTable, newcomer: npt.NDArray[np.bool_], askers: Sequence[Asker]
    ) -> None:
        self.user = 0
        self.table = ScannedTable(**{field.name: getattr(table, field.name) for field in fields(table)}, scan=self)
        self._index = index
        users = np.array([asker.vector for asker in askers], np.float32).reshape(-1, table.dense.shape[1])
        dense = [users[:, start:stop] @ table.dense[:, start:stop].T for start, stop in table.parts.values()]
        partners = csr_matrix(
            (table.partners.values, table.partners.items, table.partners.starts), (len(table.partners), len(table))
        )
        reads = _readings(askers, len(table.partners))
        sparse = [
            (reads[:, start:stop] @ partners[start:stop]).toarray() for start, stop in table.sparse_parts.values()
        ]
        self._parts = [*dense, *sparse]
        nothing = np.zeros((len(askers), len(table)), np.float32)
        self._dense, self._sparse = sum(dense, nothing), sum(sparse, nothing)
        self._among = {
            columns.ALIGNED: np.flatnonzero(~newcomer),
            columns.NEWCOMERS: np.flatnonzero(newcomer),
        }

    def parts(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The addends of the scores of some items for the user, shape (len(rows), P)."""
        return np.stack([part[self.user, rows] for part in self._parts], axis=1).astype(np.float64)

    @property
    def spec(self) -> IndexSpec:
        """See :class:`molar_retrieval.index.Index`."""
        return self._index.spec

    def __len__(self) -> int:
        return len(self._index)

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """See :class:`molar_retrieval.index.Index`; the query is the user's own."""
        if where is not None:
            return self._index.top(name, query, k, exclude=exclude, where=where)
        if name == columns.PARTNERS:
            rows = np.flatnonzero(self._sparse[self.user])
            scores = self._sparse[self.user, rows]
        else:
            rows = self._among[name]
            scores = self._dense[self.user, rows]
        hidden = np.fromiter(exclude, np.int64)
        if len(hidden):
            shown = np.ones(len(self), bool)
            shown[hidden] = False
            keep = shown[rows]
            rows, scores = rows[keep], scores[keep]
        if len(rows) > k:
            least = np.partition(scores, len(scores) - k)[len(scores) - k]
            keep = scores >= least
            rows, scores = rows[keep], scores[keep]
        order = np.lexsort((rows, -scores))[:k]
        return list(zip(rows[order].tolist(), scores[order].tolist(), strict=True))

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """See :class:`molar_retrieval.index.Index`."""
        return self._index.fetch(rows, vectors=vectors)

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """See :class:`molar_retrieval.index.Index`."""
        return self._index.rows(item_ids)

    def close(self) -> None:
        """Leave the real index open."""


@dataclass(frozen=True, eq=False)
class ScannedTable(ItemTable):
    """An item table that knows the scores of the scan's present user.

    Attributes:
        scan: Where they are.
    """

    scan: Scan

    def split(self, vector: Vector, sparse: SparseVector, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """See :meth:`ItemTable.split`; the vectors are the user's own."""
        return self.scan.parts(rows)


def _readings(askers: Sequence[Asker], width: int) -> Any:
    indices = [np.asarray(asker.sparse.indices, np.int64) for asker in askers]
    values = [np.asarray(asker.sparse.values, np.float32) for asker in askers]
    kept = [own < width for own in indices]
    ends = np.concatenate([[0], np.cumsum([int(own.sum()) for own in kept])])
    data = [own[keep] for own, keep in zip(values, kept, strict=True)]
    places = [own[keep] for own, keep in zip(indices, kept, strict=True)]
    empty = np.zeros(0)
    return csr_matrix(
        (np.concatenate([empty, *data]).astype(np.float32), np.concatenate([empty, *places]).astype(np.int64), ends),
        shape=(len(askers), width),
    )
