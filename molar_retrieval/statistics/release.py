"""The one place that reads people's histories for private statistics: sums, and the noise on them."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval.arrays import Mask, Matrix
from molar_retrieval.experts.content_knn import compressed
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.statistics.contributions import latest, pair_sums, people_sum, popularity_sums, transition_sums
from molar_retrieval.statistics.mechanism import Mechanism
from molar_retrieval.statistics.noise import GRID, Whole, discrete_gaussian
from molar_retrieval.statistics.released import PAIRS, PEOPLE, POPULARITY, THRESHOLD, TRANSITIONS, Released

FIRST = {PEOPLE: 0.01, POPULARITY: 0.05}
"""Shares of the square of a person's length for what is released first …"""
TINY, FEW, MANY = {POPULARITY: 0.94}, {TRANSITIONS: 0.94}, {TRANSITIONS: 0.19, PAIRS: 0.75}
"""… and for the rest, by that: popularity again, where it does not stand out of the noise yet; else more."""
CLEAR = 2.0
"""Mean square of the noised counts, in variances of their noise, from which popularity stands out."""
FROM = 16_000
"""People per unit of noise from which there are pairs: of fewer, noise on every pair leaves next to nothing.

Content, which is public, has fewer numbers to be learned. Chosen on validation cases of MovieLens-1M.
"""
LOWEST = 2.0
"""Pairs that other shops add to are kept from so many standard deviations on at least, else nearly all would be."""
MOST = 20_000
"""Items of which pairs are released, those of the highest noised popularity: every two of them get noise."""
_EXACT = 2**20
_CELLS = 1 << 23


def release(
    log: InteractionLog, features: Matrix, mechanism: Mechanism, progress: Progress = SILENT, *, shops: int = 1
) -> Released:
    """Noised sums over the people of a log: how many there are, what they had, after what, and what went together.

    A person's vectors have together length 1 at most, whatever their history
    (:mod:`molar_retrieval.statistics.contributions`), and each sum gets noise for the share of that length that it has,
    by ``mechanism.sigma``. How the rest is shared out, and which items have pairs, is decided by what was released
    before: Gaussian releases of which later ones depend on the results of earlier ones take together what one of the
    whole length does (Dong, Roth, Su 2022, doi:10.1111/rssb.12454). Histories are read in order, with the strength of
    their kinds.

    Args:
        log: Who took what.
        features: Conditioned content of all items, shape (n_items, f); public, so made without any log.
        mechanism: ε, δ and the noise for it.
        progress: Told of the steps.
        shops: How many shops of about this size add up what they release; public. What is worth its noise in the sum
            is released then, and pairs are kept that are too weak in one shop alone.
    """
    log, axes = latest(log), compressed(features)
    progress.start("private statistics", 3)
    first = {name: radius_of(share, mechanism) for name, share in FIRST.items()}
    (people,) = (_noised(people_sum(log, first[PEOPLE]), mechanism) / first[PEOPLE]).tolist()
    counts = _noised(popularity_sums(log, first[POPULARITY]), mechanism) / first[POPULARITY]
    progress.advance()
    shares = divided(people, counts, mechanism, shops)
    radius = first | {name: radius_of(share, mechanism) for name, share in shares.items()}
    if POPULARITY in shares:
        again = _noised(popularity_sums(log, radius[POPULARITY]), mechanism) / radius[POPULARITY]
        one, other = first[POPULARITY] ** 2, radius[POPULARITY] ** 2
        counts, radius[POPULARITY] = (one * counts + other * again) / (one + other), (one + other) ** 0.5
    transitions = np.zeros((log.n_items, 0))
    if TRANSITIONS in shares:
        transitions = _noised(transition_sums(log, axes, radius[TRANSITIONS]), mechanism) / radius[TRANSITIONS]
    progress.advance()
    pairs = csr_matrix((log.n_items, log.n_items), dtype=np.float32)
    threshold = max(THRESHOLD / shops**0.5, min(THRESHOLD, LOWEST))
    if PAIRS in shares:
        pairs = _pairs(log, _most(counts), radius[PAIRS], mechanism, threshold)
    progress.finish()
    deviations = {name: (GRID if mechanism.sigma else 0) / own for name, own in radius.items()}
    arrays = counts.astype(np.float32), transitions.astype(np.float32), pairs
    return Released(mechanism, people, *arrays, deviations, threshold)


def radius_of(share: float, mechanism: Mechanism) -> int:
    """How long a person's vector may be in whole numbers, where noise has a deviation of ``GRID``."""
    return int(GRID * share**0.5 / mechanism.sigma) if mechanism.sigma else _EXACT


def divided(people: float, counts: npt.NDArray[np.float64], mechanism: Mechanism, shops: int = 1) -> dict[str, float]:
    """How the rest of a person's length is shared out where noised people and counts, (n_items,), are such.

    Sums of so many shops have as many times the people and counts, and noise by the root of that.
    """
    clear = 1 + (CLEAR - 1) / shops
    if mechanism.sigma and (counts**2).mean() < clear * mechanism.sigma**2 / FIRST[POPULARITY]:
        return TINY
    return MANY if people * shops**0.5 >= FROM * mechanism.sigma else FEW


def _noised(sums: Whole, mechanism: Mechanism) -> Whole:
    return sums + discrete_gaussian(sums.size).reshape(sums.shape) if mechanism.sigma else sums


def _most(counts: npt.NDArray[np.float64]) -> Mask:
    """Items of which pairs are released."""
    chosen = np.zeros(len(counts), bool)
    chosen[np.argsort(-counts, kind="stable")[:MOST]] = True
    return chosen


def _pairs(log: InteractionLog, chosen: Mask, radius: int, mechanism: Mechanism, threshold: float) -> csr_matrix:
    """Noised sums of pairs of the chosen items, of which those above the threshold stay.

    Noise is added to every pair, whether anybody had it or not, in blocks of rows.
    """
    items = np.flatnonzero(chosen)
    sums = pair_sums(log.select(chosen[log.item]), radius)[items][:, items]
    least = threshold * GRID if mechanism.sigma else 0
    rows, columns, values = [], [], []
    height = max(1, _CELLS // max(1, len(items)))
    for begin in range(0, len(items), height):
        block = _noised(sums[begin : begin + height].toarray(), mechanism)
        row, column = np.nonzero(block > least)
        other = begin + row != column
        row, column = row[other], column[other]
        rows.append(items[begin + row])
        columns.append(items[column])
        values.append(block[row, column] / radius)
    shape = (log.n_items, log.n_items)
    found = [np.concatenate(part) if part else np.zeros(0, int) for part in (values, rows, columns)]
    return csr_matrix((found[0].astype(np.float32), (found[1], found[2])), shape=shape)
