"""Ranking metrics for one relevant item per case, averaged over cases.

A rank is a 1-based place; 0 means that the item was not in the list at all, which counts as a miss.
"""

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.integer]


def ndcg(ranks: Ranks, k: int) -> float:
    """NDCG@k: mean of ``1 / log2(1 + rank)`` where 1 ≤ rank ≤ k, else 0 (Järvelin and Kekäläinen 2002)."""
    return float(_gain(ranks, k, 1 / np.log2(1 + np.maximum(ranks, 1))).mean())


def recall(ranks: Ranks, k: int) -> float:
    """Recall@k, with one relevant item the same as the hit rate: share of cases with 1 ≤ rank ≤ k."""
    return float(_gain(ranks, k, np.ones(len(ranks))).mean())


def _gain(ranks: Ranks, k: int, gain: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.where((ranks >= 1) & (ranks <= k), gain, 0.0)
