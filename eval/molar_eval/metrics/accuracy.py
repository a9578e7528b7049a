"""Accuracy of each case from the ranks of its targets.

All gains are binary: an item is a target or it is not. The figures are those of trec_eval (``recall``, ``ndcg_cut``,
``map_cut``, ``P``, ``success``) and of ranx under the same names.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from molar_retrieval.errors import SettingsError

Values = npt.NDArray[np.float32]
ACCURACY = ("recall", "ndcg", "mrr", "hit_rate", "precision", "map")
"""The metrics of this module, as they stand before ``@k``."""


def accuracy(ranks: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], cutoffs: Sequence[int]) -> dict[str, Values]:
    """Accuracy per case at each cutoff k: ``name@k`` → a value per case, shape (C,).

    ``ranks`` are those of the T targets, 0 for a miss, distinct within a case. With n targets in a case, of which those
    with ``1 ≤ rank ≤ k`` are hits:

    * ``recall@k``: hits / n.
    * ``ndcg@k``: sum over hits of 1 / log2(1 + rank), divided by that sum for the ranks 1 to min(k, n), the best
      possible (Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques").
    * ``mrr@k``: 1 / rank of the first hit, 0 without one (Voorhees 1999, "The TREC-8 question answering track report").
    * ``hit_rate@k``: 1 where there is a hit, else 0.
    * ``precision@k``: hits / k, also where fewer than k items could be listed.
    * ``map@k``: average precision, the sum over hits of the precision at their rank, divided by n, not by min(k, n)
      (Buckley and Voorhees 2000, "Evaluating evaluation measure stability"; ``map_cut`` of trec_eval).

    A case without targets scores 0 throughout. A cutoff less than 1 raises :class:`SettingsError`.
    """
    check_cutoffs(cutoffs)
    counts = np.diff(offsets)
    case = np.repeat(np.arange(len(counts)), counts)
    place = _places(ranks, case)
    n = np.maximum(counts, 1)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, max([*cutoffs, 1]) + 2)))])
    result: dict[str, Values] = {}
    for k in cutoffs:
        hit = (ranks >= 1) & (ranks <= k)
        at, r = case[hit], ranks[hit]
        hits = np.bincount(at, minlength=len(counts))
        first = np.zeros(len(counts))
        np.maximum.at(first, at, 1 / r)
        values = {
            "recall": hits / n,
            "ndcg": np.bincount(at, 1 / np.log2(1 + r), len(counts)) / ideal[np.minimum(k, n)],
            "mrr": first,
            "hit_rate": hits > 0,
            "precision": hits / k,
            "map": np.bincount(at, place[hit] / r, len(counts)) / n,
        }
        result |= {f"{name}@{k}": values[name].astype(np.float32) for name in ACCURACY}
    return result


def check_cutoffs(cutoffs: Sequence[int]) -> None:
    """Refuse cutoffs less than 1, which no list can have, with :class:`SettingsError`."""
    if wrong := [k for k in cutoffs if k < 1]:
        raise SettingsError(f"{wrong[0]} is no length of a list", "use cutoffs of at least 1")


def _places(ranks: npt.NDArray[np.int64], case: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many found targets of its case stand at or before each target; meaningless for misses, shape (T,)."""
    order = np.lexsort((np.where(ranks > 0, ranks, np.iinfo(np.int64).max), case))
    place = np.empty(len(ranks), np.int64)
    sorted_case = case[order]
    place[order] = np.arange(len(ranks)) - np.searchsorted(sorted_case, sorted_case) + 1
    return place
