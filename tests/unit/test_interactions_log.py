"""The log as arrays: parts of it, the hold-out, the matrix."""

import numpy as np
import pytest

from molar_retrieval.data.interactions import Interactions, holdout_last, to_csr
from molar_retrieval.ids import IdMap


def _log(histories, n_items=10, weight=None):
    lengths = [len(h) for h in histories]
    item = np.array([i for h in histories for i in h], np.int32)
    return Interactions(
        users=IdMap([f"u{i}" for i in range(len(histories))]),
        items=IdMap([f"i{i}" for i in range(n_items)]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item=item,
        timestamp=np.arange(len(item), dtype=np.int64),
        weight=weight,
    )


def _histories(log):
    return [log.history(u).tolist() for u in range(log.n_users)]


def test_parts_of_a_log():
    log = _log([[1, 2, 3], [], [4], [5, 5]], weight=np.arange(6, dtype=np.float32))
    assert (len(log), log.n_users, log.n_items) == (6, 4, 10)
    assert log.user.tolist() == [0, 0, 0, 2, 3, 3]
    assert log.history(0).base is not None
    part = log.without_last(np.array([0, 2, 3]))
    assert _histories(part) == [[1, 2], [], [], [5]]
    assert part.timestamp.tolist() == [0, 1, 4]
    assert part.weight.tolist() == [0, 1, 4]
    assert part.users is log.users
    assert _histories(log.select(log.item > 3)) == [[], [], [4], [5, 5]]
    assert _histories(log) == [[1, 2, 3], [], [4], [5, 5]]


def test_holdout_takes_last_items_that_are_new():
    log = _log([[1, 2, 3], [1, 2], [3, 4, 3], [5, 5, 6], [], [7, 8, 9, 1]])
    split = holdout_last(log, max_users=10, seed=0)
    assert split.users.tolist() == [0, 3, 5]
    assert split.targets.tolist() == [3, 6, 1]
    assert split.times.tolist() == [2, 10, 14], "when each of them was taken"
    assert (split.users.dtype, split.targets.dtype, split.times.dtype) == (np.int32, np.int32, np.int64)
    assert _histories(split.training) == [[1, 2], [1, 2], [3, 4, 3], [5, 5], [], [7, 8, 9]]
    for user, target in zip(split.users, split.targets, strict=True):
        assert target not in split.training.history(user)


def test_holdout_draws_by_seed():
    log = _log([[0, 1, 2 + i % 8] for i in range(100)])
    one, same, other = (holdout_last(log, 20, seed) for seed in (1, 1, 2))
    assert one.users.tolist() == same.users.tolist() == sorted(set(one.users.tolist()))
    assert one.times.tolist() == (3 * one.users + 2).tolist()
    assert len(one) == 20
    assert one.users.tolist() != other.users.tolist()
    assert len(one.training) == 280


def test_where_many_took_something_again_as_large_a_share_of_these_is_held_out():
    log = _log([[1, 2, 3], [1, 2, 1]] * 120)
    split = holdout_last(log, max_users=60, seed=0)
    assert [int(np.count_nonzero(split.again == again)) for again in (False, True)] == [60, 60]
    assert (split.users % 2 == split.again).all()
    assert split.targets[split.again].tolist() == [1] * 60
    assert len(split.training) == len(log) - 120
    few = holdout_last(_log([[1, 2, 3], [1, 2, 1]] * 90), max_users=60, seed=0)
    assert len(few) == 60
    assert not few.again.any(), "fewer than 100 tell nothing"
    same = holdout_last(_log([[1, 2, 3], [1, 2, 4]] * 120), max_users=240, seed=0)
    assert set(split.users[~split.again].tolist()) < set(same.users.tolist())


@pytest.mark.parametrize("histories", [[], [[1]], [[1, 1, 1]]])
def test_holdout_of_nothing(histories):
    split = holdout_last(_log(histories), 5, 0)
    assert len(split) == 0
    assert _histories(split.training) == histories


def test_matrix_sums_repeated_pairs():
    log = _log([[1, 2, 1], [], [2]], n_items=4)
    matrix = to_csr(log)
    assert matrix.dtype == np.float32
    assert matrix.toarray().tolist() == [[0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert matrix.has_canonical_format
    assert log.item.tolist() == [1, 2, 1, 2]


def test_matrix_of_weights():
    log = _log([[1, 1], [0]], n_items=2, weight=np.array([0.5, 2, 3], np.float32))
    assert to_csr(log).toarray().tolist() == [[0, 2.5], [3, 0]]
    assert log.weight.tolist() == [0.5, 2, 3]
