"""EASE and ALS against slow versions of their formulas."""

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, leave_one_out, log_of, walks

from molar_eval.models.baselines import ALS, EASE, fold_in_als
from molar_retrieval.models import als
from molar_retrieval.models.ease import solve
from molar_retrieval.models.item_item import binary
from molar_retrieval.workspace.settings import ALSSettings


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
    settings = ALSSettings(factors=6, alpha=alpha, regularization=0.3, iterations=4)
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
    settings = ALSSettings(factors=6, iterations=40)
    factors = als.fit(task.training, settings)
    users = fold_in_als(task.training, factors.items, settings)
    trained, folded = factors.users @ factors.items.T, users @ factors.items.T
    assert np.corrcoef(trained.ravel(), folded.ravel())[0, 1] > 0.999


def test_als_takes_any_number_of_histories(task):
    fitted = ALS(ALS.GRID[:1]).fit(task, 0)
    assert fitted.scores(log_of([])).shape == (0, N_ITEMS)


def test_als_does_not_care_for_the_number_of_blas_threads(task):
    from threadpoolctl import threadpool_limits

    model = ALS(ALS.GRID[:1])
    with threadpool_limits(1, "blas"):
        one = model.fit(task, 0).scores(task.training)
    with threadpool_limits(2, "blas"):
        np.testing.assert_allclose(model.fit(task, 0).scores(task.training), one, rtol=1e-4, atol=1e-5)
