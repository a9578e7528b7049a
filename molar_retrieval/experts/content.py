"""Content neighbours: what a history looks like; no other user's interactions are read."""

import numpy as np
import numpy.typing as npt

from molar_retrieval.experts.histories import decayed
from molar_retrieval.interactions.log import InteractionLog

GRID = tuple(
    {"last": last, "decay": decay}
    for last, decay in ((1, 1.0), (3, 0.7), (5, 0.8), (10, 0.8), (10, 1.0), (30, 0.9), (100, 0.97), (300, 1.0))
)
"""Ways to read a history, from its last item alone to all of it."""


def reading(log: InteractionLog, features: npt.NDArray[np.float32], decay: float, last: int) -> npt.NDArray[np.float32]:
    """The direction of the decayed mean of a history's content vectors, so that a dot product is a cosine.

    Args:
        log: Histories, oldest interaction first.
        features: Content vectors of all items, shape (n_items, f), rows of length 1 or 0.
        decay: Weight lost per place, in (0, 1].
        last: How many of the latest interactions count.

    Returns:
        Shape (n_users, f), rows of length 1, or 0 for a history without content.
    """
    means = decayed(log, decay, last) @ features
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0)
    return unit
