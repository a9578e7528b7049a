"""Statistics: clustered bootstrap-t, paired permutation tests, corrections, seeds, proportions.

Cases of one user resemble each other, so the unit that is drawn is the cluster (the user). The intervals are
bootstrap-t: each resample's distance from the estimate is divided by that resample's own standard error. Of the usual
bootstraps it alone keeps its nominal coverage for metrics that are nearly always zero, at the price of wider
intervals there; percentile and BCa intervals of a recall of .02 miss the truth in 7 to 10 % of samples
instead of 5.

If the two models were equally good, it would not matter which of a user's two scores is called whose: the sign of the
user's summed difference is a coin flip. The test compares the observed sum with those of random flips (Good 2005,
Permutation, Parametric, and Bootstrap Tests of Hypotheses; for retrieval Smucker, Allan and Carterette 2007,
doi:10.1145/1321440.1321528).

Cases count as independent. Where they are not (lists of one person), the intervals are somewhat too narrow.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from molar_retrieval.errors import DataError
from molar_retrieval.rng import generator

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating]
Clusters = npt.NDArray[np.generic]
"""The user of each case, by any values that can be compared."""
_BLOCK = 1 << 20
"""Most weights (resamples × clusters) that are held at a time."""
MOST_UNITS = 20_000
"""Most units that are drawn. More would cost time and change no interval that anybody could see."""
_NO_SPREAD = 1e-12
"""Share of the sample's variance below which a resample's variance is rounding noise."""


@dataclass(frozen=True)
class ConfidenceInterval:
    """An estimate with its confidence interval, in the unit of the values.

    ``high`` equals ``low`` where all clusters agree: nothing can be drawn that was never seen, so a metric that is 0
    for everyone has the interval [0, 0], which says nothing about how rare a hit is.
    """

    mean: float
    low: float
    high: float


def clustered_intervals(
    values: Numbers, clusters: Clusters, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[ConfidenceInterval]:
    """The means of several metrics over the same cases, values of shape (n, m), all from the same resamples.

    The mean over cases is a ratio of two sums over clusters (the user of each case), as these differ in their number of
    cases. Each interval lies within the range of its metric's values; ``level`` is its nominal coverage. Raises
    :class:`DataError` if there are no cases, or a value is not finite.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 12.5 (bootstrap-t); Cameron, Gelbach
    and Miller 2008, doi:10.1162/rest.90.3.414 (with clusters).
    """
    top = np.asarray(values, np.float64)
    found = _intervals(top, np.ones(len(top)), clusters, level, resamples, seed)
    return [
        ConfidenceInterval(i.mean, max(i.low, least), min(i.high, most))
        for i, least, most in zip(found, top.min(axis=0).tolist(), top.max(axis=0).tolist(), strict=True)
    ]


def clustered_ratio(
    top: Numbers, bottom: Numbers, clusters: Clusters, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> ConfidenceInterval:
    """``sum(top) / sum(bottom)`` with its interval: revenue per visit, self-normalised importance weights.

    Both have shape (n,); resamples with a zero denominator are left out. Raises :class:`DataError` if there are no
    cases, a value is not finite, or the denominator is negative or zero in all.
    """
    tops, bottoms = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    (found,) = _intervals(tops[:, None], bottoms, clusters, level, resamples, seed)
    return ConfidenceInterval(found.mean, max(found.low, 0.0) if (tops >= 0).all() else found.low, found.high)


def user_groups(n_users: int, seed: int) -> npt.NDArray[np.int64]:
    """The unit of each user, shape (n_users,): itself or, of more than ``MOST_UNITS``, a random group of whole users.

    Groups of independent users are independent themselves, so resampling them is as valid as resampling users.
    """
    users = np.arange(n_users)
    return users if n_users <= MOST_UNITS else generator(seed, "kpi", "groups").permutation(users) % MOST_UNITS


class UserRatios:
    """Ratios of sums over the rows of a log, with intervals for which whole users are drawn.

    Rows are summed by user first, which changes no interval and saves time.

    Args:
        user: The user of each row, shape (n,).
        n_users: How many users there are; some may have no row.
        resamples: Bootstrap samples.
        seed: Of the bootstrap, and of groups of users, see :func:`user_groups`.
    """

    def __init__(self, user: npt.NDArray[np.integer], n_users: int, *, resamples: int, seed: int) -> None:
        _, self._unit = np.unique(user_groups(n_users, seed)[user], return_inverse=True)
        self._units = np.arange(int(self._unit.max()) + 1)
        self._resamples, self._seed = resamples, seed

    def ratio(self, top: Floats, bottom: Floats, level: float) -> ConfidenceInterval:
        """``Σ top / Σ bottom``, arrays of shape (n,); raises what :func:`clustered_ratio` does."""
        tops, bottoms = (sums_by(self._unit, values, len(self._units)) for values in (top, bottom))
        return clustered_ratio(tops, bottoms, self._units, level=level, resamples=self._resamples, seed=self._seed)

    def mean(self, values: Floats, level: float) -> ConfidenceInterval:
        """The mean over the rows."""
        return self.ratio(values, np.ones(len(values)), level)


def cluster_sums(values: Numbers, codes: npt.NDArray[np.integer], n_clusters: int) -> Floats:
    """Sums per cluster: shape (n_clusters, m), from values (n, m) and the cluster number of each case."""
    return np.stack([sums_by(codes, column, n_clusters) for column in values.T], axis=1)


def sums_by(codes: npt.NDArray[np.integer], values: Numbers, size: int) -> Floats:
    """The sum of ``values`` (n,) for each of the ``size`` codes (n,)."""
    return np.bincount(codes, values, minlength=size).astype(np.float64)


def _intervals(
    top: Floats, bottom: Floats, clusters: Clusters, level: float, resamples: int, seed: int
) -> list[ConfidenceInterval]:
    """Bootstrap-t for the ratio of each column of ``top`` (n, m) to ``bottom`` (n,)."""
    if not len(top):
        raise DataError("there are no cases to average", "choose a split or a slice that has some")
    if not (np.isfinite(top).all() and np.isfinite(bottom).all()):
        raise DataError("a score is not a finite number", "leave out the cases for which it is not defined")
    if bottom.min() < 0 or bottom.sum() == 0:
        raise DataError("the denominator of a ratio is negative or zero", "divide by a quantity that is positive")
    names, codes = np.unique(clusters, return_inverse=True)
    n = np.bincount(codes, bottom).astype(np.float64)
    sums = cluster_sums(top, codes, len(names))
    mean = sums.sum(axis=0) / n.sum()
    # Residuals rather than sums: their squares do not cancel, and a resample's distance is a sum of them.
    residual = sums - mean * n[:, None]
    distance, variance = _resampled(residual, n, resamples, seed)
    spread = (residual**2).sum(axis=0) / n.sum() ** 2
    # A resample without spread (a rare hit was not drawn) is as uncertain as the least spread of the others.
    genuine = np.where(variance > _NO_SPREAD * spread, variance, np.inf)
    least = genuine.min(axis=0, initial=np.inf)
    studentised = distance / np.sqrt(np.maximum(variance, least))
    tail = (1 - level) / 2
    upper, lower = np.nanquantile(studentised, [1 - tail, tail], axis=0)
    error = np.sqrt(spread)
    return [
        ConfidenceInterval(*map(float, ends))
        for ends in zip(mean, mean - upper * error, mean - lower * error, strict=True)
    ]


def _resampled(residual: Floats, n: Floats, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Distance from the estimate and its linearised variance in each resample, both of shape (resamples, m)."""
    m = residual.shape[1]
    columns = np.concatenate([residual, residual**2, residual * n[:, None], n[:, None], n[:, None] ** 2], axis=1)
    distances, variances = [], []
    for weights in _weights(len(n), resamples, seed):
        drawn = weights @ columns
        total = np.where(drawn[:, -2:-1] > 0, drawn[:, -2:-1], np.nan)
        distance = drawn[:, :m] / total
        squares = drawn[:, m : 2 * m] - 2 * distance * drawn[:, 2 * m : 3 * m] + distance**2 * drawn[:, -1:]
        distances.append(distance)
        variances.append(np.maximum(squares, 0) / total**2)
    return np.concatenate(distances), np.concatenate(variances)


def _weights(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each cluster is drawn, in blocks of shape (some resamples, clusters)."""
    random = generator(seed, "bootstrap")
    rows = max(1, _BLOCK // clusters)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = random.integers(0, clusters, (size, clusters), dtype=np.uint32).astype(np.intp)
        drawn += np.arange(size)[:, None] * clusters
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)


Alternative = Literal["two-sided", "less"]
_ROUNDING = 1e-12
"""Share of the sum of magnitudes by which a flipped sum may miss the observed one and still count as equal."""
_RADEMACHER = 1 / (4 * float(ndtr(-np.sqrt(2))))


def paired_permutation(
    differences: Numbers,
    clusters: Clusters,
    *,
    alternative: Alternative = "two-sided",
    resamples: int = 10_000,
    seed: int = 0,
) -> Floats:
    """p-values for several metrics over the same cases, shape (m,), all from the same flips; see :func:`sign_flip`.

    ``differences`` are one model's scores minus the other's, shape (n, m); the alternative ``less`` asks only whether
    the first model is worse.
    """
    names, codes = np.unique(clusters, return_inverse=True)
    sums = cluster_sums(np.asarray(differences, np.float64), codes, len(names))
    return sign_flip(sums, alternative=alternative, resamples=resamples, seed=seed)


def sign_flip(
    sums: Floats, *, alternative: Alternative = "two-sided", resamples: int = 10_000, seed: int = 0
) -> Floats:
    """p-values of summed differences per cluster: ``(1 + hits) / (1 + resamples)``, exact where all flips can be tried.

    Where no flip reaches the observed sum, more flips would say how much smaller p is; instead it is bounded by
    ``3.18 (1 - Φ(z))``, z being the observed sum by its standard deviation under flips (Bentkus and Dzindzalieta 2015,
    doi:10.3150/14-BEJ603, theorem 1.1). The p-value stays valid, and remains useful after correcting for
    thousands of tests. ``sums`` have shape (clusters, m), the p-values (m,).
    """
    sums = sums[(sums != 0).any(axis=1)]
    exact = 2 ** min(len(sums), 62) <= resamples
    total = sums.sum(axis=0)
    observed = np.abs(total) if alternative == "two-sided" else -total
    reached = observed - _ROUNDING * np.abs(sums).sum(axis=0)
    hits = np.zeros(sums.shape[1])
    for flips in [_every_flip(len(sums))] if exact else _random_flips(len(sums), resamples, seed):
        flipped = 2 * (flips @ sums) - total
        hits += ((np.abs(flipped) if alternative == "two-sided" else flipped) >= reached).sum(axis=0)
    if exact:
        return np.asarray(hits / 2 ** len(sums))
    deviation = np.sqrt((sums**2).sum(axis=0))
    z = np.divide(observed, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    bound = _RADEMACHER * ndtr(-z) * (2 if alternative == "two-sided" else 1)
    p = (1 + hits) / (1 + resamples)
    return np.where(hits == 0, np.minimum(p, bound), p)


def _every_flip(clusters: int) -> Floats:
    return (np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1).astype(np.float64)


def _random_flips(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Zeros and ones in blocks of shape (some resamples, clusters)."""
    random = generator(seed, "permutation")
    rows = max(1, _BLOCK // clusters)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        packed = random.integers(0, 256, (size, -(-clusters // 8)), dtype=np.uint8)
        yield np.unpackbits(packed, axis=1, count=clusters).astype(np.float64)


def holm(p: npt.NDArray[np.floating]) -> Floats:
    """Adjusted p-values in the order of ``p``: rejecting those below α errs in any of them with probability α at most.

    ``p`` has every test that was looked at, the dull ones too. Source: Holm 1979, A simple sequentially rejective
    multiple test procedure, jstor:4615733.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


@dataclass(frozen=True, eq=False)
class SeedSpread:
    """Mean over seeds of each metric's mean over cases, shape (m,), and the standard deviation (n - 1) of several."""

    mean: Floats
    sd: Floats | None


def seed_spread(scores: Sequence[npt.NDArray[np.floating]]) -> SeedSpread:
    """Mean and standard deviation over seeds, each with per-case scores of shape (n, m).

    Seeds that were not scored on the same cases raise :class:`DataError`.
    """
    means = np.stack([np.mean(one, axis=0, dtype=np.float64) for one in _alike(scores)])
    return SeedSpread(means.mean(axis=0), means.std(axis=0, ddof=1) if len(means) > 1 else None)


def averaged(scores: Sequence[npt.NDArray[np.floating]]) -> Floats:
    """Each case's score averaged over seeds, for intervals and tests: shape (n, m) from several of the same shape.

    The cases stay the unit of the tests; how much seeds matter is what :func:`seed_spread` says, and what it raises.
    """
    first, *others = _alike(scores)
    total = first.astype(np.float64)
    for one in others:
        total += one
    return total / len(scores)


def _alike(scores: Sequence[npt.NDArray[np.floating]]) -> Sequence[npt.NDArray[np.floating]]:
    if len({one.shape for one in scores}) != 1:
        raise DataError("there are no seeds, or not all scored the same cases", "evaluate all seeds on one split")
    return scores


def share_interval(part: int, whole: int, *, level: float = 0.95) -> ConfidenceInterval | None:
    """The share ``part / whole`` with its score interval; None where ``whole`` is 0.

    Unlike the interval by the standard error it stays near its nominal ``level`` where few cases or none are hits.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if not 0 <= part <= whole:
        raise ValueError(f"{part} is no part of {whole}")
    if not whole:
        return None
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = part / whole, z * z / whole
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / whole + spread / (4 * whole))
    return ConfidenceInterval(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def difference_of_shares(
    one: tuple[int, int], other: tuple[int, int], *, level: float = 0.95
) -> ConfidenceInterval | None:
    """The share of ``one``, as (part, whole), minus that of ``other``, of independent cases; None without cases.

    Source: Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10.
    """
    a, b = share_interval(*one, level=level), share_interval(*other, level=level)
    if a is None or b is None:
        return None
    gap = a.mean - b.mean
    low = gap - math.hypot(a.mean - a.low, b.high - b.mean)
    return ConfidenceInterval(gap, low, gap + math.hypot(a.high - a.mean, b.mean - b.low))


def root(of: Callable[[float], float], low: float, high: float, within: float = 2e-12) -> float:
    """Where a continuous function is zero between two places at which its signs differ, by Brent's method."""
    from scipy.optimize import brentq  # takes as long to import as all else that a server reads of experiments

    return float(brentq(of, low, high, xtol=within))
