"""The addends of a score, each able to score all items for all cases, and ranks under their weighted sums."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval.alignment.validation import ValidationCases, gains, rank_block
from molar_retrieval.experts.trend import Trend
from molar_retrieval.workspace.tensors import Mask, Matrix, Ranks, Rows, outside
from molar_retrieval.workspace.threads import each

Weights = npt.NDArray[np.float64]
"""One per component, shape (P,)."""
FIRST = 50
"""Items of each component that the logit chooses among: what ranks behind them all is in no list."""


class ScoreComponent(Protocol):
    """One addend of a score for C cases and all items."""

    def scores(self, cases: slice | Rows) -> Matrix:
        """Scores of a range or some numbers of the cases, shape (cases, n_items), in an array of the caller's own."""


@dataclass(frozen=True, eq=False)
class Dense:
    """Dot products of user vectors (C, d) with item vectors (n_items, d)."""

    users: Matrix
    items: Matrix

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`ScoreComponent`."""
        result: Matrix = self.users[cases] @ self.items.T
        return result


@dataclass(frozen=True, eq=False)
class Counted:
    """What histories (C, n_items) say by item-item weights (n_items, n_items), both sparse."""

    histories: csr_matrix
    weights: csr_matrix

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`ScoreComponent`."""
        result: Matrix = (self.histories[cases] @ self.weights).toarray()
        return result


@dataclass(frozen=True, eq=False)
class Momentary:
    """How popular items are at the moment of each case, shape (C,), in seconds."""

    trend: Trend
    times: Rows

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`ScoreComponent`."""
        return self.trend.log_scores(self.times[cases])


@dataclass(frozen=True, eq=False)
class Scored(ABC):
    """Some cases: scores (P, cases, n_items), and what the ranking leaves out (cases, n_items)."""

    scores: Matrix
    hidden: Mask

    def sum(self, weights: Weights) -> Matrix:
        """The weighted sum, shape (cases, n_items)."""
        total = np.zeros(self.hidden.shape, np.float32)
        for number in np.flatnonzero(weights):
            total += np.float32(weights[number]) * self.scores[number]
        return total

    @abstractmethod
    def gains(self, scores: Matrix) -> npt.NDArray[np.float64]:
        """NDCG@10 of each case by scores (cases, n_items), which are overwritten."""

    @abstractmethod
    def told(self) -> tuple[Matrix, Rows | csr_matrix]:
        """The cases in the form that the logit reads: scores of alternatives, NaN where there is none; what was taken.

        Cases are left out of which nothing that was taken is among the alternatives.
        """

    def alternatives(self) -> tuple[Rows, Matrix]:
        """The items that the cases choose among, shape (cases, A), -1 for none, and their scores, (P, cases, A).

        They are the first :data:`FIRST` of each component, but what it likes least of all. A logit stays consistent
        among any items that are chosen by what is known beforehand (McFadden 1978, Modelling the choice of residential
        location), as long as what was taken is one of them. Scores are NaN where there is no item.
        """
        found = np.sort(np.concatenate([_first(part, self.hidden) for part in self.scores], axis=1), axis=1)
        found[:, 1:][found[:, 1:] == found[:, :-1]] = -1
        table: Matrix = np.where(found < 0, np.float32(np.nan), self.scores[:, np.arange(len(found))[:, None], found])
        return found, table


def _first(scores: Matrix, hidden: Mask) -> Rows:
    """The items with the best of the scores (cases, n_items), shape (cases, FIRST); -1 for the worst and hidden."""
    count = min(FIRST, scores.shape[1])
    worst = np.where(hidden, np.float32(np.inf), scores).min(axis=1, initial=np.inf, keepdims=True)
    left = np.where(hidden, np.float32(-np.inf), scores)
    best = np.argpartition(left, scores.shape[1] - count, axis=1)[:, scores.shape[1] - count :]
    found: Rows = np.where(np.take_along_axis(left, best, axis=1) > worst, best, -1)
    return found


@dataclass(frozen=True, eq=False)
class ScoredBlock(Scored):
    """Cases of one item each, ``targets``, shape (cases,)."""

    targets: Rows

    def ranks(self, weights: Weights) -> Ranks:
        """Ranks of the targets under some weights, shape (cases,)."""
        return rank_block(self.sum(weights), self.hidden, self.targets)

    def gains(self, scores: Matrix) -> npt.NDArray[np.float64]:
        """See :class:`Scored`."""
        return gains(rank_block(scores, self.hidden, self.targets))

    def told(self) -> tuple[Matrix, Rows | csr_matrix]:
        """See :class:`Scored`."""
        found, table = self.alternatives()
        own = found == self.targets[:, None]
        there = own.any(axis=1)
        return table[:, there], own[there].argmax(axis=1)


def scored(
    cases: ValidationCases,
    parts: Mapping[str, ScoreComponent],
    numbers: Rows | None = None,
    folder: Path | None = None,
) -> Iterator[ScoredBlock]:
    """The cases, or those of some numbers, in their order, in blocks that are all held; scores lie in the folder."""
    chosen = cases if numbers is None else cases.select(numbers)

    def block_of(block: slice) -> ScoredBlock:
        found = _scored(chosen, block, parts, block if numbers is None else numbers[block])
        return found if folder is None else replace(found, scores=outside(found.scores, folder))

    return each(block_of, chosen.blocks())


def _scored(
    cases: ValidationCases, block: slice, parts: Mapping[str, ScoreComponent], numbers: slice | Rows
) -> ScoredBlock:
    """A block of cases, which have these ``numbers`` among those of the parts."""
    scores = np.stack([part.scores(numbers) for part in parts.values()])
    return ScoredBlock(scores, cases.hidden(block), cases.targets[block])


def ranked(
    cases: ValidationCases, parts: Mapping[str, ScoreComponent], weightings: Sequence[Mapping[str, float]]
) -> list[Ranks]:
    """Ranks of the C targets under each weighting, shape (C,) each; a component is computed once for all of them.

    A weighting leaves out a component that it does not name.
    """
    used = {name: part for name, part in parts.items() if any(weights.get(name) for weights in weightings)}
    rows = [np.array([weights.get(name, 0.0) for name in used]) for weights in weightings]
    if not used:
        used = dict(parts)
        rows = [np.zeros(len(used)) for _ in weightings]

    def ranks_of(block: slice) -> list[Ranks]:
        one = _scored(cases, block, used, block)
        return [one.ranks(row) for row in rows]

    found = list(each(ranks_of, cases.blocks()))
    nothing = [np.zeros(0, np.int64)]
    return [np.concatenate(nothing + [ranks[number] for ranks in found]) for number in range(len(weightings))]
