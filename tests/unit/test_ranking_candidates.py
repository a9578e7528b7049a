"""Candidates from two lists: the first places are those of a full scan, and no list is read further than needed."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molar_indexes.users import UserRecord
from molar_retrieval.ranking import candidates, item_store
from molar_retrieval.ranking.candidates import Candidates, find, products, source_of
from molar_retrieval.ranking.filters import Exists, Expression
from molar_retrieval.ranking.index_protocol import IndexSpec, SparseVector
from molar_retrieval.ranking.item_store import ItemStore, SparseItemIndex
from molar_retrieval.ranking.objectives import Slots
from molar_retrieval.ranking.query import Query, ResolvedQuery
from molar_retrieval.rng import generator

ONE = SparseVector([0], [1.0])
USER = UserRecord("", [1.0], [], ONE)
EVERYTHING = Exists("item_id")


class Lists:
    """An index of one dense number and one partner weight an item; equal scores come by row, as an index must."""

    def __init__(self, dense: list[float], neighbors: list[float], newcomers: dict[int, float] | None = None) -> None:
        self.spec = IndexSpec({"aligned": 1} | ({"cold_start": 1} if newcomers else {}), sparse=("item_item",))
        self.lists: dict[str, dict[int, float]] = {
            "aligned": {row: x for row, x in enumerate(dense) if row not in (newcomers or {})},
            "item_item": {row: x for row, x in enumerate(neighbors) if x},
            "cold_start": newcomers or {},
        }
        self.depths: dict[str, list[int]] = {"aligned": [], "item_item": [], "cold_start": []}
        rows = np.flatnonzero(neighbors)
        wide = np.array(dense, np.float32)
        wide[list(newcomers or {})] = list((newcomers or {}).values())
        newcomer = np.isin(np.arange(len(dense)), list(newcomers or {}))
        self.table = ItemStore(
            wide[:, None],
            ~newcomer,
            newcomer,
            SparseItemIndex(
                np.array([0, len(rows)]), rows.astype(np.int32), np.array(neighbors, np.float32)[rows], 9 * rows
            ),
            *[np.zeros((len(dense), 0), np.float32)] * 3,
            {"own": (0, 1)},
            {"item_item": (0, 1)},
        )

    def __len__(self) -> int:
        return len(self.table)

    def top(self, name: str, query: Any, k: int, *, exclude: Collection[int], where: Any) -> list[tuple[int, float]]:
        self.depths[name].append(k)
        left = [(row, score) for row, score in self.lists[name].items() if row not in exclude]
        return sorted(left, key=lambda pair: (-pair[1], pair[0]))[:k]

    def tops(self, searches: Sequence[Any], **limits: Any) -> list[list[tuple[int, float]]]:
        return [self.top(*search, **limits) for search in searches]


def asked(index: Lists, k: int, size: int, places: Slots, user: UserRecord = USER, **limits: Any) -> Candidates:
    request = ResolvedQuery(Query(k=k), user, **limits)
    (dense,) = products(index.table, [request])
    source = source_of(index, index.table, request, dense)  # type: ignore[arg-type]
    return find(index, places, source, request, size)  # type: ignore[arg-type]


def found(
    index: Lists, k: int, size: int, hidden: Collection[int] = (), where: Expression | None = None
) -> list[tuple[int, float]]:
    best = asked(index, k, size, (), hidden=frozenset(hidden), where=where)
    return list(zip(best.rows.tolist(), best.scores.tolist(), strict=True))


def oracle(dense: list[float], neighbors: list[float], hidden: Collection[int] = ()) -> list[tuple[int, float]]:
    sums = [(row, a + b) for row, (a, b) in enumerate(zip(dense, neighbors, strict=True)) if row not in hidden]
    return sorted(sums, key=lambda pair: (-pair[1], pair[0]))


# Few distinct values, so that equal sums abound.
pairs = st.lists(st.tuples(st.integers(-4, 4).map(float), st.integers(-3, 5).map(float)), min_size=1, max_size=60)


@given(
    pairs,
    st.integers(1, 70),
    st.integers(0, 30),
    st.integers(1, 20),
    st.sets(st.integers(0, 60)),
    st.sampled_from([None, EVERYTHING]),
    st.sampled_from([0, 100]),
    st.sampled_from([0, 1000]),
)
def test_the_first_places_are_those_of_a_full_scan(
    items: list[tuple[float, float]],
    k: int,
    more: int,
    depth: int,
    hidden: set[int],
    where: Expression | None,
    few: int,
    scanned: int,
) -> None:
    dense, neighbors = [a for a, _ in items], [b for _, b in items]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "DEPTH", depth)
        patch.setattr(candidates, "TOP", 1)
        patch.setattr(item_store, "_FEW", few)
        patch.setattr(candidates, "MOST_SCANNED", scanned)
        best = found(Lists(dense, neighbors), k, k + more, hidden, where)
    wanted = oracle(dense, neighbors, hidden)
    assert best[:k] == wanted[:k]
    assert set(best) <= set(wanted)
    assert len(best) <= k + more


@given(pairs, st.integers(1, 70), st.integers(0, 30), st.integers(1, 20), st.sets(st.integers(0, 60)))
def test_the_first_places_are_those_of_a_full_scan_where_the_index_holds_no_partners(
    items: list[tuple[float, float]], k: int, more: int, depth: int, hidden: set[int]
) -> None:
    dense, neighbors = [a for a, _ in items], [b for _, b in items]
    others = set(range(0, len(items), 2))
    index = Lists(dense, neighbors)
    index.spec = IndexSpec({"aligned": 1})
    index.lists["aligned"] = {row: own for row, own in index.lists["aligned"].items() if row not in others}
    request = ResolvedQuery(Query(k=k), USER, hidden=frozenset(hidden), where=EVERYTHING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "DEPTH", depth)
        patch.setattr(candidates, "_BESIDE", depth)
        patch.setattr(candidates, "TOP", 1)
        source = source_of(index, index.table, request, fulfilling=lambda rows: rows % 2 == 1)  # type: ignore[arg-type]
        best = find(index, (), source, request, k + more)  # type: ignore[arg-type]
    wanted = oracle(dense, neighbors, hidden | others)
    found = list(zip(best.rows.tolist(), best.scores.tolist(), strict=True))
    assert found[:k] == wanted[:k]
    assert set(found) <= set(wanted)
    assert index.depths["item_item"] == []


def made(n: int, kinship: float) -> Lists:
    rng = generator(0, "candidates", kinship)
    base = rng.normal(size=n)
    other = abs(kinship * base + (1 - kinship) * rng.normal(size=n))
    return Lists(base.astype(np.float32).tolist(), other.astype(np.float32).tolist())


def test_lists_that_agree_are_read_no_further() -> None:
    index = made(20_000, 1.0)
    found(index, 10, 10, where=EVERYTHING)
    assert index.depths == {"aligned": [200], "item_item": [200], "cold_start": []}


def test_partners_are_searched_only_under_a_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    index = made(20_000, 1.0)
    found(index, 10, 10)
    assert index.depths == {"aligned": [], "item_item": [], "cold_start": []}
    monkeypatch.setattr(candidates, "MOST_SCANNED", 0)
    found(index, 10, 10)
    assert index.depths == {"aligned": [200], "item_item": [], "cold_start": []}


def test_unrelated_lists_are_read_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "DEPTH", 16)
    monkeypatch.setattr(candidates, "MOST_SCANNED", 0)
    index = made(20_000, 0.0)
    dense, neighbors = (index.lists[name] for name in ("aligned", "item_item"))
    sums = {row: dense[row] + neighbors[row] for row in dense}
    best = found(index, 10, 10, where=EVERYTHING)
    assert [row for row, _ in best] == sorted(sums, key=lambda row: (-sums[row], row))[:10]
    assert index.depths["aligned"] == [20, 80, 320, 1280][: len(index.depths["aligned"])]
    assert 1 < len(index.depths["aligned"]) < 5


@pytest.mark.parametrize(("where", "beside", "least"), [(None, 5_000, 200), (None, 500, 150), (EVERYTHING, 500, 150)])
def test_what_has_a_sparse_product_is_scored_whole(
    monkeypatch: pytest.MonkeyPatch, where: Expression | None, beside: int, least: int
) -> None:
    """Then all of the candidates are the best; nearly all, where that is too much work or the index judges."""
    monkeypatch.setattr(candidates, "MOST_SCANNED", 0)
    monkeypatch.setattr(candidates, "_BESIDE", beside)
    index = made(5_000, 0.3)
    wanted = oracle(list(index.lists["aligned"].values()), list(index.lists["item_item"].values()))[:200]
    best = found(index, 10, 200, where=where)
    assert len(best) == 200
    assert len(set(row for row, _ in best) & set(row for row, _ in wanted)) >= least
    assert index.depths["aligned"][0] == (200 if where is None else 400)


def test_newcomers_are_merged_in_and_marked() -> None:
    index = Lists([float(-n) for n in range(40)], [0.0] * 40, {3: 100.0, 8: 90.0})
    best = asked(index, 10, 20, (10,))
    assert best.rows.tolist()[:11] == [0, 1, 2, 4, 5, 6, 7, 9, 10, 3, 11]
    assert best.cold[9]
    assert best.scores[9] == pytest.approx(-10.5)
    assert (best.lift[~best.cold] == 0).all()


def test_a_user_without_partners_asks_one_list() -> None:
    index = made(500, 0.5)
    best = asked(index, 5, 5, (), UserRecord("", [1.0], []))
    dense = index.lists["aligned"]
    assert best.rows.tolist() == sorted(dense, key=lambda row: (-dense[row], row))[:5]
    assert index.depths["item_item"] == []
    assert (best.parts[:, 1] == 0).all()


def test_dimensions_that_no_item_has_count_nothing() -> None:
    index = made(50, 0.5)
    odd = SparseVector([0, 7, 2**31 - 1], [1.0, 5.0, 5.0])
    assert np.array_equal(index.table.split([1.0], odd, np.arange(50)), index.table.split([1.0], ONE, np.arange(50)))


def test_parts_are_products_over_their_ranges() -> None:
    rng = generator(0, "parts")
    dense, weights = rng.normal(size=(30, 8)).astype(np.float32), rng.normal(size=(30, 100)).astype(np.float32)
    weights[rng.random((30, 100)) < 0.8] = 0
    dimensions, rows = np.nonzero(weights.T)
    starts = np.concatenate([[0], np.cumsum(np.bincount(dimensions, minlength=100))])
    neighbors = SparseItemIndex(starts, rows.astype(np.int32), weights.T[dimensions, rows], rows)
    spans, sparse_spans = {"a": (0, 3), "b": (3, 8)}, {"c": (0, 40), "d": (40, 100)}
    known = np.ones(30, bool)
    table = ItemStore(dense, known, ~known, neighbors, *[np.zeros((30, 0), np.float32)] * 3, spans, sparse_spans)
    user, at = rng.normal(size=8), np.sort(rng.choice(100, 20, replace=False))
    reading = np.zeros(100)
    reading[at] = rng.normal(size=20)
    some = np.array([29, 4, 11])
    split = table.split(user.tolist(), SparseVector(at.tolist(), reading[at].tolist()), some)
    wanted = [dense[some][:, a:b] @ user[a:b] for a, b in spans.values()]
    wanted += [weights[some][:, a:b] @ reading[a:b] for a, b in sparse_spans.values()]
    assert table.names == ("a", "b", "c", "d")
    assert split == pytest.approx(np.stack(wanted, axis=1), abs=1e-6)


def test_an_empty_index_has_no_candidates() -> None:
    index = Lists([], [])
    assert found(index, 5, 5) == []


def test_equal_items_come_by_row_wherever_they_are_cut_off() -> None:
    """A product of matrices in single precision may score them differently, as they stand in other lanes of it."""
    random = generator(0, "equal items")
    nothing = np.zeros((503, 0), np.float32)
    for dim in (17, 64, 99, 130, 255):
        dense = random.normal(size=(503, dim)).astype(np.float32)
        twins = np.append(np.sort(random.choice(500, 40, replace=False)), [500, 501, 502])
        vector = random.normal(size=dim).astype(np.float32)
        dense[twins] = 3 * vector  # the best by far, all of them
        sparse = SparseItemIndex(np.zeros(1, np.int64), *[np.zeros(0, np.int32)] * 3)
        known = np.ones(503, bool)
        store = ItemStore(dense, known, ~known, sparse, nothing, nothing, nothing, {"own": (0, dim)}, {})
        for k in range(10, 40):
            request = ResolvedQuery(Query(k=k), UserRecord("", vector.tolist(), [], SparseVector((), ())))
            (scores,) = products(store, [request])
            scores *= 1 + 1e-7 * random.normal(size=503).astype(np.float32)  # as another processor may round them
            source = source_of(None, store, request, scores)
            rows = find(Lists([1.0], [0.0]), 0, source, request, k).rows  # type: ignore[arg-type]
            assert rows.tolist() == twins[:k].tolist()
