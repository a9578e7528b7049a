"""Sequential item-to-item models: transitions counted with decay, and a ridge regression on the same counts (SLIST).

Counts are of all pairs at once, or, where there may be too many for memory, of a block of items at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix, diags_array

from molar_retrieval import cholesky
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models import item_item
from molar_retrieval.models.item_item import by_rows, known_items, many_pairs, ranges, strongest
from molar_retrieval.models.k_anonymity import KAnonymity
from molar_retrieval.models.time_decay import time_decay
from molar_retrieval.workspace.tensors import Array, Matrix, Rows
from molar_retrieval.workspace.threads import each

_PRIOR = 20
_UNIT = 2.0**30
"""Parts of one that exact counts are rounded to."""
_MOST_DOUBLE = 10_000
"""Items up to which exact counts are solved in float64; from there on in float32, by half the time and memory."""


def transitions(log: Interactions, window: int, decay: float, fade: float = 0.0, *, exact: bool = False) -> csr_matrix:
    """How often item j came after item i, ``decay ** (distance - 1)`` each time, float32, shape (n_items, n_items).

    Distances are counted in places, up to ``window``, with :func:`~molar_retrieval.models.time_decay.time_decay` by the
    seconds between the two. An interaction of a weaker type is that much of one. Where it is to be ``exact``,
    each addend is rounded to a multiple of 2⁻³⁰ and the sums are float64: then they are the same in whatever order they
    are made, up to eight million occurrences of a pair.
    """
    shape = (log.n_items, log.n_items)
    user = log.user
    number: type[np.floating[Any]] = np.float64 if exact else np.float32
    total = csr_matrix(shape, dtype=number)
    for distance in range(1, min(window, len(log) - 1) + 1):
        same = user[distance:] == user[:-distance]
        pairs = log.item[:-distance][same], log.item[distance:][same]
        values = np.full(len(pairs[0]), decay ** (distance - 1), number)
        if fade:
            values *= time_decay((log.timestamp[distance:] - log.timestamp[:-distance])[same], fade)
        if log.strength is not None:
            values *= log.strength[:-distance][same] * log.strength[distance:][same]
        total = total + csr_matrix((rounded(values) if exact else values, pairs), shape=shape)
    return total


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To multiples of 2⁻³⁰, of which sums in float64 are exact."""
    return np.rint(values * _UNIT) / _UNIT


def _counts(log: Interactions) -> npt.NDArray[np.number]:
    """Each item's interactions, as its pairs with itself: by the square of their strength."""
    return np.bincount(log.item, None if log.strength is None else log.strength**2, minlength=log.n_items)


def cooccurrence(log: Interactions, followed: csr_matrix, shrink: float, ordered: bool) -> csr_matrix:
    """``F_ij / √((n_i + shrink) (n_j + shrink))``, n being the items' counts: a shrunk cosine of what follows what.

    F is :func:`transitions` of the same log, or ``F + Fᵀ`` where not only what came after i counts for i. The
    ``shrink``, > 0, keeps rare items from winning by one coincidence. Shape (n_items, n_items); row i is of item i.
    """
    scale = diags_array(scales(log, shrink))
    return csr_matrix(scale @ (followed if ordered else followed + followed.T) @ scale)


def scales(log: Interactions, shrink: float) -> npt.NDArray[np.float32]:
    """``1 / √(n_i + shrink)`` of each item, shape (n_items,)."""
    found: npt.NDArray[np.float32] = (1 / np.sqrt(_counts(log) + shrink)).astype(np.float32)
    return found


@dataclass(frozen=True, eq=False)
class TransitionRegression:
    """What comes next, by ridge regression on what came before: a linear model of order with a closed form.

    The past of a position is the decayed sum of its items, ``h_t = Σ_k d^k e(t−k)``, and W minimises
    ``Σ_t ‖e(t+1) − Wᵀ h_t‖² + λ‖W‖²``: the transition model of SLIST (Choi et al. 2021, arXiv 2103.16104). Where
    co-occurrence counts an item for all that often precedes it, the regression shares it among them.

    Only the m items with interactions enter, at the ascending rows ``columns``: their ``counts`` (m,), and how often
    one ``followed`` another, decayed (m, m).
    """

    columns: Rows
    counts: npt.NDArray[np.number]
    followed: Matrix
    decay: float

    @classmethod
    def of(cls, log: Interactions, followed: csr_matrix | Matrix, decay: float) -> Self:
        """From :func:`transitions` of the same log, with this decay; a dense matrix is between known items alone.

        Its window w must hold nearly all of the weight, ``2 · decay ** (w + 1) < 1 − decay``: the matrix to be
        inverted, which is made of the same counts, is surely positive definite only then. Counts that fade with time
        leave it so: a convex law of the gap that falls to 0 is positive definite itself (Pólya's criterion), and so are
        products of such laws, element by element (Schur).
        """
        columns = np.flatnonzero(known_items(log))
        counts = _counts(log)[columns]
        if isinstance(followed, np.ndarray):
            return cls(columns, counts, followed, decay)
        between = followed[columns][:, columns]
        if len(columns) > _MOST_DOUBLE:
            between = between.astype(np.float32)
        return cls(columns, counts, between.toarray(), decay)

    def weights(self, regularisation: float, damping: float) -> Matrix:
        """W, from items that were taken (rows) to the one that comes next (columns), shape (m, m).

        The regularisation is λ (1 − d²), in interactions. Columns are divided by ``(interactions + 20) ** damping``,
        which lifts rare items.
        """
        gram = self.followed + self.followed.T
        gram *= np.float32(self.decay)
        gram[np.diag_indices_from(gram)] += (self.counts + regularisation).astype(np.float32)
        solved: Matrix = cholesky.solve(gram, self.followed)
        solved /= np.power(self.counts + _PRIOR, damping).astype(np.float32)
        return solved


@dataclass(frozen=True, eq=False)
class TransitionsInBlocks:
    """How often one item came after another: :func:`~molar_retrieval.models.sequential.transitions`, exact, by columns.

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
        slots = np.flatnonzero((items >= block.start) & (items < block.stop))
        step = max(1, item_item.PAIRS_OF_BLOCK // (self.window if ordered else 2 * self.window))
        nothing = items[:0], items[:0], np.zeros(0)
        for begin in range(0, len(slots), step):
            pairs = zip(nothing, *self._pairs(slots[begin : begin + step], ordered), strict=True)
            first, second, values = (np.concatenate(part) for part in pairs)
            found = csc_matrix((values, (first, second - block.start)), shape=shape)
            total = found if total is None else total + found
        return csc_matrix(shape, dtype=np.float64) if total is None else total

    def cooccurrence(
        self, block: slice, shrink: float, ordered: bool, count: int, few: KAnonymity | None = None
    ) -> csc_matrix:
        """Of :func:`~molar_retrieval.models.sequential.cooccurrence` the columns of a range, ``count`` weights of each.

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
        few: KAnonymity | None = None,
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

    def _pairs(self, slots: Rows, ordered: bool) -> Iterator[tuple[Array, Array, Array]]:
        """By distance: items that are so far from interactions at some places, items of these, how much they count."""
        log = self.log
        user = np.searchsorted(log.offsets, slots, "right") - 1
        before, after = slots - log.offsets[user], log.offsets[user + 1] - 1 - slots
        sides = [(before, -1)] if ordered else [(before, -1), (after, 1)]
        longest = max(int(room.max()) for room, _ in sides)
        for distance in range(1, min(self.window, longest) + 1):
            for room, sign in sides:
                own = slots[room >= distance]
                other = own + sign * distance
                values = np.full(len(own), self.decay ** (distance - 1))
                if self.fade:
                    values *= time_decay(sign * (log.timestamp[other] - log.timestamp[own]), self.fade)
                if log.strength is not None:
                    values *= log.strength[other] * log.strength[own]
                yield log.item[other], log.item[own], rounded(values)


def count_transitions(
    log: Interactions, window: int, decay: float, fade: float = 0.0, *, exact: bool = False
) -> csr_matrix | TransitionsInBlocks:
    """Counts of all pairs, or in blocks (always exact) where there may be too many of them to be in memory at once."""
    if many_pairs(log, window):
        return TransitionsInBlocks(log, window, decay, fade)
    return transitions(log, window, decay, fade, exact=exact)
