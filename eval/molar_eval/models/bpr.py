"""Bayesian personalised ranking (Rendle et al. 2009, arXiv 1205.2618), through the library `implicit`."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from molar_eval.cases import Mask
from molar_eval.models.base import Scores, Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval import rng
from molar_retrieval.experts.histories import binary, known_items
from molar_retrieval.interactions.log import InteractionLog

Matrix = npt.NDArray[np.float64]


class BPR(Baseline):
    """Matrix factorisation trained on pairs of a taken and another item; users are folded in, see :func:`fold_in`."""

    name = "BPR"
    stochastic = True
    GRID = tuple(
        {"factors": 64, "learning_rate": rate, "regularization": penalty, "iterations": count, "ridge": ridge}
        for rate, penalty, count in ((0.01, 0.01, 100), (0.02, 0.03, 40), (0.05, 0.01, 20))
        for ridge in (0.01, 0.03, 0.1)
    )

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Settings that differ in the ridge alone share the item factors."""
        known = known_items(task.training)
        start = rng.derive_seed(seed, "BPR") % 2**31
        trained = lru_cache(maxsize=1)(lambda *options: _train(task.training, start, *options))

        def fit(setting: Setting) -> Scoring:
            names = ("factors", "learning_rate", "regularization", "iterations")
            items, bias = trained(*(setting[name] for name in names))

            def score(inputs: InteractionLog) -> Scores:
                users = fold_in(inputs, items, bias, known, setting["ridge"])
                scores: Scores = users.astype(np.float32) @ items.T.astype(np.float32) + bias.astype(np.float32)
                return scores

            return score

        return fit


def _train(
    log: InteractionLog, seed: int, factors: int, learning_rate: float, regularization: float, iterations: int
) -> tuple[Matrix, npt.NDArray[np.float64]]:
    """Item factors (n_items, factors) and biases (n_items,); one thread, as several would race."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=factors,
        learning_rate=learning_rate,
        regularization=regularization,
        iterations=iterations,
        num_threads=1,
        random_state=seed,
    )
    with threadpool_limits(limits=1, user_api="blas"):
        model.fit(binary(log), show_progress=False)
    learned = np.asarray(model.item_factors, np.float64)
    return learned[:, :-1], learned[:, -1]


def fold_in(inputs: InteractionLog, items: Matrix, bias: npt.NDArray[np.float64], known: Mask, ridge: float) -> Matrix:
    """User vectors for histories, from the item factors as trained.

    BPR has no closed form for a user, so its loss is taken to the second order about equal scores, ``-ln σ(x) ≈ ln 2 -
    x/2 + x²/8``, with all known items, equally likely, as the other half of the pairs. That is a least-squares
    problem, solved exactly. With z = items - mean, C their covariance and β = bias - mean, a history of n items has

        (Σ z_i z_iᵀ + n C + 4 n ridge I) u = Σ (2 - β_i) z_i - n E[β z].

    Args:
        inputs: Histories; repetitions and unknown items do not count.
        items: Item factors, shape (n_items, d).
        bias: Item biases, shape (n_items,).
        known: Items with training interactions, shape (n_items,).
        ridge: Penalty on the squared length, for each item of the history.

    Returns:
        Shape (n_histories, d); zero for a history without known items.
    """
    mean, base = items[known].mean(axis=0), bias[known].mean()
    z, beta = np.where(known[:, None], items - mean, 0), np.where(known, bias - base, 0)
    spread = z.T @ z / known.sum() + 4 * ridge * np.eye(items.shape[1])
    drift = beta @ z / known.sum()
    histories = binary(inputs.select(known[inputs.item]))
    users = np.zeros((inputs.n_users, items.shape[1]))
    for row in np.flatnonzero(np.diff(histories.indptr)):
        taken = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
        mine = z[taken]
        users[row] = np.linalg.solve(mine.T @ mine + len(taken) * spread, (2 - beta[taken]) @ mine - len(taken) * drift)
    return users
