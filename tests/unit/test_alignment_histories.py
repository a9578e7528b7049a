"""Histories of chosen users, each asked about at a time of their own."""

from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import log_of
from hypothesis import given
from hypothesis import strategies as st

HISTORIES = [[1, 2, 3], [], [4], [5, 5, 6, 7]]


@pytest.fixture
def log():
    made = log_of(HISTORIES, 9, times=np.arange(8) * 10, weights=np.arange(8) / 4)
    return replace(made, asked_at=np.array([100, 200, 300, 400]))


@given(st.lists(st.integers(0, 3), max_size=12))
def test_chosen_users_keep_their_interactions_in_the_order_of_the_choice(rows):
    log = replace(log_of(HISTORIES, 9, np.arange(8) * 10, np.arange(8) / 4), asked_at=np.array([100, 200, 300, 400]))
    part = log.of_users(np.array(rows, np.int64))
    assert part.n_users == len(part.users) == len(rows)
    assert [part.history(n).tolist() for n in range(len(rows))] == [HISTORIES[row] for row in rows]
    assert part.asked_at.tolist() == [100 * (row + 1) for row in rows]
    spans = [slice(log.offsets[row], log.offsets[row + 1]) for row in rows]
    assert part.timestamp.tolist() == [t for span in spans for t in log.timestamp[span].tolist()]
    assert part.weight.tolist() == [w for span in spans for w in log.weight[span].tolist()]
    assert part.items is log.items
    assert (part.offsets.dtype, part.item.dtype, part.user.dtype) == (np.int64, np.int32, np.int32)


def test_a_choice_of_a_choice(log):
    part = log.of_users(np.array([3, 0, 3])).of_users(np.array([2, 1]))
    assert [part.history(n).tolist() for n in range(2)] == [[5, 5, 6, 7], [1, 2, 3]]
    assert part.asked_at.tolist() == [400, 100]


def test_without_times_of_asking_and_weights_there_are_none(log):
    plain = replace(log, asked_at=None, weight=None).of_users(np.array([2]))
    assert plain.asked_at is None
    assert plain.weight is None


def test_taking_interactions_away_leaves_the_times_of_asking(log):
    assert log.select(log.item > 3).asked_at.tolist() == [100, 200, 300, 400]
    assert log.without_last(np.array([0])).asked_at.tolist() == [100, 200, 300, 400]
