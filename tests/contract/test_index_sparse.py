"""Sums of a dense and of sparse dot products: every backend against sums in plain Python."""

import math
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from molar_indexes import threshold
from molar_indexes.backends import build_index
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.expressions import Between, Equals, Expression, Not, matches
from molar_retrieval.index import Index, IndexItem, IndexSpec, SparseVector
from molar_retrieval.rng import generator

Plus = dict[str, SparseVector]
Build = Callable[[IndexSpec, list[IndexItem]], Index]

DIM, WIDTH, N = 12, 400, 700
SPEC = IndexSpec({"aligned": DIM, "newcomers": DIM}, {"year": "integer"}, sparse=("partners", "brands"))


def sparse(rng: np.random.Generator, count: int, width: int = WIDTH) -> SparseVector:
    indices = np.sort(rng.choice(width, count, replace=False))
    return SparseVector(indices.tolist(), rng.normal(0.3, size=count).astype(np.float32).tolist())


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    """Items of all kinds: without the dense vector, without one or both sparse ones, with sparse vectors of zeros."""
    rng = generator(0, "sparse items")
    found = []
    for row in range(N):
        name = "newcomers" if row % 13 == 5 else "aligned"
        vectors = {} if row == 40 else {name: rng.normal(size=DIM).astype(np.float32).tolist()}
        own: Plus = {"partners": sparse(rng, 30), "brands": sparse(rng, 3, 60)}
        if row % 7 == 3:
            del own["partners"]
        if row % 5 == 1:
            own["brands"] = SparseVector([2, 9], [0.0, 0.0]) if row % 2 else SparseVector([], [])
        found.append(IndexItem(row, f"item {row}", vectors, {"year": 1990 + row % 20}, own))
    return found


def question(seed: int, weight: float = 1.0) -> tuple[list[float], Plus]:
    rng = generator(seed, "question")
    partners, brands = sparse(rng, 40), sparse(rng, 5, 60)
    heavier = SparseVector(partners.indices, [weight * v for v in partners.values])
    return rng.normal(size=DIM).tolist(), {"partners": heavier, "brands": brands}


def dot(left: Mapping[int, float], right: SparseVector) -> float:
    return sum(left.get(i, 0.0) * v for i, v in zip(*right, strict=True))


def expected(
    items: list[IndexItem], vector: list[float], plus: Plus, k: int, hidden: set[int], where: Expression | None
) -> list[tuple[int, float]]:
    scored = []
    for item in items:
        if "aligned" not in item.vectors or item.row in hidden or not (where is None or matches(where, item.payload)):
            continue
        score = sum(float(np.float32(q)) * x for q, x in zip(vector, item.vectors["aligned"], strict=True))
        for name, query in plus.items():
            if name in item.sparse:
                score += dot(dict(zip(*item.sparse[name], strict=True)), query)
        scored.append((item.row, score))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


def assert_agree(
    index: Index,
    items: list[IndexItem],
    k: int = 10,
    hidden: set[int] | None = None,
    where: Expression | None = None,
    seed: int = 0,
    weight: float = 1.0,
) -> None:
    vector, plus = question(seed, weight)
    hits = index.search("aligned", vector, k, plus=plus, exclude=hidden or set(), where=where)
    wanted = expected(items, vector, plus, k, hidden or set(), where)
    assert [hit.row for hit in hits] == [row for row, _ in wanted]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted], rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("depth", [2, 40, 256])
@pytest.mark.parametrize("weight", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_the_best_sums(
    index: Index, items: list[IndexItem], k: int, weight: float, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threshold, "FIRST_DEPTH", depth)
    for seed in range(4):
        assert_agree(index, items, k, seed=seed, weight=weight)


@pytest.mark.parametrize("k", [N - 60, N, 5 * N])
def test_everything_comes_back_in_order(index: Index, items: list[IndexItem], k: int) -> None:
    assert_agree(index, items, k)


@pytest.mark.parametrize("where", [None, Equals("year", 1993), Between("year", gte=2000), Not(Equals("year", 1993))])
@pytest.mark.parametrize("hidden", [set(), set(range(0, N, 2)), set(range(10, N))], ids=len)
def test_conditions_and_exclusions_act_on_both(
    index: Index, items: list[IndexItem], hidden: set[int], where: Expression | None
) -> None:
    for seed, k in ((1, 10), (2, N)):
        assert_agree(index, items, k, hidden, where, seed)


def test_the_best_are_excluded_one_after_another(index: Index, items: list[IndexItem]) -> None:
    vector, plus = question(3)
    order = [row for row, _ in expected(items, vector, plus, 60, set(), None)]
    for begin in range(0, 50, 10):
        hits = index.search("aligned", vector, 10, plus=plus, exclude=iter(order[:begin]))
        assert [hit.row for hit in hits] == order[begin : begin + 10]


def test_a_dense_query_of_zeros_leaves_the_sparse_order(index: Index, items: list[IndexItem]) -> None:
    _, plus = question(4)
    for k in (5, N):
        hits = index.search("aligned", [0.0] * DIM, k, plus=plus)
        wanted = expected(items, [0.0] * DIM, plus, k, set(), None)
        assert [hit.row for hit in hits] == [row for row, _ in wanted]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted], abs=1e-5)


@pytest.mark.parametrize(
    "plus",
    [None, {}, {"partners": SparseVector([], [])}, {"partners": SparseVector([3, 5], [0.0, 0.0])}],
    ids=["none", "no name", "empty", "zeros"],
)
def test_nothing_sparse_is_the_dense_search(index: Index, plus: Plus | None) -> None:
    vector, _ = question(5)
    plain = [(hit.row, hit.score) for hit in index.search("aligned", vector, 20)]
    assert [(hit.row, hit.score) for hit in index.search("aligned", vector, 20, plus=plus)] == plain


def test_dimensions_that_no_item_has(index: Index, items: list[IndexItem]) -> None:
    vector, _ = question(6)
    plus = {"partners": SparseVector([WIDTH + 5, 2**31 - 1], [1.0, 2.0])}
    plain = [hit.row for hit in index.search("aligned", vector, 20)]
    assert [hit.row for hit in index.search("aligned", vector, 20, plus=plus)] == plain


@pytest.mark.parametrize("kind", [np.asarray, tuple, lambda v: array("i" if isinstance(v[0], int) else "f", v)])
def test_queries_of_any_kind(index: Index, kind: Callable[[object], list[float]]) -> None:
    vector, plus = question(7)
    wanted = [hit.row for hit in index.search("aligned", vector, 10, plus=plus)]
    other = {name: SparseVector(kind(v.indices), kind(v.values)) for name, v in plus.items()}  # type: ignore[arg-type]
    assert [hit.row for hit in index.search("aligned", vector, 10, plus=other)] == wanted


def test_equal_sums_come_by_row(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold, "FIRST_DEPTH", 4)
    given = []
    for row in range(120):  # three ways to make 3, the others make 1
        dense, weight = [(3.0, 0.0), (1.0, 2.0), (2.0, 1.0), (1.0, 0.0)][row % 4]
        given.append(IndexItem(row, str(row), {"v": [dense]}, {}, {"s": SparseVector([7], [weight])}))
    index = build(IndexSpec({"v": 1}, sparse=("s",)), given)
    best, rest = [r for r in range(120) if r % 4 != 3], [r for r in range(120) if r % 4 == 3]
    for k in (1, 7, 89, 90, 91, 120, 200):
        hits = index.search("v", [1.0], k, plus={"s": SparseVector([7], [1.0])})
        assert [hit.row for hit in hits] == (best + rest)[:k]


def test_only_sparse_items_are_never_found(build: Build) -> None:
    given = [IndexItem(0, "a", {"v": [1.0]}, {}), IndexItem(1, "b", {}, {}, {"s": SparseVector([0], [9.0])})]
    index = build(IndexSpec({"v": 1}, sparse=("s",)), given)
    (hit,) = index.search("v", [1.0], 5, plus={"s": SparseVector([0], [1.0])})
    assert (hit.item_id, hit.score) == ("a", 1.0)


def test_sparse_vectors_come_back_without_their_zeros(index: Index, items: list[IndexItem]) -> None:
    def stored(item: IndexItem) -> dict[str, tuple[list[int], list[float]]]:
        return {n: (list(v.indices), list(v.values)) for n, v in item.sparse.items() if any(v.values)}

    vector, plus = question(8)
    hits = index.search("aligned", vector, 30, plus=plus, vectors=["partners", "aligned", "brands"])
    for hit in [*hits, *index.fetch([0, 1, 3, 5, 6, 40], vectors=["brands", "partners", "aligned"])]:
        assert {n: (list(v.indices), list(v.values)) for n, v in hit.sparse.items()} == stored(items[hit.row])
        assert set(hit.vectors) == {"aligned"} & set(items[hit.row].vectors)
        assert all(type(x) is int for v in hit.sparse.values() for x in v.indices)
        assert all(type(x) is float for v in hit.sparse.values() for x in v.values)
    assert index.fetch([0])[0].sparse == {}
    assert index.fetch([0], vectors=["aligned"])[0].sparse == {}


@pytest.mark.parametrize(
    ("name", "indices", "values", "word"),
    [
        ("partner", [1], [1.0], "partners"),
        ("aligned", [1], [1.0], "'aligned'"),
        ("partners", [1, 1], [1.0, 1.0], "ascend"),
        ("partners", [2, 1], [1.0, 1.0], "ascend"),
        ("partners", [-1, 1], [1.0, 1.0], "outside"),
        ("partners", [1, 2**31], [1.0, 1.0], "outside"),
        ("partners", [1, 2], [1.0], "2 dimensions and 1 numbers"),
        ("partners", [1, 2], [1.0, math.nan], "finite"),
        ("partners", [1, 2], [1.0, 1e39], "finite"),
    ],
)
def test_sparse_vectors_that_do_not_fit_are_refused(
    index: Index, backend: str, tmp_path: Path, name: str, indices: list[int], values: list[float], word: str
) -> None:
    vector = {name: SparseVector(indices, values)}
    with pytest.raises(RequestError) as request_error:
        index.search("aligned", [1.0] * DIM, 5, plus=vector)
    assert word in f"{request_error.value.message} {request_error.value.hint}"
    with pytest.raises(DataError) as data_error:
        build_index(tmp_path / "i", backend, SPEC, [IndexItem(0, "first", {}, {}, vector)])
    assert "'first'" in data_error.value.message
    assert word in f"{data_error.value.message} {data_error.value.hint}"


def test_a_sparse_name_cannot_be_searched_alone(index: Index) -> None:
    with pytest.raises(RequestError, match="no vector 'partners'"):
        index.search("partners", [1.0], 5)


def test_an_empty_index(build: Build) -> None:
    index = build(SPEC, [])
    vector, plus = question(0)
    assert index.search("aligned", vector, 5, plus=plus) == []
    assert index.search("aligned", vector, 5, plus=plus, exclude=[1], where=Equals("year", 1)) == []
