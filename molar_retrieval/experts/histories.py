"""Histories as sparse matrices, the form in which experts read them."""

import numpy as np
from scipy.sparse import csr_matrix

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.fading import faded
from molar_retrieval.workspace.tensors import Mask

_NEGLIGIBLE = 1e-6
LONGEST = 20_000
"""Interactions of one user whose pairs are counted; who has more is no person."""
PAIRS = 100_000_000_000
"""Pairs of interactions of one user that are counted in all, some minutes of work."""


def known_items(log: Interactions) -> Mask:
    """Whether an item occurs in the log, shape (n_items,)."""
    known = np.zeros(log.n_items, bool)
    known[log.item] = True
    return known


def binary(log: Interactions) -> csr_matrix:
    """Users × items, 1 for every pair that occurs, float32; weights and repetitions do not count."""
    ones = np.ones(len(log), np.float32)
    matrix = csr_matrix((ones, log.item, log.offsets), shape=(log.n_users, log.n_items), copy=True)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def decayed(log: Interactions, decay: float, last: int, fade: float = 0.0) -> csr_matrix:
    """Users × items: ``decay ** d``, in (0, 1], for the interaction d places before the last one, float32.

    Only the ``last`` interactions of a history count, :func:`~molar_retrieval.experts.fading.faded` by the time between
    each and the last one.
    """
    ends = np.repeat(log.offsets[1:], np.diff(log.offsets))
    place = ends - 1 - np.arange(len(log))
    keep = place < last
    before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
    values = np.power(decay, place[keep])
    if fade:
        values *= faded((log.timestamp[ends - 1] - log.timestamp)[keep], fade)
    values = values.astype(np.float32)
    matrix = csr_matrix((values, log.item[keep], before[log.offsets]), shape=(log.n_users, log.n_items))
    matrix.sum_duplicates()
    return matrix


def reach(decay: float) -> int:
    """How many of the latest interactions weigh more than a millionth of the last one, for a decay in (0, 1)."""
    return int(np.ceil(np.log(_NEGLIGIBLE) / np.log(decay)))


def countable(log: Interactions) -> Interactions:
    """The log with each user's latest interactions only, so few that all pairs of them can be counted.

    Nothing is left out where no user has more than 20,000, and all have fewer than 10¹¹ pairs.
    """
    lengths = np.diff(log.offsets).astype(np.float64)
    most = LONGEST
    while (np.minimum(lengths, most) ** 2).sum() > PAIRS:
        most //= 2
    if not len(lengths) or lengths.max() <= most:
        return log
    ends = np.repeat(log.offsets[1:], np.diff(log.offsets))
    return log.select(ends - np.arange(len(log)) <= most)
