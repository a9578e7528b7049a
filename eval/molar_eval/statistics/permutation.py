"""Paired permutation tests between two models on the same cases, all cases of a user swapped together; many of them.

If the two models were equally good, it would not matter which of a user's two scores is called whose: the sign of the
user's summed difference is a coin flip. The test compares the observed sum with those of random flips (Good 2005,
Permutation, Parametric, and Bootstrap Tests of Hypotheses; for retrieval Smucker, Allan and Carterette 2007,
doi:10.1145/1321440.1321528).
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from molar_eval.statistics.bootstrap import Clusters, Floats, Numbers, cluster_sums
from molar_retrieval.rng import generator

Alternative = Literal["two-sided", "less"]
_BLOCK = 1 << 20
"""Most signs (resamples × clusters) that are held at a time."""
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
