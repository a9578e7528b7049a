"""Factors of who takes what together, of which a content vector has to guess as much as it can."""

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, eigsh

from molar_retrieval import rng
from molar_retrieval.experts.histories import binary
from molar_retrieval.interactions import InteractionLog

_FEWEST = 3
"""Items below which there is nothing to factorise."""


def consumed_together(
    log: InteractionLog, among: npt.NDArray[np.bool_], factors: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The leading factors of how often two different items were taken by the same people, per taking of either.

    The matrix ``D^-½ (XᵀX - diag) D^-½`` with X people × items and D its row sums is never made: only its products.

    Args:
        log: Training interactions.
        among: Items that take part, shape (n_items,).
        factors: How many.

    Returns:
        The items that share a taker with another one, shape (m,), and their factors, shape (m, at most ``factors``).
    """
    taken = binary(log)[:, np.flatnonzero(among)].astype(np.float64)
    own = np.asarray(taken.sum(axis=0)).ravel()
    together = np.asarray(taken.T @ (taken @ np.ones(taken.shape[1]))).ravel() - own
    kept = np.flatnonzero(together > 0)
    items = np.flatnonzero(among)[kept]
    if len(kept) < _FEWEST:
        return items[:0], np.zeros((0, 0), np.float32)
    taken, own, scale = taken[:, kept], own[kept], together[kept] ** -0.5

    def product(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        scaled = scale * vector.ravel()
        result: npt.NDArray[np.float64] = scale * (taken.T @ (taken @ scaled) - own * scaled)
        return result

    operator = LinearOperator((len(kept), len(kept)), matvec=product, dtype=np.float64)
    start = rng.generator(0, "co-consumption").random(len(kept))
    values, vectors = eigsh(operator, k=min(factors, len(kept) - 1), which="LA", v0=start)
    good = values > 0
    return items, np.asarray(vectors[:, good] * np.sqrt(values[good]), np.float32)
