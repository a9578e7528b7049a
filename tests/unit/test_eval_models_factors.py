"""EASE, ALS and BPR against slow versions of their formulas."""

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, leave_one_out, log_of, walks
from scipy.optimize import minimize

from molar_eval.models.baselines import ALS, BPR, EASE, fold_in_als, fold_in_bpr
from molar_retrieval.models import als
from molar_retrieval.models.ease import solve
from molar_retrieval.models.item_item import binary
from molar_retrieval.workspace.settings import CFSettings


@pytest.fixture(scope="module")
def task():
    return leave_one_out(walks(users=120))[0]


def test_ease_scores_with_binary_histories(task):
    fitted = EASE([{"regularisation": 20}]).fit(task, 0)
    once, twice = fitted.scores(log_of([[3, 4], [3, 4, 4, 3]]))
    assert np.array_equal(once, twice)
    gram = (binary(task.training).T @ binary(task.training)).toarray()
    known = np.flatnonzero(np.diag(gram))
    weights = np.zeros((N_ITEMS, N_ITEMS))
    weights[np.ix_(known, known)] = solve(gram[np.ix_(known, known)], 20)
    np.testing.assert_allclose(once[known], (weights[3] + weights[4])[known], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 12.0])
def test_als_users_are_least_squares_solutions(task, alpha):
    settings = CFSettings(factors=6, alpha=alpha, regularization=0.3, iterations=4)
    items = als.fit(task.training, settings).items
    histories = [[3, 4, 6], [], [5, 5, 9]]
    users = fold_in_als(log_of(histories), items, settings)
    y = items.astype(np.float64)
    for user, history in enumerate(histories):
        # In `implicit`, the confidence of a pair is alpha times its count, and 1 where there is none.
        confidence, preference = np.ones(N_ITEMS), np.zeros(N_ITEMS)
        for item in set(history):
            confidence[item], preference[item] = alpha * history.count(item), 1
        left = y.T @ (confidence[:, None] * y) + 0.3 * np.eye(6)
        np.testing.assert_allclose(users[user], np.linalg.solve(left, y.T @ (confidence * preference)), atol=1e-4)


def test_als_folds_a_known_user_in_where_training_left_them(task):
    settings = CFSettings(factors=6, iterations=40)
    factors = als.fit(task.training, settings)
    users = fold_in_als(task.training, factors.items, settings)
    trained, folded = factors.users @ factors.items.T, users @ factors.items.T
    assert np.corrcoef(trained.ravel(), folded.ravel())[0, 1] > 0.999


def test_als_takes_any_number_of_histories(task):
    fitted = ALS(ALS.GRID[:1]).fit(task, 0)
    assert fitted.scores(log_of([])).shape == (0, N_ITEMS)


def test_bpr_users_minimise_the_second_order_loss():
    random = np.random.default_rng(2)
    items, bias = random.normal(size=(N_ITEMS, 4)), random.normal(size=N_ITEMS)
    known = np.ones(N_ITEMS, bool)
    known[[8, 9]] = False
    history, ridge = [3, 5, 5, 11, 8], 0.05

    def loss(user):
        scores = items @ user + bias
        difference = scores[[3, 5, 11]][:, None] - scores[known][None, :]
        return (-difference / 2 + difference**2 / 8).mean(axis=1).sum() + 3 * ridge * (user**2).sum() / 2

    expected = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-10}).x
    user, nobody, stranger = fold_in_bpr(log_of([history, [], [8]]), items, bias, known, ridge)
    np.testing.assert_allclose(user, expected, rtol=1e-5, atol=1e-6)
    assert (nobody == 0).all()
    assert (stranger == 0).all()


def test_bpr_folds_in_at_least_as_well_as_it_trains(task):
    from implicit.bpr import BayesianPersonalizedRanking

    matrix = binary(task.training)
    model = BayesianPersonalizedRanking(factors=8, iterations=80, learning_rate=0.05, num_threads=1, random_state=0)
    model.fit(matrix, show_progress=False)
    factors = model.item_factors.astype(np.float64)
    known = np.diff(matrix.T.tocsr().indptr) > 0
    users = fold_in_bpr(task.training, factors[:, :-1], factors[:, -1], known, 0.01)

    def auc(scores):
        taken = matrix.toarray().astype(bool)
        return np.mean([
            (row[mine][:, None] > row[~mine & known][None, :]).mean() for row, mine in zip(scores, taken, strict=True)
        ])  # fmt: skip

    folded = auc(users @ factors[:, :-1].T + factors[:, -1])
    assert folded > 0.8
    assert folded > auc(model.user_factors @ model.item_factors.T) - 0.05


def test_bpr_empty_histories_get_the_bias(task):
    fitted = BPR([{**BPR.GRID[0], "iterations": 5}]).fit(task, 0)
    empty, unknown = fitted.scores(log_of([[], [29]]))
    assert np.array_equal(empty, unknown)
    assert np.isneginf(empty[[28, 29]]).all()


def test_als_and_bpr_do_not_care_for_the_number_of_blas_threads(task):
    from threadpoolctl import threadpool_limits

    for model in (ALS(ALS.GRID[:1]), BPR([{**BPR.GRID[0], "iterations": 5}])):
        with threadpool_limits(1, "blas"):
            one = model.fit(task, 0).scores(task.training)
        with threadpool_limits(2, "blas"):
            np.testing.assert_allclose(model.fit(task, 0).scores(task.training), one, rtol=1e-4, atol=1e-5)
