"""The addends of a score, each able to score all items for all cases, and ranks under their weighted sums."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval.alignment.validation import ValidationCases, drawn, gains, rank_block
from molar_retrieval.arrays import Mask, Matrix, Ranks, Rows
from molar_retrieval.experts.trend import Trend
from molar_retrieval.tensors import outside
from molar_retrieval.threads import each

Weights = npt.NDArray[np.float64]
"""One per component, shape (P,)."""
ALTERNATIVES = 20_000
"""Items beside the target that the logit chooses among."""


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

    @property
    @abstractmethod
    def widest(self) -> int:
        """How many items were taken in a case, at most."""

    @property
    def choices(self) -> int:
        """Alternatives of a case that is told: all items, or what was taken and some others where there are many."""
        return min(int(self.hidden.shape[1]), ALTERNATIVES + self.widest)

    @property
    def many(self) -> bool:
        """Whether there are more items than a case has alternatives."""
        return int(self.hidden.shape[1]) > ALTERNATIVES

    @abstractmethod
    def told(self, rows: Rows, random: np.random.Generator) -> tuple[Matrix, Rows | csr_matrix]:
        """Some cases in the form that the logit reads: scores of alternatives, NaN where hidden, and what was taken."""

    def among_all(self, rows: Rows) -> Matrix:
        """The scores of all items, NaN where hidden."""
        table: Matrix = np.where(self.hidden[rows], np.float32(np.nan), self.scores[:, rows])
        return table

    def among_drawn(self, rows: Rows, own: Rows, sizes: Rows, random: np.random.Generator) -> Matrix:
        """The scores of what was taken, and of :data:`ALTERNATIVES` others, drawn at random; NaN where hidden.

        Among these the logit stays consistent (McFadden 1978, Modelling the choice of residential location). What some
        cases took, ``own``, has shape (cases, widest), of which the first ``sizes`` count; all else there is NaN too.
        """
        others = drawn(self.hidden.shape[1], ALTERNATIVES, random)
        columns = np.column_stack([own, np.broadcast_to(others, (len(rows), len(others)))])
        gone, width = self.hidden[rows[:, None], columns], own.shape[1]
        gone[:, :width] |= np.arange(width) >= sizes[:, None]
        for case, size in enumerate(sizes.tolist()):
            gone[case, width:] |= np.isin(others, own[case, :size])
        table: Matrix = np.where(gone, np.float32(np.nan), self.scores[:, rows[:, None], columns])
        return table


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

    @property
    def widest(self) -> int:
        """See :class:`Scored`."""
        return 1

    def told(self, rows: Rows, random: np.random.Generator) -> tuple[Matrix, Rows | csr_matrix]:
        """See :class:`Scored`; cases whose target is hidden are left out."""
        rows = rows[~self.hidden[rows, self.targets[rows]]]
        targets = self.targets[rows]
        if not self.many:
            return self.among_all(rows), targets
        one = np.ones(len(rows), np.int64)
        return self.among_drawn(rows, targets[:, None], one, random), np.zeros(len(rows), np.int64)


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
