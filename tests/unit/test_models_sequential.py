"""The next item by ridge regression: against the solution by hand, and on histories with a known order."""

import numpy as np
import pytest
from eval_model_tasks import log_of, walks

from molar_retrieval.models.base import REGRESSIONS
from molar_retrieval.models.sequential import TransitionRegression, transitions

LONG = 60
"""Places after which nothing is left of a decay of .5."""


def by_hand(log, decay, regularisation):
    """Least squares over all positions; the past goes on decaying after the end of a history."""
    gram = np.zeros((log.n_items, log.n_items))
    cross = np.zeros_like(gram)
    for user in range(log.n_users):
        past = np.zeros(log.n_items)
        for item in log.history(user):
            cross[:, item] += past
            past = decay * past
            past[item] += 1
            gram += np.outer(past, past)
        for _ in range(LONG):
            past = decay * past
            gram += np.outer(past, past)
    # Σ over all time of h hᵀ is the matrix of the implementation over 1 − d².
    return np.linalg.solve(gram * (1 - decay**2) + regularisation * np.eye(log.n_items), cross)


@pytest.mark.parametrize("decay", [0.3, 0.5])
def test_it_is_the_least_squares_solution(decay):
    random = np.random.default_rng(0)
    log = log_of([random.integers(0, 6, random.integers(1, 12)).tolist() for _ in range(40)], 6)
    log_with_past = by_hand(log, decay, 3.0)
    model = TransitionRegression.of(log, transitions(log, LONG, decay), decay)
    assert model.columns.tolist() == list(range(6))
    assert np.allclose(model.weights(3.0, 0.0), log_with_past, atol=1e-4)


def test_damping_lifts_rare_items_and_only_known_items_enter():
    log = log_of([[0, 1, 0, 3], [0, 1], [1, 0, 3], [0]], 5)
    model = TransitionRegression.of(log, transitions(log, 20, 0.8), 0.8)
    assert model.columns.tolist() == [0, 1, 3]
    plain, damped = model.weights(1.0, 0.0), model.weights(1.0, 0.5)
    assert plain.shape == (3, 3)
    assert np.allclose(damped, plain / np.sqrt(np.array([5, 3, 2]) + 20), rtol=1e-5)


def test_it_foresees_the_next_step_of_a_walk():
    log = log_of(walks(users=200))
    model = TransitionRegression.of(log, transitions(log, 20, 0.8), 0.8)
    place = {int(item): row for row, item in enumerate(model.columns)}
    found = model.weights(10.0, 0.0).argmax(axis=1)
    steps = [(place[int(a)], place[int(b)]) for user in range(log.n_users)
             for a, b in zip(log.history(user)[:-1], log.history(user)[1:], strict=True)]  # fmt: skip
    assert np.mean([found[a] == b for a, b in steps]) > 0.5


@pytest.mark.parametrize("setting", REGRESSIONS)
def test_the_windows_keep_the_matrix_positive_definite(setting):
    decay, window = setting["decay"], setting["window"]
    assert 2 * decay ** (window + 1) < 1 - decay
    again = log_of([[0] * 200, [1] * 150 + [0] * 150], 2)  # the worst case: one item over and over
    for fade in (setting["fade"], 0.1, 2.0):
        model = TransitionRegression.of(again, transitions(again, window, decay, fade), decay)
        assert np.isfinite(model.weights(1e-3, 0.0)).all()


@pytest.mark.parametrize("fade", [0.1, 0.3, 2.0])
def test_counts_that_fade_leave_the_matrix_positive_definite(fade):
    random = np.random.default_rng(1)
    for spread in (1, 60, 3600, 10_000_000):
        histories = [random.integers(0, 3, 60).tolist() for _ in range(30)]
        times = np.concatenate([np.sort(random.integers(0, spread, 60)) for _ in histories])
        log = log_of(histories, 3, times)
        pairs = 0.8 * transitions(log, 20, 0.8, fade).toarray()
        gram = pairs + pairs.T + np.diag(np.bincount(log.item, minlength=3))
        assert np.linalg.eigvalsh(gram).min() > 0
