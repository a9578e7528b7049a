"""How much each part of a score counts: chosen on validation, never worse there than any part alone.

The parts are scores in units of their own. There are two starts. One is a multinomial logit: the non-negative weights
under which ``softmax(Σ w · part)`` gives what came next the highest likelihood among the first items of each part, a
convex problem in a handful of numbers; it is steadier than NDCG itself, which hangs on a few hundred hits. What ranks
behind these is in no list, and would decide a logit over all items. The other is the best part alone. From both,
coordinate ascent climbs NDCG@10, and the better end is taken. Few cases tell little about a peak, so it is then drawn
towards the logit, the more the fewer there are. Last, backward elimination: a part goes without which the sum finds
more, by more than the standard error of the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.alignment.components import ScoreComponent, Scored, ScoredBlock, Weights, ranked
from molar_retrieval.alignment.score_cache import ScoreCache
from molar_retrieval.alignment.validation import ValidationCases, gains, ndcg
from molar_retrieval.workspace.tensors import Mask, Matrix, Ranks, Rows
from molar_retrieval.workspace.threads import each

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

    def beyond(self, errors: float) -> float:
        """What is more than so many standard errors."""
        return self.value - errors * self.error


@dataclass(frozen=True)
class Fusion:
    """Weights of the parts, and the ranks of the targets, shape (C,), under them and by each part ``alone``."""

    weights: Mapping[str, float]
    shares: Mapping[str, float]  # how far a part's scores spread, times its weight, against all; they add up to 1
    ranks: Ranks
    alone: Mapping[str, Ranks]
    dropped: Mapping[str, "Gain"]  # what the parts that were eliminated would have brought
    fallback: "Fusion | None" = None  # if this does not hold where it is to be used; None for the best part alone


def fuse(cases: ValidationCases, parts: Mapping[str, ScoreComponent], seed: int = 0, *, least: float = -1.0) -> Fusion:
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
    chosen: Fusion | None = None
    for weights, rank in [(single[best], alone[best]), *reversed(preferred)]:
        share = weights * cache.spread
        chosen = Fusion(
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
        part = min(tried, key=lambda one: tried[one][0].beyond(least))
        gain, lacking = tried[part]
        if gain.beyond(least) > 0:
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
