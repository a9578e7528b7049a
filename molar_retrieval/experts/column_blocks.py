"""What is taken after what, for a block of items at a time: memory is that of a block, however long the log.

A block has the columns of some items, whole: each pair is counted for the item that came second. So nothing has to be
merged, or cut, before the strongest weights of an item are chosen, and blocks may be counted anywhere, in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts import taken
from molar_retrieval.experts.company import FewPairs
from molar_retrieval.experts.fading import faded
from molar_retrieval.experts.item_item import strongest
from molar_retrieval.experts.order import followers, rounded, scales
from molar_retrieval.experts.taken import by_rows, many_pairs, ranges
from molar_retrieval.workspace.tensors import Array, Matrix, Rows
from molar_retrieval.workspace.threads import each


@dataclass(frozen=True, eq=False)
class FollowedInBlocks:
    """How often one item came after another: :func:`~molar_retrieval.experts.order.followers`, exact, by columns.

    Attributes:
        log: Whose.
        window: Places up to which distances count, 1 or more.
        decay: Per place.
        fade: By the time in between.
    """

    log: Interactions
    window: int
    decay: float
    fade: float = 0.0

    @cached_property
    def blocks(self) -> list[slice]:
        """Ranges of items, by their rows, that have about as many pairs each."""
        return ranges(np.bincount(self.log.item, minlength=self.log.n_items) * self.window)

    def columns(self, block: slice, *, ordered: bool = True) -> csc_matrix:
        """F from all items to those of a range, float64, shape (n_items, size of the range); or F + Fᵀ."""
        items, shape = self.log.item, (self.log.n_items, block.stop - block.start)
        total: csc_matrix | None = None
        places = np.flatnonzero((items >= block.start) & (items < block.stop))
        step = max(1, taken.PAIRS_OF_BLOCK // (self.window if ordered else 2 * self.window))
        nothing = items[:0], items[:0], np.zeros(0)
        for begin in range(0, len(places), step):
            pairs = zip(nothing, *self._pairs(places[begin : begin + step], ordered), strict=True)
            first, second, values = (np.concatenate(part) for part in pairs)
            found = csc_matrix((values, (first, second - block.start)), shape=shape)
            total = found if total is None else total + found
        return csc_matrix(shape, dtype=np.float64) if total is None else total

    def cooccurrence(
        self, block: slice, shrink: float, ordered: bool, count: int, few: FewPairs | None = None
    ) -> csc_matrix:
        """Of :func:`~molar_retrieval.experts.order.cooccurrence` the columns of a range, ``count`` weights of each.

        Pairs of ``few`` are left out. Shape (n_items, size of the range), float32.
        """
        scale, weights = scales(self.log, shrink), self.columns(block, ordered=ordered)
        weights.data *= scale[weights.indices]
        weights.data *= np.repeat(scale[block], np.diff(weights.indptr))
        if few is not None:
            weights = few.taken_from(weights, block)
            weights.sort_indices()  # of equal weights those of the first rows stay
        return csc_matrix(strongest(weights, count))

    def strongest(
        self,
        shrink: float,
        ordered: bool,
        count: int,
        few: FewPairs | None = None,
        folder: Path | None = None,
    ) -> csr_matrix:
        """All columns, shape (n_items, n_items), mapped from files without a name in ``folder``; None: in memory."""
        rows = np.arange(self.log.n_items)

        def of_block(block: slice) -> tuple[Rows, csc_matrix]:
            return rows[block], self.cooccurrence(block, shrink, ordered, count, few)

        return by_rows(each(of_block, self.blocks), self.log.n_items, folder)

    def between(self, items: Rows) -> Matrix:
        """F between some items, ascending, shape (m, m), float32."""
        found = np.zeros((len(items),) * 2, np.float32)
        for block in self.blocks:
            first, end = np.searchsorted(items, [block.start, block.stop])
            found[:, first:end] = self.columns(block)[:, items[first:end] - block.start][items].toarray()
        return found

    def _pairs(self, places: Rows, ordered: bool) -> Iterator[tuple[Array, Array, Array]]:
        """By distance: items that are so far from interactions at some places, items of these, how much they count."""
        log = self.log
        user = np.searchsorted(log.offsets, places, "right") - 1
        before, after = places - log.offsets[user], log.offsets[user + 1] - 1 - places
        sides = [(before, -1)] if ordered else [(before, -1), (after, 1)]
        longest = max(int(room.max()) for room, _ in sides)
        for distance in range(1, min(self.window, longest) + 1):
            for room, sign in sides:
                own = places[room >= distance]
                other = own + sign * distance
                values = np.full(len(own), self.decay ** (distance - 1))
                if self.fade:
                    values *= faded(sign * (log.timestamp[other] - log.timestamp[own]), self.fade)
                if log.strength is not None:
                    values *= log.strength[other] * log.strength[own]
                yield log.item[other], log.item[own], rounded(values)


def followed(log: Interactions, window: int, decay: float, fade: float = 0.0) -> csr_matrix | FollowedInBlocks:
    """Counts of all pairs, or in blocks where there may be too many of them to be in memory at once."""
    return (FollowedInBlocks if many_pairs(log, window) else followers)(log, window, decay, fade)
