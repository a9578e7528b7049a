"""The addends of a score, each able to score all items for all validation cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix

from molar_retrieval.alignment.validation import Matrix, Ranks, Rows, ValidationCases, rank_block
from molar_retrieval.experts.trend import Trend


class ScoreComponent(Protocol):
    """One addend of a score for C cases and all items."""

    def scores(self, cases: slice | Rows) -> Matrix:
        """Scores of a range or some numbers of the cases, shape (cases, n_items), in an array of the caller's own."""
        ...


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
    """What histories (C, n_items) say of their items' partners (n_items, n_items), both sparse."""

    histories: csr_matrix
    partners: csr_matrix

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`ScoreComponent`."""
        result: Matrix = (self.histories[cases] @ self.partners).toarray()
        return result


@dataclass(frozen=True, eq=False)
class Momentary:
    """How popular items are at the moment of each case, shape (C,), in seconds."""

    trend: Trend
    times: Rows

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`ScoreComponent`."""
        return self.trend.log_scores(self.times[cases])


def ranked(
    cases: ValidationCases, parts: Mapping[str, ScoreComponent], weightings: Sequence[Mapping[str, float]]
) -> list[Ranks]:
    """Ranks of the cases' targets under each weighting of the parts; a part is computed once for all of them.

    Args:
        cases: C cases.
        parts: Addends of the score.
        weightings: By part; one without a weight is left out.

    Returns:
        Of each weighting, shape (C,).
    """
    used = {name: part for name, part in parts.items() if any(weights.get(name) for weights in weightings)}
    found: list[list[Ranks]] = [[] for _ in weightings]
    for block in cases.blocks():
        hidden, targets = cases.hidden(block), cases.targets[block]
        scores = {name: part.scores(block) for name, part in used.items()}
        for ranks, weights in zip(found, weightings, strict=True):
            total = np.zeros(hidden.shape, np.float32)
            for name, table in scores.items():
                if weights.get(name):
                    total += np.float32(weights[name]) * table
            ranks.append(rank_block(total, hidden, targets))
    return [np.concatenate(ranks) if ranks else np.zeros(0, np.int64) for ranks in found]
