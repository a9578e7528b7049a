"""Several seeds of one model: how far they lie apart, and their scores as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_eval.statistics.bootstrap import Floats
from molar_retrieval.errors import DataError


@dataclass(frozen=True, eq=False)
class SeedSpread:
    """Mean over seeds of each metric's mean over cases, shape (m,), and the standard deviation (n - 1) of several."""

    mean: Floats
    sd: Floats | None


def seed_spread(scores: Sequence[npt.NDArray[np.floating]]) -> SeedSpread:
    """Mean and standard deviation over seeds, each with per-case scores of shape (n, m).

    Seeds that were not scored on the same cases raise :class:`DataError`.
    """
    means = np.stack([np.mean(one, axis=0, dtype=np.float64) for one in _alike(scores)])
    return SeedSpread(means.mean(axis=0), means.std(axis=0, ddof=1) if len(means) > 1 else None)


def averaged(scores: Sequence[npt.NDArray[np.floating]]) -> Floats:
    """Each case's score averaged over seeds, for intervals and tests: shape (n, m) from several of the same shape.

    The cases stay the unit of the tests; how much seeds matter is what :func:`seed_spread` says, and what it raises.
    """
    first, *others = _alike(scores)
    total = first.astype(np.float64)
    for one in others:
        total += one
    return total / len(scores)


def _alike(scores: Sequence[npt.NDArray[np.floating]]) -> Sequence[npt.NDArray[np.floating]]:
    if len({one.shape for one in scores}) != 1:
        raise DataError("there are no seeds, or not all scored the same cases", "evaluate all seeds on one split")
    return scores
