"""Co-occurrence with decay: what is taken soon after, or soon before and after, what; counted, not trained."""

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from molar_retrieval.interactions.log import InteractionLog


def followers(log: InteractionLog, window: int, decay: float) -> csr_matrix:
    """How often item j came after item i, ``decay ** (distance - 1)`` each time, shape (n_items, n_items), float32.

    Args:
        log: Histories, oldest interaction first.
        window: Largest distance, in places.
        decay: Weight lost per place of distance.
    """
    shape = (log.n_items, log.n_items)
    user = log.user
    total = csr_matrix(shape, dtype=np.float32)
    for distance in range(1, min(window, len(log) - 1) + 1):
        same = user[distance:] == user[:-distance]
        pairs = log.item[:-distance][same], log.item[distance:][same]
        values = np.full(len(pairs[0]), decay ** (distance - 1), np.float32)
        total = total + csr_matrix((values, pairs), shape=shape)
    return total


def cooccurrence(log: InteractionLog, followed: csr_matrix, shrink: float, ordered: bool) -> csr_matrix:
    """``F_ij / √((n_i + shrink) (n_j + shrink))``, n being the items' counts: a shrunk cosine of what follows what.

    Args:
        log: Whose items are counted.
        followed: Of :func:`followers` for the same log; apart from this function because settings share it.
        shrink: Interactions added to every count, so that rare items do not win by one coincidence; > 0.
        ordered: Whether only what came after i counts for i; otherwise F is ``followed + followedᵀ``.

    Returns:
        Shape (n_items, n_items), float32; row i holds the weights of all items after item i.
    """
    counts = np.bincount(log.item, minlength=log.n_items)
    scale = diags_array((1 / np.sqrt(counts + shrink)).astype(np.float32))
    return csr_matrix(scale @ (followed if ordered else followed + followed.T) @ scale)
