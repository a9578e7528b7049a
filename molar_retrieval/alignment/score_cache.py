"""Validation cases with the scores of all components at hand, to try weights on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval.alignment.components import ScoreComponent, Scored, ScoredBlock, Weights, scored
from molar_retrieval.alignment.validation import ValidationCases, drawn
from molar_retrieval.workspace.tensors import Matrix, Ranks, Rows
from molar_retrieval.workspace.threads import each

MOST_CASES = 10_000
_MOST_SCORES = 150_000_000
_FEWEST = 200
_ROUNDS = 2
_STEPS = (0.0, 0.5, 0.7, 1.4, 2.0)
_ENTRIES = (0.1, 0.3, 0.6, 1.0)
"""What a component without a weight may enter with, in spreads of its scores against those of the sum so far."""
_LEAST_GAIN = 3e-5


def most_cases(parts: int, items: int) -> int:
    """How many cases fit in memory with the scores of so many components for so many items, 10,000 at most.

    They are 200 at least, of which the scores lie in a folder where they do not fit, see :func:`placed`.
    """
    return min(MOST_CASES, max(_FEWEST, _MOST_SCORES // (parts * max(1, items))))


def placed(folder: Path | None, scores: int) -> Path | None:
    """Where so many scores lie: in the folder if they do not fit in memory, None in memory."""
    return folder if scores > _MOST_SCORES else None


Block = TypeVar("Block", bound=Scored, covariant=True)


@dataclass(frozen=True, eq=False)
class ScoreCache(Generic[Block]):
    """Scores by component, case and item: of all validation cases (``complete``), or of a sample, in their order."""

    parts: int
    blocks: Sequence[Block]
    complete: bool

    @staticmethod
    def of(
        cases: ValidationCases, parts: Mapping[str, ScoreComponent], random: np.random.Generator
    ) -> "ScoreCache[ScoredBlock]":
        """As many of the cases as :func:`most_cases` says."""
        most = most_cases(len(parts), len(cases.candidates))
        numbers = drawn(len(cases), most, random)
        folder = placed(cases.folder, len(parts) * len(numbers) * len(cases.candidates))
        return ScoreCache(len(parts), list(scored(cases, parts, numbers, folder)), len(numbers) == len(cases))

    def __len__(self) -> int:
        return sum(len(block.hidden) for block in self.blocks)

    @cached_property
    def spread(self) -> Weights:
        """Standard deviation of each component's scores within a case, the mean over cases."""
        deviations = list(each(_deviations, self.blocks))
        if not deviations:
            return np.ones(self.parts)
        spread: Weights = np.concatenate(deviations, axis=1).mean(axis=1, dtype=np.float64) + 1e-12
        return spread

    def ranks(self: "ScoreCache[ScoredBlock]", weights: Weights) -> Ranks:
        """Ranks of the targets under some weights, shape (cases,)."""
        return np.concatenate([np.zeros(0, np.int64), *each(lambda block: block.ranks(weights), self.blocks)])

    def ndcg(self, weights: Weights) -> float:
        """NDCG@10 under some weights."""

        def gained(block: Scored) -> float:
            return float(block.gains(block.sum(weights)).sum())

        return sum(each(gained, self.blocks)) / max(1, len(self))

    def told(self) -> tuple[list[Matrix], list[Rows | csr_matrix]]:
        """What the cases choose among, and what they chose, in the form that the logit reads, by block."""

        def of_block(block: Scored) -> tuple[Matrix, Rows | csr_matrix]:
            return block.told()

        told = list(each(of_block, self.blocks))
        return [table for table, _ in told], [taken for _, taken in told]

    def ascended(self, weights: Weights) -> Weights:
        """Coordinate ascent, component by component; a step must gain more than chance rounding would."""
        weights, best = weights.copy(), self.ndcg(weights)
        for _ in range(_ROUNDS):
            before = best
            for part in range(len(weights)):
                values = self._values(weights, part)
                tried = self._sweep(weights, part, values)
                if values and max(tried) > best + _LEAST_GAIN:
                    best = max(tried)
                    weights[part] = values[int(np.argmax(tried))]
            if best == before:
                break
        return weights

    def _values(self, weights: Weights, part: int) -> list[float]:
        others = np.delete(weights * self.spread, part)
        if weights[part]:
            return [step * float(weights[part]) for step in _STEPS if step or others.any()]
        return [entry * float(others.max() / self.spread[part]) for entry in _ENTRIES] if others.any() else []

    def _sweep(self, weights: Weights, part: int, values: Sequence[float]) -> list[float]:
        """NDCG@10 with each value as the weight of one component."""
        others = np.where(np.arange(len(weights)) == part, 0, weights)

        def gained(block: Scored) -> npt.NDArray[np.float64]:
            rest = block.sum(others)
            return np.array([block.gains(rest + np.float32(one) * block.scores[part]).sum() for one in values])

        total = sum(each(gained, self.blocks), np.zeros(len(values)))
        return [float(one) / max(1, len(self)) for one in total]


def _deviations(block: Scored) -> Matrix:
    found: Matrix = block.scores.std(axis=2)
    return found
