"""Pairs of contents: the regression that was meant, and newcomers that go with a history without looking like it."""

from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import log_of

from molar_retrieval.models import cold_start as subject
from molar_retrieval.models.cold_start import content_pairs
from molar_retrieval.models.content_knn import ContentKNN, mean_direction

KINDS = 4
N = 40


def shop(people=120, seed=0):
    """Whoever took something of a kind takes the next kind after it; content tells the kind."""
    random = np.random.default_rng(seed)
    features = np.eye(KINDS)[np.arange(N) % KINDS] + 0.2 * random.normal(size=(N, KINDS))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    histories = [
        [int(random.choice(np.arange((user + step) % KINDS, N - KINDS, KINDS))) for step in range(user % 6)]
        for user in range(people)
    ]
    return log_of(histories, N), ContentKNN.of(features.astype(np.float32), 0.5, 2)


def test_it_is_the_ridge_regression_of_what_was_taken_on_all_pairs_of_features(monkeypatch):
    monkeypatch.setattr(subject, "_BLOCK", 7)
    log, neighbours = shop(40)
    rows = np.flatnonzero(np.arange(len(log)) > log.offsets[log.user])
    users = mean_direction(log.before(rows), neighbours.items, neighbours.decay, neighbours.last).astype(np.float64)
    known = np.unique(log.item)
    items, taken = neighbours.items[known].astype(np.float64), neighbours.items[log.item[rows]]
    moments, spread = users.T @ users / len(rows), items.T @ items / len(known)
    left = moments + np.trace(moments) / KINDS * np.eye(KINDS)
    right = spread + 0.1 * np.trace(spread) / KINDS * np.eye(KINDS)
    found = content_pairs(log, neighbours)
    assert left @ found @ right == pytest.approx(users.T @ (taken - taken.mean(axis=0)) / len(rows), abs=1e-6)


def test_newcomers_are_found_that_go_with_a_history_and_look_unlike_it():
    log, neighbours = shop()
    new = np.arange(N - KINDS, N)
    asked = log_of([[user % KINDS] for user in range(KINDS)], N)
    pairs = content_pairs(log, neighbours)
    scores = neighbours.users(asked) @ pairs @ neighbours.items[new].T
    assert (new[scores.argmax(axis=1)] % KINDS).tolist() == [1, 2, 3, 0]
    alike = neighbours.scores(asked)[:, new]
    assert (new[alike.argmax(axis=1)] % KINDS).tolist() == [0, 1, 2, 3]


def test_of_a_long_log_a_sample_tells_the_same_again(monkeypatch):
    log, neighbours = shop()
    whole = content_pairs(log, neighbours)
    monkeypatch.setattr(subject, "_MOST", 50)
    some = [content_pairs(log, neighbours, seed) for seed in (0, 0, 1)]
    assert np.array_equal(some[0], some[1])
    assert not np.allclose(some[0], some[2])
    assert not np.allclose(some[0], whole)


def test_without_content_it_says_nothing_and_without_pairs_there_is_none():
    log, neighbours = shop()
    blind = replace(neighbours, items=np.zeros_like(neighbours.items))
    assert not content_pairs(log, blind).any()
    assert content_pairs(log_of([[1], [], [2]], N), neighbours) is None
