"""Validation cases with the scores of all components in memory, to try weights on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from molar_retrieval.alignment.components import ScoreComponent, ScoredBlock, Weights, scored
from molar_retrieval.alignment.validation import ValidationCases, drawn, gains, ndcg, rank_block
from molar_retrieval.arrays import Matrix, Ranks, Rows

MOST_CASES = 10_000
_MOST_SCORES = 150_000_000
_FEWEST = 200
_ROUNDS = 2
_STEPS = (0.0, 0.5, 0.7, 1.4, 2.0)
_ENTRIES = (0.1, 0.3, 0.6, 1.0)
"""What a component without a weight may enter with, in spreads of its scores against those of the sum so far."""
_LEAST_GAIN = 3e-5


@dataclass(frozen=True, eq=False)
class ScoreCache:
    """Scores by component, case and item: of all validation cases (``complete``), or of a sample, in their order."""

    parts: int
    blocks: Sequence[ScoredBlock]
    complete: bool

    @classmethod
    def of(cls, cases: ValidationCases, parts: Mapping[str, ScoreComponent], random: np.random.Generator) -> Self:
        """As many of the cases as fit in memory, 10,000 at most."""
        most = max(_FEWEST, _MOST_SCORES // (len(parts) * max(1, len(cases.candidates))))
        numbers = drawn(len(cases), min(MOST_CASES, most), random)
        return cls(len(parts), list(scored(cases, parts, numbers)), len(numbers) == len(cases))

    def __len__(self) -> int:
        return sum(len(block.targets) for block in self.blocks)

    @property
    def width(self) -> int:
        """Scores of one case: components times items."""
        return max((block.scores[:, 0].size for block in self.blocks), default=1)

    @cached_property
    def spread(self) -> Weights:
        """Standard deviation of each component's scores within a case, the mean over cases."""
        deviations = [block.scores.std(axis=2) for block in self.blocks]
        if not deviations:
            return np.ones(self.parts)
        spread: Weights = np.concatenate(deviations, axis=1).mean(axis=1, dtype=np.float64) + 1e-12
        return spread

    def ranks(self, weights: Weights) -> Ranks:
        """Ranks of the targets under some weights, shape (cases,)."""
        return np.concatenate([np.zeros(0, np.int64), *(block.ranks(weights) for block in self.blocks)])

    def ndcg(self, weights: Weights) -> float:
        """NDCG@10 under some weights."""
        return ndcg(self.ranks(weights))

    def alternatives(self, numbers: Rows) -> tuple[list[Matrix], list[Rows]]:
        """What the cases of these numbers choose among, and what they chose, in the form that the logit reads.

        Cases whose target is hidden are left out.
        """
        tables, targets, begin = [], [], 0
        for block in self.blocks:
            rows = numbers[(numbers >= begin) & (numbers < begin + len(block.targets))] - begin
            begin += len(block.targets)
            rows = rows[~block.hidden[rows, block.targets[rows]]]
            table = np.moveaxis(block.scores[:, rows], 0, -1).copy()
            table[block.hidden[rows]] = np.nan
            tables.append(table)
            targets.append(block.targets[rows])
        return tables, targets

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
        total = np.zeros(len(values))
        others = np.where(np.arange(len(weights)) == part, 0, weights)
        for block in self.blocks:
            rest = block.sum(others)
            for number, value in enumerate(values):
                scores = rest + np.float32(value) * block.scores[part]
                total[number] += gains(rank_block(scores, block.hidden, block.targets)).sum()
        return [float(gained) / max(1, len(self)) for gained in total]
