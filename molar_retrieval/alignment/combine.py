"""How much each part of a score counts: chosen on validation, never worse there than any part alone.

The parts are scores in units of their own. There are two starts. One is a multinomial logit: the non-negative weights
under which ``softmax(Σ w · part)`` over all items gives what came next the highest likelihood, a convex problem in a
handful of numbers; where a trained tower is among the parts it is steadier than NDCG itself, which hangs on a few
hundred hits. The other is the best part alone, as counts make poor logits. From both, coordinate ascent climbs
NDCG@10, and the better end is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from molar_retrieval import rng
from molar_retrieval.alignment.parts import Part, weighted
from molar_retrieval.alignment.validation import Cases, Ranks, Rows, drawn, gains, ndcg, rank_block, ranks

FIT_CASES = 2000
ASCENT_CASES = 10_000
_FIT_SCORES = 80_000_000
_ASCENT_SCORES = 150_000_000
_FEWEST = 200
_RIDGE = 1e-4
_FLAT = 1e-6
"""Spread of a part that says nothing, against its largest score."""
_ROUNDS = 2
_STEPS = (0.0, 0.5, 0.7, 1.4, 2.0)
_ENTRIES = (0.1, 0.3, 0.6, 1.0)
"""What a part without a weight may enter with, in spreads of its scores against those of the sum so far."""
_LEAST_GAIN = 3e-5


@dataclass(frozen=True)
class Combination:
    """Weights of the parts, and how they rank the validation cases.

    Attributes:
        weights: By part; 0 leaves it out.
        ranks: Of the targets under these weights, shape (C,).
        alone: Of the targets by each part alone.
    """

    weights: Mapping[str, float]
    ranks: Ranks
    alone: Mapping[str, Ranks]


def combine(cases: Cases, parts: Mapping[str, Part], seed: int = 0) -> Combination:
    """Choose the weights of the parts.

    Args:
        cases: Validation cases; large numbers of them are sampled, the ranks that are returned are of all.
        parts: Addends of the score, at least one.
        seed: Of the sampling.
    """
    alone = {name: ranks(cases, part.scores) for name, part in parts.items()}
    best = max(alone, key=lambda name: ndcg(alone[name]))
    only = Combination({name: float(name == best) for name in parts}, alone[best], alone)
    if len(parts) == 1 or not any((rank <= len(cases.candidates)).any() for rank in alone.values()):
        return only
    random = rng.generator(seed, "combination")
    board = _Board.of(cases, parts, random)
    starts = [np.array(list(logit(cases, parts, random).values())), np.array(list(only.weights.values()))]
    ends = [board.ascended(start) for start in starts if start.any()]
    weights = dict(zip(parts, max(ends, key=board.ndcg).tolist(), strict=True))
    together = ranks(cases, lambda block: weighted(parts, weights, block))
    return Combination(weights, together, alone) if ndcg(together) > ndcg(alone[best]) else only


def logit(cases: Cases, parts: Mapping[str, Part], random: np.random.Generator) -> dict[str, float]:
    """The weights of the multinomial logit on a sample of the cases."""
    most = max(100, _FIT_SCORES // (len(parts) * max(1, len(cases.candidates))))
    numbers = drawn(len(cases), min(FIT_CASES, most), random)
    chosen = cases.select(numbers)
    tables, targets = [], []
    for block in chosen.blocks():
        hidden, rows = chosen.hidden(block), chosen.targets[block]
        right = ~hidden[np.arange(len(rows)), rows]
        scores = np.stack([part.scores(numbers[block]) for part in parts.values()], axis=-1)
        scores[hidden] = np.nan
        tables.append(scores[right])
        targets.append(rows[right])
    if not any(map(len, targets)):
        return dict.fromkeys(parts, 0.0)
    fitted = fit_logit(tables, targets)
    return dict(zip(parts, fitted.tolist(), strict=True))


def fit_logit(
    tables: Sequence[npt.NDArray[np.float32]], targets: Sequence[npt.NDArray[np.int64]]
) -> npt.NDArray[np.float64]:
    """Non-negative weights under which the targets are likeliest (McFadden 1974), with a slight ridge.

    Args:
        tables: Blocks of cases, at least one case in all: scores of the alternatives by each of P parts, shape (cases,
            alternatives, P), NaN where an alternative is not to be had.
        targets: Of each block: the alternative that was taken, shape (cases,).

    Returns:
        Shape (P,); 0 for a part that says the same of all alternatives.
    """
    missing = [np.isnan(table[:, :, 0]) for table in tables]
    size = np.max([np.nanmax(np.abs(table), axis=(0, 1), initial=0) for table in tables], axis=0)
    tables = [_centred(table, gone) for table, gone in zip(tables, missing, strict=True)]
    scale = np.sqrt(np.mean(np.concatenate([table.var(axis=1) for table in tables]), axis=0))
    scale[scale <= _FLAT * size] = np.inf
    for table in tables:
        table /= scale.astype(np.float32)
    count = sum(map(len, targets))

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        total, slope = _RIDGE * float(weights @ weights), 2 * _RIDGE * weights
        for table, target, gone in zip(tables, targets, missing, strict=True):
            rows = np.arange(len(target))
            logits = table @ weights.astype(np.float32)
            logits[gone] = -np.inf
            own, highest = logits[rows, target], logits.max(axis=1)
            likely = np.exp(logits - highest[:, None])
            sums = likely.sum(axis=1)
            total += float((np.log(sums) + highest - own).sum()) / count
            expected = np.einsum("ca,cap->p", likely / sums[:, None], table)
            slope = slope + (expected - table[rows, target].sum(axis=0)) / count
        return total, slope

    start = np.full(len(scale), 0.3)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(scale), options={"maxiter": 60})
    weights: npt.NDArray[np.float64] = found.x / scale
    return weights


def _centred(table: npt.NDArray[np.float32], missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Scores about their mean over the alternatives of a case, which changes no likelihood; 0 where missing."""
    table = np.where(missing[:, :, None], np.float32(0), table)
    mean = table.sum(axis=1, dtype=np.float64) / (~missing).sum(axis=1)[:, None]
    return np.where(missing[:, :, None], np.float32(0), table - mean[:, None].astype(np.float32))


class _Board:
    """Some cases with the scores of all parts in memory, to try weights on."""

    def __init__(self, blocks: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Rows]]) -> None:
        self._blocks = blocks
        self._count = sum(len(targets) for *_, targets in blocks)
        self._spread = np.mean(np.concatenate([scores.std(axis=2) for scores, *_ in blocks], axis=1), axis=1) + 1e-12

    @classmethod
    def of(cls, cases: Cases, parts: Mapping[str, Part], random: np.random.Generator) -> Self:
        """A sample of the cases that fits in memory."""
        most = max(_FEWEST, _ASCENT_SCORES // (len(parts) * max(1, len(cases.candidates))))
        numbers = drawn(len(cases), min(ASCENT_CASES, most), random)
        chosen = cases.select(numbers)
        tables = [np.stack([part.scores(numbers[block]) for part in parts.values()]) for block in chosen.blocks()]
        blocks = zip(tables, chosen.blocks(), strict=True)
        return cls([(table, chosen.hidden(block), chosen.targets[block]) for table, block in blocks])

    def ndcg(self, weights: npt.NDArray[np.float64]) -> float:
        """NDCG@10 under some weights, shape (P,)."""
        return self._sweep(weights, 0, [float(weights[0])])[0]

    def ascended(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Coordinate ascent, part by part; a step must gain more than chance rounding would."""
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

    def _values(self, weights: npt.NDArray[np.float64], part: int) -> list[float]:
        others = np.delete(weights * self._spread, part)
        if weights[part]:
            return [step * float(weights[part]) for step in _STEPS if step or others.any()]
        return [entry * float(others.max() / self._spread[part]) for entry in _ENTRIES] if others.any() else []

    def _sweep(self, weights: npt.NDArray[np.float64], part: int, values: Sequence[float]) -> list[float]:
        """NDCG@10 with each value as the weight of one part."""
        total = np.zeros(len(values))
        for scores, hidden, targets in self._blocks:
            rest = np.zeros_like(scores[0])
            for other in np.flatnonzero(weights):
                if other != part:
                    rest += np.float32(weights[other]) * scores[other]
            for number, value in enumerate(values):
                total[number] += gains(rank_block(rest + np.float32(value) * scores[part], hidden, targets)).sum()
        return [float(gained) / max(1, self._count) for gained in total]
