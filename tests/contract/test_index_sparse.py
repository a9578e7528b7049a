"""Sparse vectors: every backend against sums in plain Python."""

import math
from array import array
from collections.abc import Callable

import numpy as np
import pytest

from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.ranking.filters import Between, Equals, Expression, Not, matches
from molar_retrieval.ranking.index_protocol import Index, IndexItem, IndexSpec, SparseVector
from molar_retrieval.rng import generator

Plus = dict[str, SparseVector]
Build = Callable[[IndexSpec, list[IndexItem]], Index]

DIM, WIDTH, N = 12, 400, 700
SPEC = IndexSpec(
    {"aligned": DIM, "cold_start": DIM}, {"year": "integer"}, sparse=("item_item", "brands"), lengths={"aligned": 0.5}
)


def sparse(rng: np.random.Generator, count: int, width: int = WIDTH) -> SparseVector:
    indices = np.sort(rng.choice(width, count, replace=False))
    return SparseVector(indices.tolist(), rng.normal(0.3, size=count).astype(np.float32).tolist())


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    """Items of all kinds: without the dense vector, without one or both sparse ones, with sparse vectors of zeros."""
    rng = generator(0, "sparse items")
    found = []
    for row in range(N):
        name = "cold_start" if row % 13 == 5 else "aligned"
        vectors = {} if row == 40 else {name: rng.normal(size=DIM).astype(np.float32).tolist()}
        own: Plus = {"item_item": sparse(rng, 30), "brands": sparse(rng, 3, 60)}
        if row % 7 == 3:
            del own["item_item"]
        if row % 5 == 1:
            own["brands"] = SparseVector([2, 9], [0.0, 0.0]) if row % 2 else SparseVector([], [])
        found.append(IndexItem(row, f"item {row}", vectors, {"year": 1990 + row % 20}, own))
    return found


def question(seed: int) -> SparseVector:
    return sparse(generator(seed, "question"), 40)


def expected(
    items: list[IndexItem], query: SparseVector, k: int, hidden: set[int], where: Expression | None
) -> list[tuple[int, float]]:
    scored = []
    for item in items:
        own = dict(zip(*item.sparse["item_item"], strict=True)) if "item_item" in item.sparse else {}
        shared = [(own[i], v) for i, v in zip(*query, strict=True) if v and own.get(i)]
        if shared and item.row not in hidden and (where is None or matches(where, item.payload)):
            scored.append((item.row, sum(left * right for left, right in shared)))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


def assert_agree(
    index: Index,
    items: list[IndexItem],
    k: int = 10,
    hidden: set[int] | None = None,
    where: Expression | None = None,
    seed: int = 0,
) -> None:
    found = index.top("item_item", question(seed), k, exclude=hidden or set(), where=where)
    wanted = expected(items, question(seed), k, hidden or set(), where)
    assert [row for row, _ in found] == [row for row, _ in wanted]
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted], rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("k", [1, 10, 100, N - 60, N, 5 * N])
def test_the_best_products_of_items_that_share_a_dimension(index: Index, items: list[IndexItem], k: int) -> None:
    for seed in range(4):
        assert_agree(index, items, k, seed=seed)


@pytest.mark.parametrize("where", [None, Equals("year", 1993), Between("year", gte=2000), Not(Equals("year", 1993))])
@pytest.mark.parametrize("hidden", [set(), set(range(0, N, 2)), set(range(10, N))], ids=len)
def test_conditions_and_exclusions(
    index: Index, items: list[IndexItem], hidden: set[int], where: Expression | None
) -> None:
    for seed, k in ((1, 10), (2, N)):
        assert_agree(index, items, k, hidden, where, seed)


@pytest.mark.parametrize("query", [SparseVector([], []), SparseVector([3, 5], [0.0, 0.0])], ids=["empty", "zeros"])
def test_nothing_is_shared_with_nothing(index: Index, query: SparseVector) -> None:
    assert index.top("item_item", query, 20) == []


def test_dimensions_that_no_item_has(index: Index, items: list[IndexItem]) -> None:
    assert index.top("item_item", SparseVector([WIDTH + 5, 2**31 - 1], [1.0, 2.0]), 20) == []
    query = question(6)
    wider = SparseVector([*query.indices, WIDTH + 5], [*query.values, 9.0])
    assert index.top("item_item", wider, 20) == index.top("item_item", query, 20)


@pytest.mark.parametrize("kind", [np.asarray, tuple, lambda v: array("i" if isinstance(v[0], int) else "f", v)])
def test_queries_of_any_kind(index: Index, kind: Callable[[object], list[float]]) -> None:
    query = question(7)
    other = SparseVector(kind(query.indices), kind(query.values))
    assert index.top("item_item", other, 10) == index.top("item_item", query, 10)


def test_equal_products_come_by_row(build: Build) -> None:
    given = [
        IndexItem(row, str(row), {"v": [1.0]}, {}, {"s": SparseVector([7], [3.0 - (row % 4 == 3)])})
        for row in range(120)
    ]
    index = build(IndexSpec({"v": 1}, sparse=("s",)), given)
    best, rest = [r for r in range(120) if r % 4 != 3], [r for r in range(120) if r % 4 == 3]
    for k in (1, 7, 89, 90, 91, 120, 200):
        assert [row for row, _ in index.top("s", SparseVector([7], [1.0]), k)] == (best + rest)[:k]


def test_sparse_vectors_come_back_without_their_zeros(index: Index, items: list[IndexItem]) -> None:
    def stored(item: IndexItem) -> dict[str, tuple[list[int], list[float]]]:
        return {n: (list(v.indices), list(v.values)) for n, v in item.sparse.items() if any(v.values)}

    for hit in index.fetch(range(50), vectors=["brands", "item_item", "aligned"]):
        assert {n: (list(v.indices), list(v.values)) for n, v in hit.sparse.items()} == stored(items[hit.row])
        assert set(hit.vectors) == {"aligned"} & set(items[hit.row].vectors)
        assert all(type(x) is int for v in hit.sparse.values() for x in v.indices)
        assert all(type(x) is float for v in hit.sparse.values() for x in v.values)
    assert index.fetch([0])[0].sparse == {}
    assert index.fetch([0], vectors=["aligned"])[0].sparse == {}


@pytest.mark.parametrize(
    ("name", "indices", "values", "word"),
    [
        ("item_ite", [1], [1.0], "item_item"),
        ("item_item", [1, 1], [1.0, 1.0], "ascend"),
        ("item_item", [2, 1], [1.0, 1.0], "ascend"),
        ("item_item", [-1, 1], [1.0, 1.0], "outside"),
        ("item_item", [1, 2**31], [1.0, 1.0], "outside"),
        ("item_item", [1, 2], [1.0], "2 dimensions and 1 numbers"),
        ("item_item", [1, 2], [1.0, math.nan], "finite"),
        ("item_item", [1, 2], [1.0, 1e39], "finite"),
    ],
)
def test_sparse_vectors_that_do_not_fit_are_refused(
    index: Index, build: Build, name: str, indices: list[int], values: list[float], word: str
) -> None:
    vector = SparseVector(indices, values)
    with pytest.raises(RequestError) as request_error:
        index.top(name, vector, 5)
    assert word in f"{request_error.value.message} {request_error.value.hint}"
    with pytest.raises(DataError) as data_error:
        build(SPEC, [IndexItem(0, "first", {}, {}, {name: vector})])
    assert "'first'" in data_error.value.message
    assert word in f"{data_error.value.message} {data_error.value.hint}"


def test_dense_and_sparse_queries_keep_to_their_names(index: Index) -> None:
    with pytest.raises(RequestError, match="'item_item' is sparse and the query dense"):
        index.top("item_item", [1.0], 5)
    with pytest.raises(RequestError, match="'aligned' is dense and the query sparse"):
        index.top("aligned", question(0), 5)


def test_an_empty_index(build: Build) -> None:
    index = build(SPEC, [])
    assert index.top("item_item", question(0), 5, exclude=[1], where=Equals("year", 1)) == []
