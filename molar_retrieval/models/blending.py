"""Ensemble weights: how much each score component counts, by validation, never worse there than any one alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.models.popularity import Popularity
from molar_retrieval.models.validation import ValidationCases, drawn, gains, ndcg, rank_block
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
class PopularityAt:
    """How popular items are at the moment of each case, shape (C,), in seconds."""

    popularity: Popularity
    times: Rows

    def scores(self, cases: slice | Rows) -> Matrix:
        """See :class:`ScoreComponent`."""
        return self.popularity.log_scores(self.times[cases])


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


_STEADY = 1000
"""Validation cases at which logit and ascent count half each."""
ENOUGH = 1000
"""Validation cases from which a part may be dropped."""
_RIDGE = 1e-4
_FLAT = 1e-6
"""Spread of a part that says nothing, against its largest score."""


@dataclass(frozen=True)
class Gain:
    """NDCG@10 with a part less that without it, and the standard error of this difference."""

    value: float
    error: float

    @classmethod
    def of(cls, having: Ranks, lacking: Ranks) -> Self:
        """By the ranks of the same targets, shape (C,), with the part and without."""
        gained = gains(having) - gains(lacking)
        return cls(float(gained.mean()), float(gained.std()) / max(1, len(gained)) ** 0.5)

    def lower_bound(self, errors: float) -> float:
        """What is more than so many standard errors."""
        return self.value - errors * self.error


@dataclass(frozen=True)
class EnsembleWeights:
    """Weights of the parts, and the ranks of the targets, shape (C,), under them and by each part ``alone``."""

    weights: Mapping[str, float]
    shares: Mapping[str, float]  # how far a part's scores spread, times its weight, against all; they add up to 1
    ranks: Ranks
    alone: Mapping[str, Ranks]
    dropped: Mapping[str, "Gain"]  # what the parts that were eliminated would have brought
    fallback: "EnsembleWeights | None" = (
        None  # if this does not hold where it is to be used; None for the best part alone
    )


def blend(
    cases: ValidationCases, parts: Mapping[str, ScoreComponent], seed: int = 0, *, least: float = -1.0
) -> EnsembleWeights:
    """The weights to prefer; behind them, as fallbacks, the peak of the ascent and the best part alone.

    Large numbers of cases are sampled; the ranks that are returned are of all. A part must gain more than ``least``
    times the standard error of its gain to stay.
    """
    random = rng.generator(seed, "combination")
    cache = ScoreCache.of(cases, parts, random)

    def judged(*weightings: Weights) -> list[Ranks]:
        if cache.complete:
            return [cache.ranks(weights) for weights in weightings]
        return ranked(cases, parts, [dict(zip(parts, weights.tolist(), strict=True)) for weights in weightings])

    single = np.eye(len(parts))
    alone = judged(*single)
    best = int(np.argmax([ndcg(rank) for rank in alone]))
    preferred: list[tuple[Weights, Ranks]] = []
    dropped: dict[int, Gain] = {}
    if len(parts) > 1 and any((rank <= len(cases.candidates)).any() for rank in alone):
        drawn_in, peak = found_by(cache, single[best], len(cases))
        drawn_in, dropped = _eliminated(drawn_in, cache, least)
        found = zip((drawn_in, peak), judged(drawn_in, peak), strict=True)
        preferred = [(weights, rank) for weights, rank in found if ndcg(rank) > ndcg(alone[best])]
    chosen: EnsembleWeights | None = None
    for weights, rank in [(single[best], alone[best]), *reversed(preferred)]:
        share = weights * cache.spread
        chosen = EnsembleWeights(
            weights=dict(zip(parts, weights.tolist(), strict=True)),
            shares=dict(zip(parts, (share / max(share.sum(), 1e-12)).tolist(), strict=True)),
            ranks=rank,
            alone=dict(zip(parts, alone, strict=True)),
            dropped={name: dropped[part] for part, name in enumerate(parts) if part in dropped and not weights[part]},
            fallback=chosen,
        )
    assert chosen is not None
    return chosen


def found_by(cache: ScoreCache[Scored], best: Weights, cases: int) -> tuple[Weights, Weights]:
    """The weights to prefer, and the peak of the ascent; ``best`` are those of the best part alone."""
    steady = logit(cache)
    peak = max((cache.ascended(start) for start in (steady, best) if start.any()), key=cache.ndcg)
    return _drawn_towards(steady, peak, cache.spread, _STEADY / (_STEADY + cases)), peak


def _eliminated(weights: Weights, cache: ScoreCache[ScoredBlock], least: float) -> tuple[Weights, dict[int, Gain]]:
    """The weights without the parts that bring too little, one by one, that of least promise first; and what these did.

    One part always stays, and all of them where there are few cases.
    """
    dropped: dict[int, Gain] = {}
    while len(cache) >= ENOUGH and np.count_nonzero(weights) > 1:
        having, tried = cache.ranks(weights), {}
        for part in np.flatnonzero(weights).tolist():
            lacking = np.where(np.arange(len(weights)) == part, 0.0, weights)
            tried[part] = Gain.of(having, cache.ranks(lacking)), lacking
        part = min(tried, key=lambda one: tried[one][0].lower_bound(least))
        gain, lacking = tried[part]
        if gain.lower_bound(least) > 0:
            break
        dropped[part], weights = gain, lacking
    return weights, dropped


def _drawn_towards(steady: Weights, peak: Weights, spread: Weights, share: float) -> Weights:
    """A mean of two weightings that spread the scores alike; the peak alone where the other says nothing."""
    if not steady.any():
        return peak
    mean: Weights = share * steady / (steady @ spread) + (1 - share) * peak / (peak @ spread)
    return mean


def logit(cache: ScoreCache[Scored]) -> Weights:
    """The weights of the multinomial logit on the cached cases; zeros where no part has a target among its first."""
    tables, targets = cache.told()
    return fit_logit(tables, targets) if any(table.shape[1] for table in tables) else np.zeros(cache.parts)


def fit_logit(tables: Sequence[Matrix], targets: Sequence[Rows | csr_matrix]) -> npt.NDArray[np.float64]:
    """Non-negative weights (P,) under which the targets are likeliest (McFadden 1974), with a slight ridge.

    A block of cases has scores (P, cases, alternatives), NaN where an alternative is not to be had, and what was taken
    of them, (cases,), or where that was several, the share of each, (cases, alternatives), whose mean counts. There is
    at least one case in all. The weight of a part that says the same of all is 0.
    """
    missing = [np.isnan(table[0]) for table in tables]
    size = np.max([np.nanmax(np.abs(table), axis=(1, 2), initial=0) for table in tables], axis=0)
    tables = [_centred(table, gone) for table, gone in zip(tables, missing, strict=True)]
    scale = np.sqrt(np.mean(np.concatenate([table.var(axis=2) for table in tables], axis=1), axis=1))
    scale[scale <= _FLAT * size] = np.inf
    for table in tables:
        table /= scale.astype(np.float32)[:, None, None]
    count = sum(table.shape[1] for table in tables)
    taken = [_taken(table, target).sum(axis=1) for table, target in zip(tables, targets, strict=True)]

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        def of_block(number: int) -> tuple[float, npt.NDArray[np.float64]]:
            table, gone = tables[number], missing[number]
            flat = table.reshape(len(table), -1)
            logits = (weights.astype(np.float32) @ flat).reshape(gone.shape)
            logits[gone] = -np.inf
            own, highest = _taken(logits, targets[number]), logits.max(axis=1)
            likely = np.exp(logits - highest[:, None])
            sums = likely.sum(axis=1)
            likely /= sums[:, None]
            unlikely = float((np.log(sums) + highest - own).sum())
            return unlikely / count, (flat @ likely.reshape(-1) - taken[number]) / count

        total, slope = _RIDGE * float(weights @ weights), 2 * _RIDGE * weights
        for unlikely, own_slope in each(of_block, range(len(tables))):
            total, slope = total + unlikely, slope + own_slope
        return total, slope

    start = np.full(len(scale), 0.3)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(scale), options={"maxiter": 60})
    weights: npt.NDArray[np.float64] = found.x / scale
    return weights


def _taken(values: Matrix, target: Rows | csr_matrix) -> Matrix:
    """What was taken has of the values (…, cases, alternatives): the mean where it was several."""
    if isinstance(target, np.ndarray):
        own: Matrix = values[..., np.arange(len(target)), target]
        return own
    cases = np.repeat(np.arange(target.shape[0]), np.diff(target.indptr))
    shares = csr_matrix((target.data, np.arange(target.nnz), target.indptr), shape=(target.shape[0], target.nnz))
    mean: Matrix = (shares @ values[..., cases, target.indices].T).T
    return mean


def _centred(table: Matrix, missing: Mask) -> Matrix:
    """Scores about their mean over the alternatives of a case, which changes no likelihood; 0 where missing."""
    centred = np.where(missing, np.float32(0), table)
    centred -= (centred.sum(axis=2, dtype=np.float64) / (~missing).sum(axis=1)).astype(np.float32)[:, :, None]
    centred *= ~missing
    return centred
