"""Implicit ALS; users are folded in from the history they are asked with, so nobody needs a trained vector."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from molar_eval.models.base import Scores, Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval import rng
from molar_retrieval.collaborative import als
from molar_retrieval.config import CFSettings
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.interactions.matrix import to_csr

Matrix = npt.NDArray[np.float32]


class ALS(Baseline):
    """Implicit ALS (Hu, Koren and Volinsky 2008, doi:10.1109/ICDM.2008.22), fitted by the code that `molar` uses.

    A user is the exact least-squares solution for the history with the item factors as fitted.
    """

    name = "ALS"
    stochastic = True
    GRID = tuple(
        {"factors": factors, "regularization": penalty, "alpha": alpha, "iterations": 15}
        for factors, penalty, alpha in (
            (64, 0.01, 1.0), (64, 10.0, 1.0), (128, 0.01, 1.0), (128, 10.0, 1.0),
            (64, 1.0, 5.0), (64, 1.0, 20.0), (128, 1.0, 20.0), (64, 10.0, 40.0),
        )
    )  # fmt: skip

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Every setting starts from the same random state."""
        start = rng.derive_seed(seed, "ALS") % 2**31

        def fit(setting: Setting) -> Scoring:
            settings = CFSettings(**setting, seed=start)
            items = als.fit(task.training, settings).items

            def score(inputs: InteractionLog) -> Scores:
                scores: Scores = fold_in_als(inputs, items, settings) @ items.T
                return scores

            return score

        return fit


def fold_in_als(inputs: InteractionLog, items: Matrix, settings: CFSettings) -> Matrix:
    """The ALS factors of users with these histories, shape (n_histories, factors); zero for an empty history."""
    from implicit.als import AlternatingLeastSquares

    with threadpool_limits(limits=1, user_api="blas"):
        solver = AlternatingLeastSquares(
            factors=items.shape[1], regularization=settings.regularization, alpha=settings.alpha
        )
        solver.item_factors = items
        users: Matrix = solver.recalculate_user(np.arange(inputs.n_users), to_csr(inputs))
    return users
