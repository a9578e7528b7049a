"""The one place that reads people's histories for private statistics: sums, and the noise on them."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval.arrays import Mask, Matrix
from molar_retrieval.experts.content_knn import compressed
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.statistics.contributions import latest, pair_sums, popularity_sums, transition_sums
from molar_retrieval.statistics.mechanism import Mechanism
from molar_retrieval.statistics.noise import GRID, Whole, discrete_gaussian
from molar_retrieval.statistics.released import PAIRS, POPULARITY, TRANSITIONS, Released

SHARES = {POPULARITY: 0.05, TRANSITIONS: 0.45, PAIRS: 0.5}
"""How the square of a person's length is divided."""
THRESHOLD = 4.5
"""Pairs whose noised sum is so many standard deviations of the noise are kept."""
MOST = 20_000
"""Items of which pairs are released, those of the highest noised popularity: every two of them get noise."""
_EXACT = 2**20
_CELLS = 1 << 23


def release(log: InteractionLog, features: Matrix, mechanism: Mechanism, progress: Progress = SILENT) -> Released:
    """Noised sums over the people of a log: what they had, after what each item was taken, and pairs of items.

    A person's three vectors have together length 1 at most, whatever their history (:mod:`.contributions`), and the
    sums get one draw of Gaussian noise each with ``mechanism.sigma`` (:mod:`.noise`). Histories are read in order, so
    far as they are recent, with the strength of their kinds; nothing else that is computed depends on them.

    Args:
        log: Who took what.
        features: Conditioned content of all items, shape (n_items, f); public, so made without any log.
        mechanism: ε, δ and the noise for it.
        progress: Told of the steps.
    """
    log, axes = latest(log), compressed(features)
    radius = {name: radius_of(share, mechanism) for name, share in SHARES.items()}
    progress.start("private statistics", 3)
    counts = _noised(popularity_sums(log, radius[POPULARITY]), mechanism) / radius[POPULARITY]
    progress.advance()
    transitions = _noised(transition_sums(log, axes, radius[TRANSITIONS]), mechanism) / radius[TRANSITIONS]
    progress.advance()
    pairs = _pairs(log, _most(counts), radius[PAIRS], mechanism)
    progress.finish()
    deviations = {name: (GRID if mechanism.sigma else 0) / own for name, own in radius.items()}
    return Released(mechanism, counts.astype(np.float32), transitions.astype(np.float32), pairs, deviations, THRESHOLD)


def radius_of(share: float, mechanism: Mechanism) -> int:
    """How long a person's vector may be in whole numbers, where noise has a deviation of ``GRID``."""
    return int(GRID * share**0.5 / mechanism.sigma) if mechanism.sigma else _EXACT


def _noised(sums: Whole, mechanism: Mechanism) -> Whole:
    return sums + discrete_gaussian(sums.size).reshape(sums.shape) if mechanism.sigma else sums


def _most(counts: npt.NDArray[np.float64]) -> Mask:
    """Items of which pairs are released."""
    chosen = np.zeros(len(counts), bool)
    chosen[np.argsort(-counts, kind="stable")[:MOST]] = True
    return chosen


def _pairs(log: InteractionLog, chosen: Mask, radius: int, mechanism: Mechanism) -> csr_matrix:
    """Noised sums of pairs of the chosen items, of which those above the threshold stay; in the upper triangle.

    Noise is added to every pair, whether anybody had it or not, in blocks of rows.
    """
    items = np.flatnonzero(chosen)
    sums = pair_sums(log.select(chosen[log.item]), radius)[items][:, items]
    least = THRESHOLD * GRID if mechanism.sigma else 0
    rows, columns, values = [], [], []
    height = max(1, _CELLS // max(1, len(items)))
    for begin in range(0, len(items), height):
        block = _noised(sums[begin : begin + height, begin:].toarray(), mechanism)
        row, column = np.nonzero(np.triu(block > least, 1))
        rows.append(items[begin + row])
        columns.append(items[begin + column])
        values.append(block[row, column] / radius)
    shape = (log.n_items, log.n_items)
    found = [np.concatenate(part) if part else np.zeros(0, int) for part in (values, rows, columns)]
    return csr_matrix((found[0].astype(np.float32), (found[1], found[2])), shape=shape)
