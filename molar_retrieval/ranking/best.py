"""Where the best of many scores are, and what may be as good as these.

The best of all blocks of scores tell what the best of all have at least, so that few are left to be put in order.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
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
    first: Rows = (scores >= _least(scores, size)).nonzero()[0]
    if len(first) <= _ENOUGH * size:
        return first
    some = scores[first]
    return first[some >= _as_good(float(np.partition(some, len(some) - size)[len(some) - size]))]


def _least(scores: Array, size: int) -> float:
    """What all scores that are as good as the best ``size`` have at least, shape (n,)."""
    block = next((one for one in _BLOCKS if len(scores) // one >= _ENOUGH * size), 0)
    if block:
        count = len(scores) // block
        scores = scores[: count * block].reshape(block, count).max(axis=0)
    return _as_good(float(np.partition(scores, len(scores) - size)[len(scores) - size]))


def _as_good(score: float) -> float:
    return score - _ROUNDING * max(1.0, abs(score))
