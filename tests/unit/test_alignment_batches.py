"""Windows cover every transition once; batches keep to their size."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap
from molar_retrieval.models.towers.batches import (
    collate,
    latest_windows,
    padded,
    padded_rows,
    plan,
    training_batches,
    training_windows,
)


def log_of(lengths):
    total = sum(lengths)
    return Interactions(
        IdMap([f"u{n}" for n in range(len(lengths))]),
        IdMap([f"i{n}" for n in range(total + 1)]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.arange(1, total + 1, dtype=np.int32),
        np.arange(total, dtype=np.int64) * 60,
    )


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), history=st.integers(2, 15))
def test_every_transition_is_predicted_exactly_once(lengths, history):
    log = log_of(lengths)
    windows = training_windows(log, history)
    predicted = [row for s, n in zip(windows.start, windows.length, strict=True) for row in range(s + 1, s + n)]
    firsts = {int(o) for o, n in zip(log.offsets[:-1], lengths, strict=True) if n}
    assert sorted(predicted) == sorted(set(range(len(log))) - firsts)
    assert (windows.length <= history + 1).all()
    assert windows.last.sum() == sum(n >= 2 for n in lengths)


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), tokens=st.integers(1, 200))
def test_batches_hold_every_window_once_within_their_size(lengths, tokens):
    array = np.array(lengths)
    batches = plan(array, tokens, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * array[b].max() <= tokens for b in batches)


def test_an_epoch_is_the_same_for_the_same_seed_and_another_for_another():
    log = log_of([5, 9, 30, 2, 17, 8, 12])
    windows = training_windows(log, 6)
    one, same, other = (
        np.concatenate([b.start for b in training_batches(log, windows, 20, np.random.default_rng(seed))])
        for seed in (1, 1, 2)
    )
    assert one.tolist() == same.tolist() != other.tolist()
    assert sorted(one.tolist()) == sorted(other.tolist())


def test_collate_pads_on_the_right_and_keeps_the_rows():
    log = log_of([2, 4])
    windows = latest_windows(log, np.array([0, 1]), 3)
    history = collate(log, windows.start, windows.length)
    assert history.items.tolist() == [[1, 2, 0, 0, 0, 0, 0, 0], [4, 5, 6, 0, 0, 0, 0, 0]]
    assert history.lengths.tolist() == [2, 3]
    assert torch.equal(history.gaps[1, 2, :3], torch.tensor([13, 11, 0]))


def test_batches_have_few_shapes():
    lengths = np.random.default_rng(0).integers(1, 201, 5000)
    shapes = {(len(batch), padded(int(lengths[batch].max()))) for batch in plan(lengths, 3200)}
    assert len({length for _, length in shapes}) <= 15
    assert len(shapes) <= 2 * 15 + 1
    assert [padded(n) for n in (1, 8, 9, 64, 65, 200)] == [8, 8, 16, 64, 80, 200]


def test_padded_rows_repeat_the_last_one():
    rows, valid = padded_rows(np.array([3, 10]), np.array([1, 3]), 3)
    assert rows.tolist() == [[3, 3, 3], [10, 11, 12]]
    assert valid.tolist() == [[True, False, False], [True, True, True]]


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), history=st.integers(1, 15))
def test_windows_are_cut_from_the_end_of_one_history_after_the_other(lengths, history):
    log, expected = log_of(lengths), []
    for user, (low, high) in enumerate(pairwise(log.offsets.tolist())):
        end = high
        while end - low >= 2:
            begin = max(low, end - history - 1)
            expected.append((begin, end - begin, user, end == high))
            end = begin + 1
    windows = training_windows(log, history)
    columns = (windows.start, windows.length, windows.user, windows.last)
    assert [*zip(*(column.tolist() for column in columns), strict=True)] == expected
    assert [column.dtype for column in columns] == [np.int64, np.int64, np.int64, np.bool_]
