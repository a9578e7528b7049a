"""What is taken after what: pairs of contents that go together, whatever they look like.

Somebody who looks like u, the reading of a history that content neighbours make, takes what looks like x with the score
``uᵀ M x``. M is the ridge regression of all that was taken, and all that was not, on all pairs of such features: that
of Park and Chu 2009 (Pairwise preference regression for cold-start recommendation, RecSys), of what was taken itself in
place of preferences. As the moments of a product are products of moments, it has a closed form,

    M = (S + λI)⁻¹ C (A + μI)⁻¹

with S the mean of u uᵀ before each interaction, C that of u (x − x̄)ᵀ of the item taken, x̄ the mean of what is taken,
so that popularity is left to others, and A the mean of x xᵀ over the items. λ and μ are in units of the mean variance.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.encoders.fusion import unit
from molar_retrieval.experts.content_knn import ContentNeighbours
from molar_retrieval.experts.histories import known_items
from molar_retrieval.workspace.tensors import Matrix, Rows

Moments = npt.NDArray[np.float64]
_MOST = 100_000
_BLOCK = 4096
_HISTORIES = 1.0
_ITEMS = 0.1


def content_pairs(log: Interactions, neighbours: ContentNeighbours, seed: int = 0) -> Matrix | None:
    """M of at most 100,000 interactions of a log, shape (dim, dim); None where none comes after another.

    Items are regarded, and histories read, as ``neighbours`` do.
    """
    follows = np.ones(len(log), bool)
    follows[log.offsets[:-1][np.diff(log.offsets) > 0]] = False
    rows = np.flatnonzero(follows)
    if not len(rows):
        return None
    if len(rows) > _MOST:
        rows = np.sort(rng.generator(seed, "content pairs").choice(rows, _MOST, replace=False))
    items, dim = neighbours.items, neighbours.dim
    average = items[log.item[rows]].mean(axis=0)
    users, taken = np.zeros((dim, dim)), np.zeros((dim, dim))
    for begin in range(0, len(rows), _BLOCK):
        some = rows[begin : begin + _BLOCK]
        before = unit(_latest(log, some, neighbours.decay, neighbours.last) @ items)
        users += before.T @ before
        taken += before.T @ (items[log.item[some]] - average)
    known, alike = np.flatnonzero(known_items(log)), np.zeros((dim, dim))
    for begin in range(0, len(known), _BLOCK):
        own = items[known[begin : begin + _BLOCK]].astype(np.float64)
        alike += own.T @ own
    left = np.linalg.solve(_shrunk(users / len(rows), _HISTORIES), taken / len(rows))
    pairs: Matrix = np.linalg.solve(_shrunk(alike / len(known), _ITEMS), left.T).T.astype(np.float32)
    return pairs


def _latest(log: Interactions, rows: Rows, decay: float, last: int) -> csr_matrix:
    """What came before each of the rows of a log, as :func:`~molar_retrieval.experts.histories.decayed` has it."""
    first = np.maximum(log.offsets[log.user[rows]], rows - last)
    bounds = np.concatenate([[0], np.cumsum(rows - first)])
    places = np.arange(bounds[-1]) + np.repeat(first - bounds[:-1], rows - first)
    weights = np.power(decay, np.repeat(rows, rows - first) - 1 - places).astype(np.float32)
    return csr_matrix((weights, log.item[places], bounds), shape=(len(rows), log.n_items))


def _shrunk(moments: Moments, strength: float) -> Moments:
    """Second moments with so many times their mean variance more along each axis; any where all are 0."""
    variance = float(np.trace(moments)) / len(moments)
    return moments + (strength * variance or 1.0) * np.eye(len(moments))
