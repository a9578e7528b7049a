"""Order and duplicates of a log against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.data.interactions import RawInteractions, holdout_last, ordered, to_csr, without_duplicates
from molar_retrieval.ids import IdMap

SMALL = st.integers(0, 3)
ROWS = st.lists(st.tuples(SMALL, SMALL, SMALL, st.none() | SMALL, st.integers(0, 1)), max_size=40)


def _raw(rows, times=True, positions=True, events=True):
    user, item, micros, position, event = zip(*rows, strict=True) if rows else [()] * 5
    return RawInteractions(
        user=np.array(user, np.int32),
        item=np.array(item, np.int32),
        micros=np.array(micros, np.int64) if times else None,
        position=np.array([np.nan if p is None else p for p in position]) if positions else None,
        weight=np.arange(len(rows), dtype=np.float32),
        event=np.array(event, np.int32) if events else None,
    )


@settings(deadline=None, max_examples=300)
@given(ROWS, st.booleans(), st.booleans(), st.booleans())
def test_order_and_duplicates(rows, times, positions, events):
    def key(i):
        user, _, micros, position, _ = rows[i]
        late = (position is None, position or 0) if positions else ()
        return (user, micros if times else 0, *late, i)

    expected, seen = [], set()
    for i in sorted(range(len(rows)), key=key):
        user, item, micros, _, event = rows[i]
        what = (user, item, micros, event if events else 0)
        if not times or what not in seen:
            expected.append(i)
        seen.add(what)
    found = without_duplicates(ordered(_raw(rows, times, positions, events)))
    assert found.weight.astype(int).tolist() == expected
    assert found.item.tolist() == [rows[i][1] for i in expected]


@settings(deadline=None, max_examples=200)
@given(ROWS, st.integers(1, 4), st.integers(0, 9))
def test_holdout_and_matrix(rows, most, seed):
    raw = ordered(_raw(rows, positions=False))
    log = raw.grouped(IdMap(list("uvwx")), IdMap(list("abcd")))
    histories = [[item for user, item in zip(raw.user, raw.item, strict=True) if user == u] for u in range(4)]
    assert [log.history(u).tolist() for u in range(4)] == histories
    fit = [u for u, h in enumerate(histories) if len(h) >= 3 and h[-1] not in h[:-1]]
    split = holdout_last(log, most, seed)
    assert len(split) == min(most, len(fit))
    assert set(split.users.tolist()) <= set(fit)
    for u in range(4):
        held = u in split.users
        assert split.training.history(u).tolist() == (histories[u][:-1] if held else histories[u])
    assert [histories[u][-1] for u in split.users] == split.targets.tolist()
    dense = np.zeros((4, 4), np.float32)
    np.add.at(dense, (raw.user, raw.item), raw.weight)
    assert np.array_equal(to_csr(log).toarray(), dense)
