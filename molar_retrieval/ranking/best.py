"""Where the best of many scores are that were made at once, and what may be as good as these.

The best of all blocks of scores tell what the best of all have at least, so that few are left to be put in order.
"""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
_ROUNDING = 1e-5
"""By how much products that are taken at once may differ from those that are told, in parts of a score: all that may be
among the best is looked at again."""
_BLOCKS = (16, 4)  # so many scores make up a block, where there are enough blocks
_ENOUGH = 4  # times as many as there are best ones


def places_of_best(scores: Array, size: int) -> Rows:
    """Places of the best ``size`` scores, ascending, and of those that may be as good."""
    if len(scores) <= size:
        return np.arange(len(scores))
    first: Rows = (scores >= _least(scores[None], size)[0]).nonzero()[0]
    if len(first) <= _ENOUGH * size:
        return first
    some = scores[first]
    return first[some >= _as_good(np.partition(some, len(some) - size)[len(some) - size])]


def places_of_each(scores: Array, shown: Mask, size: int) -> tuple[Rows, Rows]:
    """The same of several rows of scores, of those that are ``shown``, shapes (U, n): rows, ascending, and places."""
    scores = np.where(shown, scores, -np.inf)
    if scores.shape[1] > size:
        shown = shown & (scores >= _least(scores, size)[:, None])
    rows, places = shown.nonzero()
    return rows, places


def best_first(scores: Array) -> Rows:
    """Places of the scores of many lists, shape (..., n), best first, equal ones as they stand.

    That is a stable order in a quarter of the time, as in few lists any are equal.
    """
    lists = scores.reshape(prod(scores.shape[:-1]), scores.shape[-1])
    order = np.argsort(-lists, axis=1)
    ordered = lists[np.arange(len(lists))[:, None], order]
    alike = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if alike.any():
        order[alike] = np.argsort(-lists[alike], axis=1, kind="stable")
    return order.reshape(scores.shape)


def best_of_each(scores: Array, users: Rows, rows: Rows | None = None) -> Rows:
    """Places of some users' scores, the best of the first user first; ``users`` ascend.

    Equal ones come by their ``rows``, or as they stand where there are none.
    """
    order = np.argsort(-scores)
    order = order[np.argsort(users[order].astype(np.uint16), kind="stable")]  # numbers as short are sorted by digits
    ordered = scores[order]
    if ((ordered[1:] == ordered[:-1]) & (users[1:] == users[:-1])).any():
        return np.lexsort((-scores, users) if rows is None else (rows, -scores, users))
    return order


def _least(scores: Array, size: int) -> Array:
    """Of each row of scores what all that are as good as the best ``size`` have at least, shape (U,)."""
    count = scores.shape[1]
    block = next((one for one in _BLOCKS if count // one >= _ENOUGH * size), 0)
    if block:
        scores = scores[:, : count // block * block].reshape(len(scores), block, count // block).max(axis=1)
    place = scores.shape[1] - size
    return _as_good(np.partition(scores, place, axis=1)[:, place])


def _as_good(scores: Array) -> Array:
    least: Array = scores - _ROUNDING * np.maximum(1.0, np.abs(scores))
    return least
