"""What is taken after what, for a block of items at a time: memory is that of a block, however long the log.

A block has the columns of some items, whole: each pair is counted for the item that came second. So nothing has to be
merged, or cut, before the strongest weights of an item are chosen, and blocks may be counted anywhere, in any order.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from molar_retrieval.data.interactions import Interactions, of_tensors, to_tensors
from molar_retrieval.experts import taken
from molar_retrieval.experts.column_shards import Block, Counting
from molar_retrieval.experts.company import FewPairs
from molar_retrieval.experts.fading import faded
from molar_retrieval.experts.histories import countable
from molar_retrieval.experts.item_item import strongest
from molar_retrieval.experts.order import followers, rounded, scales
from molar_retrieval.experts.taken import Taken, by_rows, many_pairs, ranges
from molar_retrieval.workspace.tensors import Array, Matrix, Rows

_READ = ("offsets", "item", "strength")
_TIMES = "timestamp"


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
        counting: Counting | None = None,
    ) -> csr_matrix:
        """All columns, shape (n_items, n_items), by ``counting``; None: by this thread."""
        if counting is not None:
            least = 1 if few is None else few.least
            work = FollowedColumns(self.log.n_items, self.window, self.decay, self.fade, shrink, ordered, count, least)
            return counting.rows(work, self._tensors(few), self.blocks, self.log.n_items)
        rows = np.arange(self.log.n_items)
        parts = ((rows[block], self.cooccurrence(block, shrink, ordered, count, few)) for block in self.blocks)
        return by_rows(parts, self.log.n_items)

    def between(self, items: Rows) -> Matrix:
        """F between some items, ascending, shape (m, m), float32."""
        found = np.zeros((len(items),) * 2, np.float32)
        for block in self.blocks:
            first, end = np.searchsorted(items, [block.start, block.stop])
            found[:, first:end] = self.columns(block)[:, items[first:end] - block.start][items].toarray()
        return found

    def _tensors(self, few: FewPairs | None) -> dict[str, Array]:
        read = {
            name: values
            for name, values in to_tensors(self.log).items()
            if name in (*_READ, *([_TIMES] if self.fade else []))
        }
        if few is None:
            return read
        whose = few.pairs if isinstance(few.pairs, Taken) else Taken.of(countable(self.log))
        return read | whose.to_tensors()

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


@dataclass(frozen=True)
class FollowedColumns:
    """The columns of :meth:`FollowedInBlocks.cooccurrence`, of arrays; no pair rests on fewer people than ``least``."""

    n_items: int
    window: int
    decay: float
    fade: float
    shrink: float
    ordered: bool
    most: int
    least: int
    task: str = "what is taken after what"

    def of(self, tensors: Mapping[str, Array]) -> Callable[[Block], csc_matrix]:
        """What counts a block."""
        log = of_tensors(tensors, self.n_items)
        few = FewPairs(self.least, Taken.of_tensors(tensors, self.n_items), 0.0) if self.least > 1 else None
        blocks = FollowedInBlocks(log, self.window, self.decay, self.fade)

        def counted(block: Block) -> csc_matrix:
            assert isinstance(block, slice)
            return blocks.cooccurrence(block, self.shrink, self.ordered, self.most, few)

        return counted


def followed(log: Interactions, window: int, decay: float, fade: float = 0.0) -> csr_matrix | FollowedInBlocks:
    """Counts of all pairs, or in blocks where there may be too many of them to be in memory at once."""
    return (FollowedInBlocks if many_pairs(log, window) else followers)(log, window, decay, fade)
