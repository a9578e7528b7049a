"""Noised sums of several shops added up; the variances of their noise add up as well.

Each shop's promise is about what that shop tells, whatever others do. Who is in several is told of by each of them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from molar_retrieval.arrays import Matrix
from molar_retrieval.statistics.mechanism import Mechanism
from molar_retrieval.statistics.released import PAIRS, THRESHOLD, TRANSITIONS, Released


def together(own: Released, others: Sequence[tuple[Released, bool]]) -> tuple[Released, Released]:
    """A shop's statistics and others over the same items: popularity and pairs of all shops, and content transitions.

    Of each of the others is said whether it tells content in the same terms, as transitions can only be added up then.
    The second of the results is of the shops that tell them so, with their popularity; where nobody does, it is the
    first.
    """
    telling = [one for one, same in [(own, True), *others] if same and one.transitions.shape[1]]
    total = added([_without_transitions(one) for one in (own, *(one for one, _ in others))])
    return total, added(telling) if telling else total


def added(releases: Sequence[Released]) -> Released:
    """The sums of one release or several, over the same items and in the same terms; variances of noise add up.

    A pair is kept that is above the threshold in the sum, or in one of them.
    """
    sigma = sum(one.mechanism.sigma**2 for one in releases) ** 0.5
    epsilon, delta = (max(getattr(one.mechanism, name) for one in releases) for name in ("epsilon", "delta"))
    names = dict.fromkeys(name for one in releases for name in one.deviations)
    deviations = {name: sum(one.deviations.get(name, 0.0) ** 2 for one in releases) ** 0.5 for name in names}
    return Released(
        Mechanism(epsilon, delta, sigma),
        sum(one.people for one in releases),
        _sum([one.popularity for one in releases]),
        _sum([one.transitions for one in releases]),
        _pairs(releases, deviations.get(PAIRS, 0.0)),
        deviations,
        THRESHOLD,
    )


def _sum(arrays: Sequence[Matrix]) -> Matrix:
    total = np.zeros(arrays[0].shape)
    for one in arrays:
        total += one
    return total.astype(np.float32)


def _pairs(releases: Sequence[Released], deviation: float) -> csr_matrix:
    shape = releases[0].pairs.shape
    total, kept = csr_matrix(shape, dtype=np.float64), csr_matrix(shape, dtype=bool)
    for one in releases:
        total = total + one.pairs
        kept = kept + (one.pairs > THRESHOLD * one.deviations.get(PAIRS, 0.0))
    found = csr_matrix(total.multiply(kept + (total > THRESHOLD * deviation)), dtype=np.float32)
    found.sort_indices()
    return found


def _without_transitions(released: Released) -> Released:
    deviations = {name: own for name, own in released.deviations.items() if name != TRANSITIONS}
    return replace(released, transitions=np.zeros((released.n_items, 0), np.float32), deviations=deviations)
