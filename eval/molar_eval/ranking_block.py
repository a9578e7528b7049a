"""The lists and ranks of a block of cases, from panels of scores that come one after the other."""

from math import isqrt

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases, Mask, Scores
from molar_retrieval.errors import DataError

Indices = npt.NDArray[np.intp]


class RankedBlock:
    """What is known so far of the cases ``block``.

    A panel holds the scores of neighbouring items for all cases of the block, shape (B, width). All panels are opened
    before the first is taken, as that is when the targets' scores are read; panels are taken in the order of items.

    Args:
        cases: All cases.
        block: Which of them.
        candidates: Whether an item may be recommended, shape (n_items,).
        hide: Whether seen items are hidden.
        items: Where the lists go, shape (B, k), filled with -1.
        scores: Where the lists' scores go, shape (B, k), filled with -inf.
    """

    def __init__(
        self,
        cases: Cases,
        block: slice,
        candidates: Mask,
        hide: bool,
        items: npt.NDArray[np.int32],
        scores: Scores,
    ) -> None:
        self._items, self._scores = items, scores
        self._others = None if candidates.all() else ~candidates
        seen = cases.seen(block)
        self._seen = (seen.user, seen.item) if hide else (seen.user[:0], seen.item[:0])
        offsets = cases.offsets[block.start : block.stop + 1]
        self._target = cases.targets[offsets[0] : offsets[-1]]
        self._case = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        self._target_scores = np.full(len(self._target), -np.inf, np.float32)
        self._reached = np.zeros(len(self._target), np.int64)

    def open(self, first: int, panel: Scores) -> None:
        """Strike out what must not be recommended, in place, and read the scores of the targets.

        Args:
            first: The item row of the panel's first column.
            panel: Shape (B, width).

        Raises:
            DataError: If a score is not a number.
        """
        width = panel.shape[1]
        if self._others is not None:
            np.copyto(panel, -np.inf, where=self._others[first : first + width])
        user, column = self._seen[0], self._seen[1] - first
        inside = (column >= 0) & (column < width)
        panel[user[inside], column[inside]] = -np.inf
        # The minimum of numbers and a NaN is NaN; this needs no second table, as isnan would.
        if np.isnan(np.min(panel, initial=np.inf)):
            raise DataError("a model returned scores that are not numbers (NaN)", "use -inf for what cannot be scored")
        column = self._target - first
        inside = (column >= 0) & (column < width)
        self._target_scores[inside] = panel[self._case[inside], column[inside]]

    def take(self, first: int, panel: Scores) -> None:
        """Add an opened panel to the lists, and count who reaches the targets' scores."""
        for items, scores, row in zip(self._items, self._scores, panel, strict=True):
            _extend(items, scores, first, row)
        for number in np.flatnonzero(self._target_scores > -np.inf).tolist():
            row = panel[self._case[number]]
            self._reached[number] += np.count_nonzero(row >= self._target_scores[number])

    def ranks(self) -> npt.NDArray[np.int64]:
        """The rank of each target, shape (T,), once all panels were taken; 0: a miss.

        That is how many candidates reach its score, without those of the case's own targets that tie with it and come
        after it (by item row).
        """
        order = np.lexsort((self._target, -self._target_scores, self._case))
        last = np.ones(len(order), bool)
        case, score = self._case[order], self._target_scores[order]
        last[:-1] = (case[1:] != case[:-1]) | (score[1:] != score[:-1])
        ends = np.flatnonzero(last)
        tied = np.zeros(len(order), np.int64)
        tied[order] = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(order))
        return np.where(self._target_scores > -np.inf, self._reached - tied, 0)


def _extend(items: npt.NDArray[np.int32], scores: Scores, first: int, row: Scores) -> None:
    """Merge the scores of further items into one list, in place."""
    k, least = len(scores), scores[-1]
    if least == -np.inf and len(row) >= k:
        # The k-th best of a sample is a bound that most items fail, which leaves few to be sorted.
        sample = row[:: isqrt(len(row) // k)]
        bound = np.partition(sample, len(sample) - k)[len(sample) - k]
    else:
        bound = least
    # Among equal scores the earlier item wins, so a later one has to exceed what is already in a full list.
    found = (row >= bound if bound > least else row > least).nonzero()[0]
    if len(found):
        values = np.concatenate([scores, row[found]])
        best = _largest(values, k)
        items[:], scores[:] = np.concatenate([items, found + first])[best], values[best]


def _largest(values: Scores, k: int) -> Indices:
    """Where the k largest values are, largest first, ties by place; there are at least k."""
    edge = np.partition(values, len(values) - k)[len(values) - k]
    above = (values > edge).nonzero()[0]
    chosen = np.concatenate([above, (values == edge).nonzero()[0][: k - len(above)]])
    return chosen[np.argsort(-values[chosen], kind="stable")]
