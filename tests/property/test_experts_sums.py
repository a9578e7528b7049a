"""Sums to which users are added and from which they are taken are those of a recount, exactly, however often."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from molar_indexes.background import support
from molar_retrieval.alignment.vectors import WeightedPartners
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.sums import PairSums, changed_users
from molar_retrieval.ids import IdMap

WINDOW, DECAY, FADE = 4, 0.9, 0.3
ITEMS = [f"i{n}" for n in range(8)]
STEPS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.sampled_from([0.1, 0.35, 1.0])), max_size=9)
DAYS = st.lists(st.dictionaries(st.sampled_from("abcde"), STEPS, max_size=5), min_size=1, max_size=6)
ORDERS = st.permutations(range(8)).flatmap(lambda order: st.integers(1, 8).map(lambda count: order[:count]))


def log_of(histories, order, strengths):
    """The histories of a day over some of the items, in that order."""
    items = IdMap([ITEMS[n] for n in order])
    place = {n: row for row, n in enumerate(order)}
    kept = {user: [step for step in steps if step[0] in place] for user, steps in histories.items()}
    flat = [step for steps in kept.values() for step in steps]
    return Interactions(
        IdMap(list(kept)),
        items,
        np.cumsum([0, *(len(steps) for steps in kept.values())]).astype(np.int64),
        np.array([place[item] for item, _, _ in flat], np.int32),
        np.array([moment for _, moment, _ in flat], np.int64),
        strength=np.array([strength for *_, strength in flat], np.float32) if strengths else None,
    )


@settings(deadline=None, max_examples=150)
@given(DAYS, st.lists(ORDERS, min_size=6, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_increments_are_a_recount(days, orders, strengths):
    before = log_of({}, orders[0], False)
    sums = PairSums.of(before, window=WINDOW, decay=DECAY, fade=FADE, together=True)
    for histories, order, strong in zip(days, orders, strengths, strict=False):
        after = log_of(histories, order, strong)
        rows = after.items.rows(before.items.array).astype(np.int64)
        old, new = changed_users(before, after, rows)
        sums = sums.with_changes(before.of_users(old), after.of_users(new), rows)
        whole = PairSums.of(after, window=WINDOW, decay=DECAY, fade=FADE, together=True)
        assert (sums.followed != whole.followed).nnz == 0
        assert (sums.together != whole.together).nnz == 0
        assert sums.followed.nnz == whole.followed.nnz
        assert sums.together.nnz == whole.together.nnz
        assert sums.together.dtype == whole.together.dtype
        before = after


@settings(deadline=None, max_examples=150)
@given(DAYS, ORDERS, st.lists(st.tuples(st.integers(0, 7), st.integers(0, 15)), max_size=6))
def test_how_many_had_both_is_said_by_sums_as_it_is_counted(days, order, pairs):
    log = log_of(days[0], order, False)
    shape = 2 * log.n_items, log.n_items
    rows, columns = (np.array([pair[axis] % shape[axis] for pair in pairs], int) for axis in (0, 1))
    whole = csr_matrix((np.ones(len(pairs), np.float32), (rows, columns)), shape)
    halves = [csr_matrix(whole[: log.n_items]), csr_matrix(whole[log.n_items :])]
    partners = WeightedPartners.of([(half, 0.5) for half in halves], log.n_items)
    told = support(log, partners, PairSums.of(log, together=True))
    assert told.tolist() == support(log, partners).tolist()
    assert len(told) == len(set(zip(rows, columns, strict=True)))


@settings(deadline=None, max_examples=150)
@given(DAYS, ORDERS, ORDERS)
def test_changed_users(days, first, second):
    before, after = log_of(days[0], first, True), log_of(days[-1], second, True)
    old, new = changed_users(before, after, after.items.rows(before.items.array).astype(np.int64))

    def told(log):
        return {
            key: [
                (log.items.id(log.item[n]), int(log.timestamp[n]), float(log.strength[n]))
                for n in range(log.offsets[u], log.offsets[u + 1])
            ]
            for u, key in enumerate(log.users.array.to_pylist())
        }

    left, right = told(before), told(after)
    assert {before.users.id(u) for u in old} == {key for key, own in left.items() if right.get(key) != own}
    assert {after.users.id(u) for u in new} == {key for key, own in right.items() if left.get(key) != own}


def test_a_kind_without_strength_counts_one():
    log = log_of({"a": [(0, 0, 1.0), (1, 1, 1.0)]}, range(8), True)
    plain = replace(log, strength=None)
    old, new = changed_users(log, plain, np.arange(8))
    assert not len(old)
    assert not len(new)


def test_sums_come_back_as_they_were():
    log = log_of({"a": [(0, 0, 1.0), (1, 1, 0.35), (0, 2, 1.0)], "b": [(1, 0, 1.0), (2, 1, 1.0)]}, range(8), True)
    sums = PairSums.of(log, window=WINDOW, decay=DECAY, fade=FADE, together=True)
    back = PairSums.of_tensors(sums.to_tensors())
    assert (back.window, back.decay, back.fade) == (WINDOW, DECAY, FADE)
    assert (back.followed != sums.followed).nnz == (back.together != sums.together).nnz == 0
    assert sums.size == sum(array.nbytes for name, array in sums.to_tensors().items() if name != "order")
    former = PairSums.of_tensors(sums.to_tensors() | {"order": np.array([WINDOW, DECAY])})
    assert (former.window, former.decay, former.fade) == (WINDOW, DECAY, 0)
    nothing = PairSums.of_tensors(PairSums().to_tensors())
    assert nothing.followed is nothing.together is None
