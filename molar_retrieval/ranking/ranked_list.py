"""A ranked list as columns, of which places are made where somebody looks at them one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass
from itertools import repeat
from math import isnan

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.candidates import Candidates
from molar_retrieval.ranking.query import LIFT, RERANK, RULES, Listing, ScoredItem

Array = npt.NDArray[Any]


ADDED_LATE = (LIFT, RERANK, RULES)
"""Addends of a score behind those of the store, in their order."""


@dataclass(frozen=True, eq=False)
class RankedList:
    """The list of one request, best first, with n places."""

    names: tuple[str, ...]  # of the addends: those of the store's parts, then :data:`LATER`
    rows: npt.NDArray[np.int64]  # of items, shape (n,)
    parts: Array  # the addends of the scores, shape (n, P + 3)
    lifted: npt.NDArray[np.bool_]  # of which :data:`LIFT` is told, shape (n,)
    by_score: npt.NDArray[np.int64]  # its place among the candidates by score alone, from 1, shape (n,)
    propensity: Array  # nan where it is not told, shape (n,)
    causes: Sequence[tuple[str, ...]] = ()  # of each place; none: no place has any
    notes: Sequence[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        found: Candidates,
        by_score: npt.NDArray[np.int64],
        boosts: Array | float = 0.0,
        causes: Sequence[tuple[str, ...]] = (),
        notes: Sequence[str] = (),
    ) -> "RankedList":
        """Candidates as they are listed; ``names`` are those of the store's parts.

        ``by_score`` counts from 0, ``boosts`` are what rules add, shape (n,).
        """
        later = np.empty((len(found), len(ADDED_LATE)))
        later[:, 0], later[:, 1], later[:, 2] = found.lift, found.moved, boosts
        later[~found.cold, 0] = 0.0
        parts = np.concatenate([found.parts, later], axis=1)
        return cls((*names, *ADDED_LATE), found.rows, parts, found.cold, by_score + 1, found.propensity, causes, notes)

    @property
    def scores(self) -> Array:
        """The sums, from the first addend to the last, shape (n,)."""
        scores: Array = np.add.accumulate(self.parts, axis=1)[:, -1]
        return scores

    def listing(self) -> Listing:
        """The same place by place."""
        names, places = self.names[: -len(ADDED_LATE)], []
        every = (self.rows, self.scores, self.parts, self.lifted, self.by_score, self.propensity)
        columns = zip(*(column.tolist() for column in every), self.causes or repeat(()), strict=False)
        for row, score, (*parts, lift, moved, ruled), lifted, place, chance, causes in columns:
            told = dict(zip(names, parts, strict=True))
            if lifted:
                told[LIFT] = lift
            if moved:
                told[RERANK] = moved
            if ruled:
                told[RULES] = ruled
            places.append(ScoredItem(row, score, told, place, causes, None if isnan(chance) else chance))
        return Listing(places, self.notes)
