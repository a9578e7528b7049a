"""The two views of a generation's items: what they are like, and what people take with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags

from molar_indexes.generations import Generation
from molar_retrieval.encoders.base import unit
from molar_retrieval.models.content_features import ATTRIBUTES
from molar_retrieval.models.content_knn import compressed
from molar_retrieval.workspace.tensors import Array, Mask, Matrix, Rows

MOST = 20_000
"""Items that are looked at; of more, those that most people took."""
NEAR = 15
"""Neighbours of an item that attract it on a map, and that are shown for evidence."""
_LATEST = 200  # items of one person that count, so that nobody has more than 40,000 pairs
_TAKES = 2_000_000  # takes that are read; of more, those of people spread evenly
_DAMPING = 10.0  # so many takes are added to an item's before likeness is divided by them: few takes prove little
_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Views:
    """n items of a generation by content and by behaviour.

    Attributes:
        rows: Which rows of the generation they are, ascending, shape (n,).
        sources: What items are like, by source (``text``, ``image``), shape (n, d), rows of length 1 or 0.
        content: All sources together, attributes left out: they say what somebody filled in, which may be wrong.
        taken: People × items, 1 for what somebody took, of people who took at least two; float32.
        takes: How many people took an item, of all, shape (n,).
        since: When it was first taken, in seconds since 1970, shape (n,); 0 where that is not known.
        until: When anything was last taken.
    """

    rows: Rows
    sources: dict[str, Matrix]
    content: Matrix
    taken: csr_matrix
    takes: npt.NDArray[np.int64]
    since: npt.NDArray[np.int64]
    until: int

    def __len__(self) -> int:
        return len(self.content)

    @classmethod
    def of(cls, generation: Generation, most: int = MOST) -> "Views":
        """The views of a generation, read from its own files."""
        store, blocks = generation.table.items, generation.table.origins.blocks
        taken, takes, since, until = _behaviour(generation, len(store))
        rows = np.flatnonzero(store.known | store.cold)
        if len(rows) > most:
            rows = np.sort(rows[np.argsort(-takes[rows], kind="stable")[:most]])
        taken = taken[:, rows]
        taken = taken[np.diff(taken.indptr) >= 2]
        parts = {name: span for name, span in blocks.items() if name != ATTRIBUTES}
        spans = parts or {"text": (0, store.content.shape[1])}
        read = {name: np.asarray(store.content[rows, start:stop], np.float32) for name, (start, stop) in spans.items()}
        content = compressed(unit(np.concatenate(list(read.values()), axis=1)))
        sources = {name: compressed(unit(vectors)) for name, vectors in read.items()}
        return cls(rows, sources, content, csr_matrix(taken), takes[rows], since[rows], until)

    @cached_property
    def described(self) -> Mask:
        """Which items have content, shape (n,)."""
        return np.asarray(self.content.any(axis=1))

    def alike(self, k: int, vectors: Matrix | None = None) -> Rows:
        """The k items that each item is most like, best first, shape (n, k), -1 where there are fewer."""
        own = self.content if vectors is None else vectors
        return _nearest((own[begin : begin + _AT_ONCE] @ own.T for begin in range(0, len(own), _AT_ONCE)), k)

    def together(self, k: int) -> Rows:
        """The k items that were taken with each most, for how often both are taken, shape (n, k), -1 for none.

        Likeness is the cosine of who took them, with each person's takes weighed by how few they are.
        """
        lengths = np.diff(self.taken.indptr)
        weighed = csr_matrix(diags(1 / np.sqrt(np.maximum(lengths, 1))) @ self.taken, dtype=np.float32)
        own = np.asarray(weighed.multiply(weighed).sum(axis=0)).ravel()
        damping = _DAMPING * float(own.sum()) / max(self.taken.nnz, 1)
        scale = (1 / np.sqrt(np.maximum(own + damping, 1e-12))).astype(np.float32)
        columns = csr_matrix((weighed @ diags(scale)).T, dtype=np.float32)
        blocks = ((columns[b : b + _AT_ONCE] @ columns.T).toarray() for b in range(0, len(self), _AT_ONCE))
        return _nearest(blocks, k)


def _nearest(products: Iterator[Array], k: int) -> Rows:
    """The largest positive products of each item but its own, from all items, block by block."""
    found, begin = [], 0
    for block in products:
        block[np.arange(len(block)), begin + np.arange(len(block))] = 0
        begin += len(block)
        few = min(k, block.shape[1])
        best = np.argpartition(-block, few - 1, axis=1)[:, :few]
        values = np.take_along_axis(block, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        best = np.where(np.take_along_axis(values, order, axis=1) > 0, np.take_along_axis(best, order, axis=1), -1)
        found.append(np.pad(best, ((0, 0), (0, k - few)), constant_values=-1))
    return np.concatenate(found).astype(np.int64)


def _behaviour(generation: Generation, n: int) -> tuple[csr_matrix, npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    takes, since = np.zeros(n, np.int64), np.full(n, np.iinfo(np.int64).max)
    rows: list[Array] = []
    until = 0
    for batch in generation.users.batches():
        for person in batch:
            history, times = np.asarray(person.history, np.int64), np.asarray(person.times, np.int64)
            np.minimum.at(since, history, times)
            until = max([until, *times[-1:].tolist()])
            latest = np.unique(history)
            takes[latest] += 1
            if len(latest) >= 2:
                rows.append(np.unique(history[-_LATEST:]).astype(np.int32))
    total = sum(map(len, rows))
    if total > _TAKES:
        keep = max(1, len(rows) * _TAKES // total)
        rows = [rows[place * len(rows) // keep] for place in range(keep)]
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.concatenate(rows) if rows else np.zeros(0, np.int32)
    taken = csr_matrix((np.ones(len(items), np.float32), items, ends), shape=(len(rows), n))
    return taken, takes, np.where(takes > 0, since, 0), until
