"""Pairs of items that few people had, and what is counted without them."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from molar_retrieval.arrays import Mask, Matrix, Rows
from molar_retrieval.experts.histories import binary
from molar_retrieval.experts.sums import PairSums
from molar_retrieval.interactions.log import InteractionLog


@dataclass(frozen=True, eq=False)
class FewPairs:
    """Pairs of items that some, but fewer than ``least`` people had.

    Attributes:
        least: How many.
        pairs: 1 for each pair, both ways, shape (n_items, n_items); an item that so few had is a pair with itself.
        share: Of all pairs that anybody had.
    """

    least: int
    pairs: csr_matrix
    share: float

    @classmethod
    def of(cls, log: InteractionLog, least: int, sums: PairSums | None = None) -> "FewPairs | None":
        """Count; None where ``least`` is 1. ``sums`` of the log that know how many had two items are not made again."""
        if least <= 1:
            return None
        together = None if sums is None else sums.together
        counted = PairSums.of(log, together=True).together if together is None else together
        assert counted is not None
        few = counted.copy()
        few.data = ((few.data > 0) & (few.data < least)).astype(np.float32)
        few.eliminate_zeros()
        return cls(least, csr_matrix(few.maximum(few.T)), few.nnz / max(1, counted.count_nonzero()))

    def taken_from(self, weights: csr_matrix) -> csr_matrix:
        """Weights between all items without those of these pairs."""
        rest = csr_matrix(weights - weights.multiply(self.pairs))
        rest.eliminate_zeros()
        return rest

    def cleared(self, weights: Matrix, columns: Rows) -> Matrix:
        """The same, in place, of a dense matrix between the items at the ascending rows ``columns``.

        Pairs that nobody had stay: an inverse gives them a weight that says nothing of anybody who had both.
        """
        few = csr_matrix(self.pairs[columns][:, columns])
        weights[np.repeat(np.arange(len(columns)), np.diff(few.indptr)), few.indices] = 0
        return weights


def had_by_few(log: InteractionLog, least: int) -> Mask:
    """Items that some, but fewer than ``least`` people had, shape (n_items,)."""
    people = np.bincount(binary(log).indices, minlength=log.n_items)
    return np.asarray((people > 0) & (people < least))
