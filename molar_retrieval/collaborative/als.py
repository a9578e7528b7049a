"""Implicit-feedback matrix factorisation by alternating least squares, through the library `implicit`."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from molar_retrieval.data.interactions import Interactions, to_csr
from molar_retrieval.errors import DataError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.settings import CFSettings
from molar_retrieval.workspace.tensors import Matrix


@dataclass(frozen=True)
class ALSFactors:
    """What ALS learned: shape (n, factors) each; zero for a user or an item without interactions."""

    users: Matrix
    items: Matrix


def fit(log: Interactions, settings: CFSettings, progress: Progress = SILENT) -> ALSFactors:
    """Factorise the log's user × item matrix (Hu, Koren and Volinsky 2008, doi:10.1109/ICDM.2008.22).

    An interaction has confidence ``alpha``, repeated ones add up; what nobody took has confidence 1. The result depends
    on the seed only, not on the number of threads. BLAS gets one thread, as `implicit` parallelises over rows itself.
    Where 32-bit numbers do not do, as where one item has nearly all interactions, it is done again with 64-bit ones; a
    DataError says that there are no interactions, or no factors that fit them.
    """
    matrix = to_csr(log)
    if not matrix.nnz:
        raise DataError("there are no training interactions", "check that the log's item ids occur in the catalogue")
    for numbers in (np.float32, np.float64):
        found = _fitted(matrix, settings, numbers, progress)
        if found is not None:
            users, items = found
            return ALSFactors(_masked(users, matrix), _masked(items, matrix.T.tocsr()))
    raise DataError(
        f"ALS finds no factors for {matrix.nnz:,} pairs whose weights reach {matrix.data.max():g}: numbers overflow",
        "lower alpha in molar.toml, [cf], or the weights of the interactions",
    )


def _fitted(
    matrix: csr_matrix, settings: CFSettings, numbers: type[np.floating], progress: Progress
) -> tuple[Matrix, Matrix] | None:
    """Factors of users and items; None where they do not stay finite."""
    from implicit.als import AlternatingLeastSquares
    from implicit.recommender_base import ModelFitError

    progress.start("ALS", settings.iterations)
    chosen = settings.model_dump(include={"factors", "regularization", "alpha", "iterations"})
    try:
        with threadpool_limits(limits=1, user_api="blas"):  # where the model is made, too, as it looks and warns
            model = AlternatingLeastSquares(dtype=numbers, random_state=settings.seed, **chosen)
            model.fit(matrix, show_progress=False, callback=lambda *_: progress.advance())
    except ModelFitError:
        return None
    finally:
        progress.finish()
    users, items = np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32)
    return (users, items) if np.isfinite(users).all() and np.isfinite(items).all() else None


def _masked(factors: npt.NDArray[np.floating], matrix: csr_matrix) -> Matrix:
    """The factors, zero where there is no interaction; ALS leaves noise there."""
    result = np.array(factors, np.float32)
    result[np.diff(matrix.indptr) == 0] = 0
    return result
