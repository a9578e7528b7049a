"""Experts made of private statistics: whatever is computed from noised sums and public features costs no privacy."""

from dataclasses import dataclass
from math import inf

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from molar_retrieval.arrays import Matrix
from molar_retrieval.experts.content_knn import ContentNeighbours, compressed
from molar_retrieval.experts.fit import CONTENT, LINEAR, SEQUENCE, TREND
from molar_retrieval.experts.histories import reach
from molar_retrieval.experts.item_item import ItemItemWeights, strongest
from molar_retrieval.experts.trend import Trend
from molar_retrieval.statistics.released import POPULARITY, TRANSITIONS, Released

MEMORY = 0.8
"""How much of its weight an interaction keeps per place from the end of a history."""
NEIGHBOURS = {"decay": 0.8, "last": 10}
WEIGHTS = {SEQUENCE: 1.0, LINEAR: 1.0, CONTENT: 0.1, TREND: 0.1}
_PRIOR = 2.0
_RIDGE = 0.03


@dataclass(frozen=True, eq=False)
class PrivateExperts:
    """What is taken near to what, by pairs and by content; what looks alike; what is popular; and their weights."""

    item_item: tuple[ItemItemWeights, ...]
    content_knn: ContentNeighbours
    trend: Trend
    weights: dict[str, float]


def experts_of(released: Released, features: Matrix, partners: int = 200) -> PrivateExperts:
    """Made of noised statistics and the conditioned content that they were released with, shape (n_items, f).

    Item-item weights keep the ``partners`` strongest of each item. Nothing is chosen by looking at people.
    """
    axes, counts = compressed(features), _counts(released)
    weights = {
        SEQUENCE: strongest(_pairs(released, counts), partners),
        LINEAR: strongest(_transitions(released, counts, axes), partners),
    }
    item_item = tuple(ItemItemWeights(name, matrix, MEMORY, reach(MEMORY)) for name, matrix in weights.items())
    knn = ContentNeighbours(axes, float(NEIGHBOURS["decay"]), int(NEIGHBOURS["last"]))
    return PrivateExperts(item_item, knn, _trend(counts), dict(WEIGHTS))


def _counts(released: Released) -> Matrix:
    """How many had each item, above 0 by at least what noise alone would give, shape (n_items,)."""
    counts: Matrix = np.maximum(released.popularity, 0) + np.float32(released.deviations[POPULARITY] + _PRIOR)
    return counts


def _pairs(released: Released, counts: Matrix) -> csr_matrix:
    """Noised pairs, as a cosine by the noised counts."""
    scale = diags_array(1 / np.sqrt(counts))
    return csr_matrix(scale @ (released.pairs + released.pairs.T) @ scale)


def _transitions(released: Released, counts: Matrix, axes: Matrix) -> Matrix:
    """What an item's looks say of what is taken after it, shape (n_items, n_items).

    A ridge regression of the items that were taken on the features of what was taken before. Each axis loses the share
    of its variance that is noise (Wiener's filter).
    """
    spread, rotation = np.linalg.eigh((axes * counts[:, None]).T @ axes)
    along = released.transitions @ rotation
    noise = released.deviations[TRANSITIONS] ** 2
    variance = (along**2).mean(axis=0)
    kept = np.maximum(variance - noise, 0) / np.maximum(variance, np.finfo(np.float32).tiny)
    solved = (along * (kept / (spread + _RIDGE * spread.mean()))) @ rotation.T
    scale = counts[:, None] ** -0.25
    weights: Matrix = (axes * scale) @ (solved * scale).T
    return weights


def _trend(counts: Matrix) -> Trend:
    items = np.arange(len(counts), dtype=np.int32)
    return Trend(np.zeros(len(counts), np.int64), items, len(counts), inf, True, counts)
