"""Unit vectors, and several of them in one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]


def unit(rows: npt.NDArray[np.floating]) -> Rows:
    """Rows scaled to length 1; a row of zeros stays one (shape kept, float32)."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0), np.float32)


def fuse(weighted: Sequence[tuple[float, Rows]]) -> Rows:
    """Unit rows side by side, so that the cosine of two fused rows is the weighted mean of the parts' cosines.

    ``concat(sqrt(w_i) * x_i) / norm``, shape (n, sum of dim_i), with weights that sum to 1: where an item lacks a part,
    the part is zero and the rest fills the row.
    """
    return unit(np.concatenate([np.sqrt(np.float32(weight)) * rows for weight, rows in weighted], axis=1))
