"""EASE: a linear item-to-item model with a closed form (Steck 2019, arXiv 1905.03375)."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from molar_eval.models.base import Scores, Task
from molar_eval.models.histories import binary, known_items
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.errors import DataError
from molar_retrieval.interactions.log import InteractionLog

MAX_ITEMS = 20_000


class EASE(Baseline):
    """``history @ B``, where B predicts each item from all others by ridge regression with a zero diagonal.

    Only items with training interactions enter: time grows with the cube of their number, memory with the square (two
    matrices, 1.6 GB each at the limit of 20,000 items).
    """

    name = "EASE"
    GRID = tuple({"regularisation": value} for value in (20, 50, 100, 200, 500, 1000, 2000))

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Count co-occurrences.

        Raises:
            DataError: If more than 20,000 items have training interactions.
        """
        columns = np.flatnonzero(known_items(task.training))
        if len(columns) > MAX_ITEMS:
            raise DataError(
                f"EASE inverts a matrix of {len(columns):,} × {len(columns):,} items; its limit is {MAX_ITEMS:,}",
                "leave this model out of the suite",
            )
        taken = binary(task.training)[:, columns]
        gram = (taken.T @ taken).toarray()

        def fit(setting: Setting) -> Scoring:
            weights = solve(gram, setting["regularisation"])

            def score(inputs: InteractionLog) -> Scores:
                scores = np.zeros((inputs.n_users, inputs.n_items), np.float32)
                scores[:, columns] = binary(inputs)[:, columns] @ weights
                return scores

            return score

        return fit


def solve(gram: npt.NDArray[np.float32], regularisation: float) -> npt.NDArray[np.float32]:
    """The weights B of a co-occurrence matrix, shape (m, m): ``-P_ij / P_jj`` off the diagonal, P = (G + λI)⁻¹.

    Args:
        gram: Co-occurrences XᵀX, shape (m, m); stays as it is.
        regularisation: λ > 0.
    """
    from scipy.linalg.lapack import spotrf, spotri

    lower = np.array(gram, np.float32, order="F")
    lower[np.diag_indices_from(lower)] += regularisation
    lower, failed = spotrf(lower, lower=1, overwrite_a=1)
    if failed:
        raise DataError("EASE: the co-occurrence matrix is not positive definite", "raise its regularisation")
    lower, _ = spotri(lower, lower=1, overwrite_c=1)
    # LAPACK fills one triangle, in column order; the transposed view has it above the diagonal.
    weights: npt.NDArray[np.float32] = lower.T
    for row in range(1, len(weights)):
        weights[row, :row] = weights[:row, row]
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0)
    return weights
