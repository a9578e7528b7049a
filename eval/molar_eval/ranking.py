"""Full ranking: every candidate is scored for every case; nothing is sampled.

Ties are broken against the model: a target stands behind every other candidate of its score, so that a model that
gives all items one score finds nothing. The lists that are shown break ties by item row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import isqrt
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases, Mask, Scores, Seen
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.progress import SILENT, Progress

Panel: TypeAlias = Callable[[int, int], Scores]
"""Scores of the items from one row up to another for the cases of a block; the caller may write into them."""
Users: TypeAlias = Scores | Callable[[slice], Scores]

_MEMORY = 256 << 20
# Tables of scores that live at once: the model's own, our copy, and as much for whatever the model computes them from.
_TABLES = 3
# Matrix products round differently when their shapes differ, so they are always taken over the same tiles; the budget
# decides how many of them make a panel.
_TILE_ROWS, _TILE_COLUMNS, _MOST_ROWS = 256, 16384, 1024


@dataclass(frozen=True, eq=False)
class Ranked:
    """What a model recommends in each case, and where it puts the targets.

    Lists of ``items`` are item rows, best first, ties by item row, -1 where one is shorter, shape (C, k), with their
    ``scores``, -inf there. ``ranks`` are the 1-based places of the T targets among all candidates that are not hidden,
    ties broken against them; 0, a miss, where the model cannot score a target, or it is hidden or no candidate.
    """

    items: npt.NDArray[np.int32]
    scores: Scores
    ranks: npt.NDArray[np.int64]

    def to_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name, as files have them."""
        return {field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of cases that follow one another, in parts."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def rank(
    cases: Cases,
    scores: Callable[[Interactions], Scores],
    *,
    k: int,
    candidates: Mask,
    seen: Seen = "hide",
    finish: Callable[[Scores, Mask, Interactions], Scores] | None = None,
    memory: int = _MEMORY,
    progress: Progress = SILENT,
) -> Ranked:
    """Rank all candidates by a model that scores histories, see ``Scorer.scores`` and ``Scorer.finish``.

    Scores have shape (n_histories, n_items); ``candidates`` says which items may be recommended; with ``seen`` =
    ``hide`` those that the user had before the case may not. ``memory`` are bytes for the scores: a block of b cases
    takes 12 · b · n_items; one case at a time at the least.

    Raises:
        DataError: If scores have the wrong shape or are not numbers.
        SettingsError: If ``k``, the length of the lists, is less than 1.
    """
    n_items = cases.history.n_items
    height = block_height(n_items, memory)

    def panels(block: slice) -> Panel:
        inputs = cases.inputs(block)
        table = np.array(scores(inputs), np.float32)
        if table.shape != (block.stop - block.start, n_items):
            raise DataError(
                f"a model returned scores of shape {table.shape} for {block.stop - block.start} histories and"
                f" {n_items} items",
                "return one row per history and one column per item",
            )
        if finish is not None:
            table = finish(table, allowed(cases, block, candidates, seen), inputs)
        return lambda first, stop: table[:, first:stop]

    return _ranked(cases, panels, (height, max(1, n_items)), k, candidates, seen, progress)


def block_height(n_items: int, memory: int) -> int:
    """How many cases :func:`rank` asks a model about at a time."""
    return max(1, min(_MOST_ROWS, memory // (4 * _TABLES * max(1, n_items))))


def allowed(cases: Cases, block: slice, candidates: Mask, seen: Seen) -> Mask:
    """Which items may be shown in each case of a block, shape (cases, n_items)."""
    mask = np.repeat(candidates[None], block.stop - block.start, axis=0)
    if seen == "hide":
        had = cases.seen(block)
        mask[had.user, had.item] = False
    return mask


def rank_vectors(
    cases: Cases,
    users: Users,
    items: Scores,
    *,
    k: int,
    candidates: Mask,
    seen: Seen = "hide",
    memory: int = _MEMORY,
    progress: Progress = SILENT,
) -> Ranked:
    """Rank all candidates by dot products, over blocks of cases and, where a budget demands it, of items.

    The result is bit for bit the same under any budget; see :func:`rank` for the rest.

    ``users`` are float32 (C, d), or a function that gives those of a slice of the cases; ``items`` have shape
    (n_items, d). ``memory`` are bytes for the scores, 16 MiB at the least: catalogues of more than ``memory / 1024``
    items are scored twice, as a target's score has to be known before its rivals are counted.
    """
    n_items = max(1, len(items))
    width = min(n_items, _TILE_COLUMNS * max(1, memory // (4 * _TILE_ROWS * _TILE_COLUMNS)))
    height = min(_MOST_ROWS, _TILE_ROWS * max(1, memory // (4 * _TILE_ROWS * width)))
    buffer = np.empty(min(height, len(cases)) * width, np.float32)

    def panels(block: slice) -> Panel:
        vectors = users(block) if callable(users) else users[block]
        return lambda first, stop: _products(vectors, items[first:stop], buffer)

    return _ranked(cases, panels, (height, width), k, candidates, seen, progress)


def _products(users: Scores, items: Scores, buffer: Scores) -> Scores:
    out = buffer[: len(users) * len(items)].reshape(len(users), len(items))
    for row in range(0, len(users), _TILE_ROWS):
        for column in range(0, len(items), _TILE_COLUMNS):
            tile = slice(row, row + _TILE_ROWS), slice(column, column + _TILE_COLUMNS)
            np.matmul(users[tile[0]], items[tile[1]].T, out=out[tile])
    return out


def _ranked(
    cases: Cases,
    panels: Callable[[slice], Panel],
    shape: tuple[int, int],
    k: int,
    candidates: Mask,
    seen: Seen,
    progress: Progress,
) -> Ranked:
    if k < 1:
        raise SettingsError(f"lists of {k} items were asked for", "ask for at least one")
    (height, width), n_items = shape, cases.history.n_items
    items, scores = np.full((len(cases), k), -1, np.int32), np.full((len(cases), k), -np.inf, np.float32)
    ranks = np.zeros(len(cases.targets), np.int64)
    progress.start("ranking", len(cases))
    for start in range(0, len(cases), height):
        block = slice(start, min(start + height, len(cases)))
        state = _RankingBlock(cases, block, candidates, seen == "hide", items[block], scores[block])
        panel_of = panels(block)
        if n_items <= width:
            state.open(0, panel := panel_of(0, n_items))
            state.take(0, panel)
        else:
            spans = [(first, min(first + width, n_items)) for first in range(0, n_items, width)]
            for span in spans:
                state.open(span[0], panel_of(*span))
            for span in spans:
                state.open(span[0], panel := panel_of(*span))
                state.take(span[0], panel)
        ranks[cases.offsets[block.start] : cases.offsets[block.stop]] = state.ranks()
        progress.advance(block.stop - block.start)
    progress.finish()
    return Ranked(items, scores, ranks)


class _RankingBlock:
    """What is known so far of the B cases ``block``; lists and their scores are filled into shape (B, k).

    A panel holds the scores of neighbouring items for all cases of the block, shape (B, width). All panels are opened
    before the first is taken, as that is when the targets' scores are read; panels are taken in the order of items.
    """

    def __init__(
        self, cases: Cases, block: slice, candidates: Mask, hide: bool, items: npt.NDArray[np.int32], scores: Scores
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

        The panel's first column is the item row ``first``. A score that is not a number raises :class:`DataError`.
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


def _largest(values: Scores, k: int) -> npt.NDArray[np.intp]:
    """Where the k largest values are, largest first, ties by place; there are at least k."""
    edge = np.partition(values, len(values) - k)[len(values) - k]
    above = (values > edge).nonzero()[0]
    chosen = np.concatenate([above, (values == edge).nonzero()[0][: k - len(above)]])
    return chosen[np.argsort(-values[chosen], kind="stable")]
