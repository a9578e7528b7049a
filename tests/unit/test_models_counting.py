"""Histories and co-occurrence against loops over plain lists."""

import math

import numpy as np
import pytest
from eval_model_tasks import log_of

from molar_retrieval.models.item_item import binary, decayed, known_items, reach
from molar_retrieval.models.sequential import cooccurrence, transitions
from molar_retrieval.models.time_decay import time_decay

RAGGED = [[0, 1, 2, 1], [], [3], [2, 2, 0, 4, 1, 3]]


TIMES = [0, 5, 5, 4000, 10, 0, 0, 59, 60, 86_400, 900_000]


def times_of():
    """Those of each history."""
    ends = np.cumsum([len(history) for history in RAGGED])
    return [TIMES[end - len(history) : end] for end, history in zip(ends, RAGGED, strict=True)]


def followed_slowly(window, decay, fade=0.0):
    expected = np.zeros((6, 6))
    for history, times in zip(RAGGED, times_of(), strict=True):
        for at, item in enumerate(history):
            for distance in range(1, window + 1):
                if at + distance < len(history):
                    gap = times[at + distance] - times[at]
                    expected[item, history[at + distance]] += decay ** (distance - 1) / (1 + gap / 60) ** fade
    return expected


@pytest.mark.parametrize("fade", [0.3, 1.0])
def test_what_lies_apart_in_time_counts_less(fade):
    log = log_of(RAGGED, 6, TIMES)
    np.testing.assert_allclose(transitions(log, 3, 0.6, fade).toarray(), followed_slowly(3, 0.6, fade), rtol=1e-6)
    expected = np.zeros((4, 6))
    for user, (history, times) in enumerate(zip(RAGGED, times_of(), strict=True)):
        for place, (item, moment) in enumerate(zip(history[:-4:-1], times[:-4:-1], strict=True)):
            expected[user, item] += 0.5**place / (1 + (times[-1] - moment) / 60) ** fade
    np.testing.assert_allclose(decayed(log, 0.5, 3, fade).toarray(), expected, rtol=1e-6)
    alike = log_of(RAGGED, 6, [7] * len(TIMES))  # a log without times
    assert (transitions(alike, 3, 0.6, fade) != transitions(alike, 3, 0.6)).nnz == 0
    assert (decayed(alike, 0.5, 3, fade) != decayed(alike, 0.5, 3)).nnz == 0


def test_time_that_runs_backwards_is_none():
    assert time_decay(np.array([-5, 0, 60]), 1.0).tolist() == [1.0, 1.0, 0.5]


def test_history_matrices():
    log = log_of(RAGGED, 6)
    before = log.item.copy()
    assert binary(log).toarray().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
    ]
    expected = np.zeros((4, 6))
    for user, history in enumerate(RAGGED):
        for place, item in enumerate(reversed(history)):
            if place < 3:
                expected[user, item] += 0.5**place
    np.testing.assert_allclose(decayed(log, 0.5, 3).toarray(), expected)
    assert known_items(log).tolist() == [True, True, True, True, True, False]
    assert np.array_equal(log.item, before)  # SciPy sorts in place what it does not own


@pytest.mark.parametrize("decay", [0.3, 0.7, 0.95])
def test_reach_ends_where_nothing_is_left(decay):
    assert decay ** reach(decay) <= 1e-6 < decay ** (reach(decay) - 1)


def test_followers_against_counting():
    got = transitions(log_of(RAGGED, 6), 3, 0.6)
    np.testing.assert_allclose(got.toarray(), followed_slowly(3, 0.6), rtol=1e-6)
    assert transitions(log_of([[1], [2]], 6), 3, 0.6).nnz == 0
    assert transitions(log_of([], 6), 3, 0.6).shape == (6, 6)


@pytest.mark.parametrize("ordered", [True, False])
def test_cooccurrence_against_its_formula(ordered):
    log = log_of(RAGGED, 6)
    got = cooccurrence(log, transitions(log, 2, 0.5), 3, ordered)
    slow = followed_slowly(2, 0.5)
    counts = [sum(history.count(item) for history in RAGGED) for item in range(6)]
    expected = [
        [(slow[i, j] + (0 if ordered else slow[j, i])) / math.sqrt((counts[i] + 3) * (counts[j] + 3)) for j in range(6)]
        for i in range(6)
    ]
    np.testing.assert_allclose(got.toarray(), expected, rtol=1e-5)
    assert got.dtype == np.float32
