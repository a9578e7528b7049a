"""Pairs of items that few people had, and what is counted without them."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, triu

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.item_item import InteractionMatrix, binary, by_rows, many_pairs
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

_BLOCK, _USERS = 1024, 4096


@dataclass(frozen=True, eq=False)
class KAnonymity:
    """Pairs of items that some, but fewer than ``least`` people had.

    Attributes:
        least: How many.
        pairs: 1 for each pair, both ways, shape (n_items, n_items); an item that so few had is a pair with itself.
            Where there may be too many to be in memory: who took what, by which they are counted when asked for.
        share: Of all pairs that anybody had.
    """

    least: int
    pairs: csr_matrix | InteractionMatrix
    share: float

    @classmethod
    def of(cls, log: Interactions, least: int) -> "KAnonymity | None":
        """Count; None where ``least`` is 1."""
        if least <= 1:
            return None
        if many_pairs(log):
            taken = InteractionMatrix.of(log)
            upper = (triu(taken.together(block), block.start, "csr") for block in taken.blocks)
            few, every = (sum(part) for part in zip(*((_few(had, least).nnz, had.nnz) for had in upper), strict=True))
            return cls(least, taken, few / max(1, every))
        counted = users_of_pairs(log)
        found = _few(counted, least)
        return cls(least, csr_matrix(found.maximum(found.T)), found.nnz / max(1, counted.count_nonzero()))

    def taken_from(self, weights: csr_matrix | csc_matrix, items: slice = slice(None)) -> csr_matrix | csc_matrix:
        """Weights from all items to those of a range (columns), without those of these pairs."""
        if isinstance(self.pairs, InteractionMatrix) and items == slice(None):
            columns, rows = weights.tocsc(), np.arange(weights.shape[1])
            rest = ((rows[block], self.taken_from(columns[:, block], block)) for block in self.pairs.blocks)
            return by_rows(rest, len(rows))
        rest = weights - weights.multiply(self._neighbors(items).T)
        rest.eliminate_zeros()
        return rest.asformat(weights.format)

    def cleared(self, weights: Matrix, columns: Rows) -> Matrix:
        """The same, in place, of a dense matrix between the items at the ascending rows ``columns``.

        Pairs that nobody had stay: an inverse gives them a weight that says nothing of anybody who had both.
        """
        place = np.full((self.pairs.of_items if isinstance(self.pairs, InteractionMatrix) else self.pairs).shape[0], -1)
        place[columns] = np.arange(len(columns))
        for begin in range(0, len(columns), _BLOCK):
            few = self._neighbors(columns[begin : begin + _BLOCK]).tocoo()
            known = place[few.col] >= 0
            weights[place[few.col[known]], begin + few.row[known]] = 0
        return weights

    def _neighbors(self, items: slice | Rows) -> csr_matrix:
        """Of some items (rows) all others that make such a pair with them."""
        return (
            _few(self.pairs.together(items), self.least)
            if isinstance(self.pairs, InteractionMatrix)
            else self.pairs[items]
        )


def users_of_pairs(log: Interactions) -> csr_matrix:
    """How many users had two items, of which one stands before the other or is the same, shape (n_items, n_items)."""
    had = binary(log)
    total = csr_matrix((log.n_items, log.n_items), dtype=np.float32)
    for begin in range(0, log.n_users, _USERS):
        own = had[begin : begin + _USERS]
        total = total + triu(own.T @ own, format="csr")
    return csr_matrix(total, dtype=np.float32)


def _few(together: csr_matrix, least: int) -> csr_matrix:
    """1 where some, but fewer than ``least`` people had two items."""
    few = together.copy()
    few.data = ((few.data > 0) & (few.data < least)).astype(np.float32)
    few.eliminate_zeros()
    return few


def had_by_few(log: Interactions, least: int) -> Mask:
    """Items that some, but fewer than ``least`` people had, shape (n_items,)."""
    people = np.bincount(binary(log).indices, minlength=log.n_items)
    return np.asarray((people > 0) & (people < least))
