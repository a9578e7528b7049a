"""Implicit-feedback matrix factorisation by alternating least squares, through the library `implicit`.

The matrix never leaves this module's wrapper, so its orientation cannot be mistaken outside.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from molar_retrieval.config import CFSettings
from molar_retrieval.errors import DataError
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.interactions.matrix import to_csr
from molar_retrieval.progress import SILENT, Progress

Factors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ALSFactors:
    """What ALS learned.

    Attributes:
        users: Shape (n_users, factors), float32; zero for a user without interactions.
        items: Shape (n_items, factors), float32; zero for an item without interactions.
    """

    users: Factors
    items: Factors


def fit(log: InteractionLog, settings: CFSettings, progress: Progress = SILENT) -> ALSFactors:
    """Factorise the log's user × item matrix (Hu, Koren and Volinsky 2008, doi:10.1109/ICDM.2008.22).

    An interaction has confidence ``alpha``, repeated ones add up; what nobody took has confidence 1. The result depends
    on the seed only, not on the number of threads. BLAS gets one thread, as `implicit` parallelises over rows itself.

    Args:
        log: Training interactions.
        settings: Factors, regularisation, confidence, iterations, seed.
        progress: Told of each iteration.

    Raises:
        DataError: If there are no interactions.
    """
    from implicit.als import AlternatingLeastSquares

    matrix = to_csr(log)
    if not matrix.nnz:
        raise DataError("there are no training interactions", "check that the log's item ids occur in the catalogue")
    progress.start("ALS", settings.iterations)
    with threadpool_limits(limits=1, user_api="blas"):
        model = AlternatingLeastSquares(
            factors=settings.factors,
            regularization=settings.regularization,
            alpha=settings.alpha,
            iterations=settings.iterations,
            random_state=settings.seed,
        )
        model.fit(matrix, show_progress=False, callback=lambda *_: progress.advance())
    progress.finish()
    return ALSFactors(_masked(model.user_factors, matrix), _masked(model.item_factors, matrix.T.tocsr()))


def _masked(factors: npt.NDArray[np.floating], matrix: csr_matrix) -> Factors:
    """The factors with the rows of those who have no interaction set to zero; ALS leaves noise there."""
    result = np.array(factors, np.float32)
    result[np.diff(matrix.indptr) == 0] = 0
    return result
