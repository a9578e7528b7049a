"""Correction for many tests."""

import numpy as np
import numpy.typing as npt

from molar_eval.statistics.bootstrap import Floats


def holm(p: npt.NDArray[np.floating]) -> Floats:
    """Adjusted p-values: rejecting those below α errs in any of them with probability α at most.

    Args:
        p: Every test that was looked at, the dull ones too, shape (m,).

    Returns:
        Shape (m,), in the order of ``p``.

    Source:
        Holm 1979, A simple sequentially rejective multiple test procedure, jstor:4615733.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted
