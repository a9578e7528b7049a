"""Count-based models of private statistics: what is computed from noised sums costs no more privacy."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from molar_retrieval.models import base
from molar_retrieval.models.content_knn import ContentKNN, compressed
from molar_retrieval.models.item_item import ItemItemWeights, reach, strongest
from molar_retrieval.models.popularity import Popularity
from molar_retrieval.privacy.statistics import POPULARITY, TRANSITIONS, DPStatistics
from molar_retrieval.workspace.tensors import Matrix

MEMORY = 0.8
"""What an interaction keeps of its weight per place from the end of a history, where pairs are read."""
DECAY, LAST = 0.7, 10
"""The same where content is read, and how many of the latest interactions count."""
WEIGHTS = {base.SEQUENTIAL: 0.04, base.CONTENT_KNN: 1.0, base.POPULARITY: 0.002}
LOOKS, LEAST_LOOKS, MOST_LOOKS = 2_000, 0.4, 4.0
"""What items look like counts for so many people per unit of noise against what was taken after what, within bounds."""
POPULAR = 0.05
"""Weight of popularity where nobody tells what is taken after what."""
_FEWEST = 2.0  # people that every item is taken to have had, beside what noise gives
_RIDGE = 0.03
_SPREAD = 1e-3  # of what is taken after an item against what its looks say, squared, a first guess
_UPPER = 0.2  # share of the items, the most popular ones, of which the spread is told


@dataclass(frozen=True, eq=False)
class PrivateModels:
    """What is taken after what, by pairs and by what items look like; what is popular; and their weights."""

    item_item: tuple[ItemItemWeights, ...]
    content_knn: ContentKNN
    popularity: Popularity
    weights: dict[str, float]


def private_models(
    released: DPStatistics, features: Matrix, neighbors: int = 200, told: DPStatistics | None = None
) -> PrivateModels:
    """Made of noised statistics and the conditioned content that they were released with, shape (n_items, f).

    Pairs keep the ``neighbors`` strongest of each item. Nothing is chosen by looking at people: settings and weights
    are fixed, by the noised number of people over the noise where they depend on it. Content transitions are read off
    ``told`` where fewer shops tell them than add to ``released``.
    """
    axes, counts, weights, targets = compressed(features), _counts(released), dict(WEIGHTS), None
    told = released if told is None else told
    if told.transitions.shape[1]:
        looks = np.clip(LOOKS * told.mechanism.sigma / max(told.people, 1.0), LEAST_LOOKS, MOST_LOOKS)
        targets = _transitions(told, _counts(told), axes) + np.float32(looks) * axes
    else:
        weights[base.POPULARITY] = POPULAR
    knn = ContentKNN(axes, DECAY, LAST, targets)
    sequence = ItemItemWeights(base.SEQUENTIAL, strongest(_pairs(released, counts), neighbors), MEMORY, reach(MEMORY))
    return PrivateModels((sequence,), knn, Popularity.of_counts(counts), weights)


def _counts(released: DPStatistics) -> Matrix:
    """How many had each item, above 0 by about what noise alone would give, shape (n_items,)."""
    above = np.float32(released.deviations[POPULARITY] / 2 + _FEWEST)
    counts: Matrix = np.maximum(released.popularity, 0) + above
    return counts


def _pairs(released: DPStatistics, counts: Matrix) -> csr_matrix:
    """Noised pairs, as a cosine by the noised counts; weights of popular items have a mean square of 1."""
    scale = diags_array(1 / np.sqrt(counts))
    weights = csr_matrix(scale @ released.pairs @ scale)
    squares = np.asarray(weights.power(2).sum(axis=1)).ravel() @ counts / counts.sum() / len(counts)
    return csr_matrix(weights / np.sqrt(squares)) if squares else weights


def _transitions(released: DPStatistics, counts: Matrix, axes: Matrix) -> Matrix:
    """What to compare a history's looks with for what is taken next, shape (n_items, d), rows of mean square 1.

    A ridge regression of the items that were taken on the features of what was taken before, whose noised sums are
    denoised first (:func:`_denoised`). Divided by the root of the counts, else popular items are everybody's next.
    """
    spread, rotation = np.linalg.eigh(((axes * counts[:, None]).T @ axes).astype(np.float64))
    spread = np.maximum(spread, np.finfo(np.float32).tiny)
    sums = _denoised(released.transitions @ rotation, axes @ rotation, counts, released.deviations[TRANSITIONS])
    solved = (sums / (spread + _RIDGE * spread.mean())) @ rotation.T / np.sqrt(counts)[:, None]
    length = np.sqrt((solved**2).sum(axis=1).mean())
    scaled: Matrix = (solved / max(length, np.finfo(np.float32).tiny)).astype(np.float32)
    return scaled


def _denoised(sums: Matrix, axes: Matrix, counts: Matrix, deviation: float) -> Matrix:
    """The posterior mean of noised sums (n_items, d), by empirical Bayes with two levels.

    What is taken after an item is first what items that look like it are taken after: a linear map of its features,
    fitted over all items, of which noise takes little. Its own difference to that counts as far as it stands out of the
    noise, more in popular items; how far differences go is read off the popular ones, by axis.
    """
    noise = deviation**2
    trust = counts**2 / (noise + _SPREAD * counts**2)
    gram = (axes * trust[:, None]).T @ axes
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram)
    expected = counts[:, None] * (axes @ np.linalg.solve(gram, (axes * (trust / counts)[:, None]).T @ sums))
    own = sums - expected
    popular = counts >= np.quantile(counts, 1 - _UPPER)
    variance = np.maximum((own[popular] ** 2 - noise).sum(axis=0), 0) / (counts[popular] ** 2).sum()
    signal = counts[:, None] ** 2 * variance
    denoised: Matrix = expected + own * signal / (signal + noise + np.finfo(np.float32).tiny)
    return denoised
