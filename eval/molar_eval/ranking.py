"""Full ranking: every candidate is scored for every case; nothing is sampled.

Ties are broken against the model: a target stands behind every other candidate of its score, so that a model that
gives all items one score finds nothing. The lists that are shown break ties by item row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases, Mask, Scores, Seen
from molar_eval.ranking_block import RankedBlock
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.interactions.log import InteractionLog
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

    Attributes:
        items: Item rows of each list, best first, ties by item row, -1 where the list is shorter, shape (C, k).
        scores: Their scores, -inf where the list is shorter, shape (C, k).
        ranks: 1-based place of each target among all candidates that are not hidden, ties broken against it, shape
            (T,); 0, a miss, where the model cannot score the target, or it is hidden or no candidate.
    """

    items: npt.NDArray[np.int32]
    scores: Scores
    ranks: npt.NDArray[np.int64]


def rank(
    cases: Cases,
    scores: Callable[[InteractionLog], Scores],
    *,
    k: int,
    candidates: Mask,
    seen: Seen = "hide",
    finish: Callable[[Scores, Mask, InteractionLog], Scores] | None = None,
    memory: int = _MEMORY,
    progress: Progress = SILENT,
) -> Ranked:
    """Rank all candidates by a model that scores histories.

    Args:
        cases: C cases with T targets.
        scores: The model: scores of all items for each history, shape (n_histories, n_items); see ``Scorer.scores``.
        k: Length of the lists.
        candidates: Whether an item may be recommended, shape (n_items,).
        seen: Whether items that the user had before the case are hidden.
        finish: What the model does to scores once it is known which items may be shown; see ``Scorer.finish``.
        memory: Bytes for the scores: a block of b cases takes 12 · b · n_items; one case at a time at the least.
        progress: Is told of each case.

    Raises:
        DataError: If scores have the wrong shape or are not numbers.
        SettingsError: If ``k`` is less than 1.
    """
    n_items = cases.history.n_items
    height = max(1, min(_MOST_ROWS, memory // (4 * _TABLES * max(1, n_items))))

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
            table = finish(table, _allowed(cases, block, candidates, seen), inputs)
        return lambda first, stop: table[:, first:stop]

    return _ranked(cases, panels, (height, max(1, n_items)), k, candidates, seen, progress)


def _allowed(cases: Cases, block: slice, candidates: Mask, seen: Seen) -> Mask:
    """Which items may be shown in each case of a block, shape (cases, n_items)."""
    allowed = np.repeat(candidates[None], block.stop - block.start, axis=0)
    if seen == "hide":
        had = cases.seen(block)
        allowed[had.user, had.item] = False
    return allowed


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

    The result is bit for bit the same under any budget.

    Args:
        cases: C cases with T targets.
        users: A vector per case, float32 (C, d), or a function that returns those of a slice of the cases.
        items: A vector per item, float32 (n_items, d).
        k: Length of the lists.
        candidates: Whether an item may be recommended, shape (n_items,).
        seen: Whether items that the user had before the case are hidden.
        memory: Bytes for the scores; 16 MiB at the least. Catalogues of more than ``memory / 1024`` items are scored
            twice, as a target's score has to be known before its rivals are counted.
        progress: Is told of each case.

    Raises:
        DataError: If a score is not a number.
        SettingsError: If ``k`` is less than 1.
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
        state = RankedBlock(cases, block, candidates, seen == "hide", items[block], scores[block])
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
