"""The same questions to every index backend; the answers are worked out here, by hand or in plain Python."""

import math
import threading
from array import array
from collections.abc import Callable

import numpy as np
import pytest

from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.ranking.filters import And, Between, Equals, Expression, Not, OneOf, Or, matches
from molar_retrieval.ranking.index_protocol import Index, IndexItem, IndexSpec

Build = Callable[[IndexSpec, list[IndexItem]], Index]

DIMS = {"aligned": 16, "content": 24, "als": 8}
FIELDS = {"brand": "keyword", "tags": "keyword", "year": "integer", "price": "float", "new": "bool"}
SPEC = IndexSpec(DIMS, FIELDS, lengths={"aligned": 9.0})
WEIRD_IDS = [
    "007",
    "7",
    "a b",
    "a/b",
    "../x",
    "é",
    "e\u0301",
    "商品",
    "🧦",
    "-1",
    "x" * 300,
    "",
    "%2F",
    '"quoted"',
    "null",
]
N = 300


def payload(row: int) -> dict[str, object]:
    fields: dict[str, object] = {"title": f"Item № {row}", "brand": f"brand {row % 7}", "year": 1990 + row % 30}
    fields["price"] = row / 4
    fields["new"] = row % 3 == 0
    fields["tags"] = [t for n, t in enumerate(["red", "wool", "größe", "été 🌞"]) if row >> n & 1]
    fields["stock"] = row % 5  # a field without an index
    if row % 11 == 0:
        fields["brand"] = fields["price"] = None
    return fields


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    rng = np.random.default_rng(3)
    found = []
    for row in range(N):
        vectors = {name: rng.normal(size=dim).astype(np.float32).tolist() for name, dim in DIMS.items()}
        if row % 10 == 4:
            del vectors["content"]
        if row == 17:
            vectors = {}
        item_id = WEIRD_IDS[row] if row < len(WEIRD_IDS) else f"item {row}"
        found.append(IndexItem(row, item_id, vectors, payload(row)))
    return found


def query(name: str, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(size=DIMS[name]).tolist()


def expected(
    items: list[IndexItem], name: str, vector: list[float], k: int, hidden: set[int], where: Expression | None
) -> list[tuple[int, float]]:
    wide = np.asarray(vector, np.float32).astype(np.float64)
    scored = [
        (float(np.asarray(i.vectors[name], np.float64) @ wide), i.row)
        for i in items
        if name in i.vectors and i.row not in hidden and (where is None or matches(where, dict(i.payload)))
    ]
    return [(row, score) for score, row in sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:k]]


def assert_agree(
    index: Index,
    items: list[IndexItem],
    name: str = "aligned",
    k: int = 10,
    hidden: set[int] | None = None,
    where: Expression | None = None,
    seed: int = 0,
) -> None:
    vector = query(name, seed)
    hits = index.top(name, vector, k, exclude=hidden or set(), where=where)
    wanted = expected(items, name, vector, k, hidden or set(), where)
    assert [row for row, _ in hits] == [row for row, _ in wanted]
    assert [score for _, score in hits] == pytest.approx([score for _, score in wanted], abs=1e-5)


def test_length_and_spec(index: Index) -> None:
    assert len(index) == N
    assert index.spec == SPEC
    assert isinstance(index, Index)


@pytest.mark.parametrize("name", DIMS)
@pytest.mark.parametrize("k", [1, 10, N - 1, N, N + 1, 10**9])
def test_best_first_for_every_name_and_k(index: Index, items: list[IndexItem], name: str, k: int) -> None:
    for seed in range(3):
        assert_agree(index, items, name, k, seed=seed)


@pytest.mark.parametrize("hidden", [{0}, {5, 7, 299}, set(range(0, N, 2)), set(range(1, N)), set(range(N))])
def test_excluded_rows_never_come_back(index: Index, items: list[IndexItem], hidden: set[int]) -> None:
    assert_agree(index, items, k=20, hidden=hidden)


def test_exclude_takes_any_iterable_and_unknown_rows(index: Index, items: list[IndexItem]) -> None:
    vector = query("aligned")
    plain = [row for row, _ in index.top("aligned", vector, 5, exclude={1, 2})]
    assert [row for row, _ in index.top("aligned", vector, 5, exclude=iter([1, 2, 2, -1, 10**7]))] == plain
    assert [row for row, _ in index.top("aligned", vector, 5, exclude=array("i", [2, 1]))] == plain


CONDITIONS = [
    Equals("brand", "brand 3"),
    Equals("brand", "BRAND 3"),
    Equals("year", 2000),
    Equals("year", 2000.0),
    Equals("price", 12.25),
    Equals("price", 12),
    Equals("new", True),
    Equals("new", False),
    Equals("new", 1),
    Equals("stock", 3),
    Equals("stock", True),
    Equals("tags", "été 🌞"),
    Equals("title", "Item № 12"),
    Equals("year", 10**30),
    Equals("absent", "x"),
    OneOf("brand", ("brand 1", "brand 2", "nobody")),
    OneOf("year", (1990, 1991, 3000)),
    OneOf("price", (1, 2)),
    OneOf("tags", ("red", "wool")),
    OneOf("stock", (1, "1")),
    OneOf("brand", ()),
    Between("price", gte=10.0, lt=20.5),
    Between("price", gt=10.0, lte=20.5),
    Between("year", gt=2005),
    Between("stock", lte=1),
    Between("price"),
    Between("brand", gte=0),
    Between("new", gte=0),
    Between("price", gte=math.nan),
    Between("price", gte=20, lte=10),
    Not(Equals("brand", "brand 3")),
    Not(Between("price", gte=0)),
    Not(Not(Equals("new", True))),
    And(()),
    Or(()),
    Not(Or(())),
    And((Equals("new", True), Between("price", lt=30), Not(Equals("tags", "red")))),
    Or((Equals("brand", "brand 1"), And((Equals("new", False), Between("year", gte=2015))))),
]


@pytest.mark.parametrize("where", CONDITIONS, ids=str)
def test_conditions(index: Index, items: list[IndexItem], where: Expression) -> None:
    assert_agree(index, items, k=N, where=where)
    assert_agree(index, items, "content", k=7, hidden=set(range(0, N, 3)), where=where)


def test_conditions_on_the_id(index: Index, items: list[IndexItem]) -> None:
    hits = index.top("aligned", query("aligned"), 5, where=OneOf("item_id", ("007", "🧦", "nobody")))
    assert {item.item_id for item in index.fetch([row for row, _ in hits])} == {"007", "🧦"}


def test_field_names_of_any_kind(build: Build) -> None:
    names = ["a.b", "a b", "naïve", "日本", "a[0]", 'say "hi"', "back\\slash", "50%", "%25", "%bool:x", "dash-ed", "1"]
    fields = dict.fromkeys(names, "keyword")
    items = [
        IndexItem(
            row, str(row), {"v": [1.0, float(row)]}, {n: f"{n}{row % 2}" for n in names} | {f"b{names[row]}": True}
        )
        for row in range(len(names))
    ]
    index = build(IndexSpec({"v": 2}, fields), items)
    for name in names:
        hits = index.top("v", [1.0, 1.0], 100, where=Equals(name, f"{name}1"))
        assert sorted(row for row, _ in hits) == [r for r in range(len(names)) if r % 2], name
    for row, name in enumerate(names):
        hits = index.top("v", [1.0, 1.0], 100, where=Equals(f"b{name}", True))
        assert [found for found, _ in hits] == [row]
    assert index.fetch([3])[0].payload == items[3].payload


def test_numbers_come_back_with_15_digits(build: Build) -> None:
    prices = [1.9500000476837158, 1.8057357087081005, 0.1 + 0.2, 1e300, -7.000000000000001, 3.25]
    given = [IndexItem(row, f"i{row}", {"v": [1.0]}, {"price": price}) for row, price in enumerate(prices)]
    index = build(IndexSpec({"v": 1}, {"price": "float"}), given)
    found = [hit.payload["price"] for hit in index.fetch(range(len(prices)))]
    assert found == [float(f"{price:.15g}") for price in prices]


def test_payload_comes_back_as_it_was(build: Build) -> None:
    given = {
        "i": 2**62, "neg": -(2**63), "f": 1.0, "g": 0.1, "big": 1e300, "t": True, "n": False, "s": "", "u": "é🧦\u0000",
        "l": ["a", "b"], "e": [], "li": [1, 2], "lf": [1.0, 2.5], "lb": [True, False], "mixed": [1, "a", 2.5, True],
    }  # fmt: skip
    dropped = {"none": None, "nan": math.nan, "inf": math.inf}
    index = build(IndexSpec({"v": 1}), [IndexItem(0, "x", {"v": [1.0]}, given | dropped | {"holes": ["a", None]})])
    (item,) = index.fetch([0])
    assert item.payload == given | {"holes": ["a"]}
    for key, value in given.items():
        assert type(item.payload[key]) is type(value), key
    assert [type(x) for x in item.payload["mixed"]] == [int, str, float, bool]


def test_vectors_are_returned_on_request(index: Index, items: list[IndexItem]) -> None:
    for item in index.fetch(range(30), vectors=["content", "als"]):
        stored = {n: v for n, v in items[item.row].vectors.items() if n in ("content", "als")}
        assert {n: list(v) for n, v in item.vectors.items()} == stored
    assert index.fetch([0])[0].vectors == {}


def test_fetch_keeps_order_and_leaves_unknown_rows_out(index: Index, items: list[IndexItem]) -> None:
    rows = [250, 3, 10**6, 3, -1, 0, 17]
    hits = index.fetch(rows, vectors=["aligned"])
    assert [h.row for h in hits] == [250, 3, 3, 0, 17]
    assert [h.item_id for h in hits] == [items[r].item_id for r in (250, 3, 3, 0, 17)]
    assert list(hits[0].vectors["aligned"]) == items[250].vectors["aligned"]
    assert hits[-1].vectors == {}
    assert index.fetch([]) == []


def test_rows_of_ids(index: Index) -> None:
    assert index.rows(["🧦", "nobody", "007", "7", "007", "e\u0301", "é", ""]) == [8, None, 0, 1, 0, 6, 5, 11]
    assert index.rows([]) == []
    assert index.rows([f"item {row}" for row in range(20, N)]) == list(range(20, N))


@pytest.mark.parametrize(
    "kind", [list, tuple, lambda v: array("f", v), np.asarray, lambda v: np.asarray(v, np.float32)]
)
def test_queries_of_any_kind(index: Index, kind: Callable[[list[float]], object]) -> None:
    vector = query("aligned")
    wanted = [row for row, _ in index.top("aligned", vector, 10)]
    assert [row for row, _ in index.top("aligned", kind(vector), 10)] == wanted  # type: ignore[arg-type]


def test_equal_scores_come_by_row(build: Build) -> None:
    items = [IndexItem(r, str(r), {"v": [1.0, 0.0] if r % 3 else [2.0, 1.0]}, {"odd": r % 2}) for r in range(200)]
    index = build(IndexSpec({"v": 2}, {"odd": "integer"}), items)
    best = [r for r in range(200) if r % 3 == 0]
    rest = [r for r in range(200) if r % 3]
    for k in (1, 5, 66, 67, 68, 100, 200, 300):
        assert [row for row, _ in index.top("v", [1.0, 0.0], k)] == (best + rest)[:k]
    hits = index.top("v", [1.0, 0.0], 4, exclude=[0, 6], where=Equals("odd", 0))
    assert hits == [(12, 2.0), (18, 2.0), (24, 2.0), (30, 2.0)]


def test_the_zero_query_answers_by_row(index: Index, items: list[IndexItem]) -> None:
    hits = index.top("content", [0.0] * DIMS["content"], 6, exclude=[1], where=Not(Equals("new", True)))
    wanted = [i.row for i in items if "content" in i.vectors and i.row != 1 and i.row % 3][:6]
    assert hits == [(row, 0.0) for row in wanted]


@pytest.mark.parametrize(
    ("name", "vector", "k", "word"),
    [
        ("algined", [0.0] * 16, 5, "aligned"),
        ("aligned", [0.0] * 15, 5, "15"),
        ("aligned", [], 5, "16"),
        ("aligned", [math.nan] + [0.0] * 15, 5, "finite"),
        ("aligned", [math.inf] + [0.0] * 15, 5, "finite"),
        ("aligned", [1e39] + [0.0] * 15, 5, "finite"),
        ("aligned", [0.0] * 16, 0, "k"),
        ("aligned", [0.0] * 16, -3, "k"),
    ],
)
def test_requests_that_cannot_be_answered(index: Index, name: str, vector: list[float], k: int, word: str) -> None:
    with pytest.raises(RequestError) as error:
        index.top(name, vector, k)
    assert word in f"{error.value.message} {error.value.hint}"


def test_unknown_vectors_cannot_be_returned(index: Index) -> None:
    with pytest.raises(RequestError):
        index.fetch([0], vectors=["nope"])


@pytest.mark.parametrize(
    ("item", "word"),
    [
        (IndexItem(5, "late", {"v": [1.0, 2.0]}, {}), "ascending"),
        (IndexItem(9, "short", {"v": [1.0]}, {}), "shape"),
        (IndexItem(9, "nan", {"v": [1.0, math.nan]}, {}), "finite"),
        (IndexItem(9, "huge", {"v": [1.0, 1e39]}, {}), "finite"),
        (IndexItem(9, "name", {"w": [1.0, 2.0]}, {}), "'w'"),
        (IndexItem(9, "object", {}, {"x": object()}), "'x'"),
        (IndexItem(9, "nested", {}, {"x": {"y": 1}}), "'x'"),
        (IndexItem(9, "long", {}, {"x": 2**63}), "'x'"),
        (IndexItem(9, "id", {}, {"item_id": "y"}), "item_id"),
    ],
)
def test_items_that_do_not_fit_are_refused(build: Build, item: IndexItem, word: str) -> None:
    items = [IndexItem(5, "good", {"v": [1.0, 2.0]}, {}), item]
    with pytest.raises(DataError) as error:
        build(IndexSpec({"v": 2}), items)
    assert repr(item.item_id) in error.value.message
    assert word in f"{error.value.message} {error.value.hint}"


def test_an_empty_index(build: Build) -> None:
    index = build(SPEC, [])
    assert len(index) == 0
    assert index.top("aligned", query("aligned"), 5, where=Equals("new", True)) == []
    assert index.top("aligned", [0.0] * 16, 5) == []
    assert index.fetch([0]) == []
    assert index.rows(["x"]) == [None]


def test_rows_may_have_gaps(build: Build) -> None:
    items = [IndexItem(row, f"i{row}", {"v": [float(row), 1.0]}, {}) for row in (3, 10, 11, 500_000)]
    index = build(IndexSpec({"v": 2}), items)
    assert [row for row, _ in index.top("v", [1.0, 0.0], 9, exclude=[11])] == [500_000, 10, 3]
    assert index.fetch([10])[0].item_id == "i10"


def test_numpy_vectors_and_several_batches(build: Build) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(2000, 32)).astype(np.float32)
    items = [IndexItem(row, str(row), {"v": vector}, {}) for row, vector in enumerate(matrix)]  # type: ignore[dict-item]
    index = build(IndexSpec({"v": 32}), items)
    for seed in range(20):
        vector = np.random.default_rng(seed).normal(size=32)
        hidden = set(rng.choice(2000, 300, replace=False).tolist())
        scores = matrix.astype(np.float64) @ vector.astype(np.float32).astype(np.float64)
        scores[list(hidden)] = -np.inf
        wanted = np.argsort(-scores)[:50]
        hits = index.top("v", vector.tolist(), 50, exclude=hidden)
        assert [row for row, _ in hits] == wanted.tolist()
        assert [score for _, score in hits] == pytest.approx(scores[wanted], abs=1e-5)


def test_threads_may_share_an_index(index: Index, items: list[IndexItem]) -> None:
    wanted = {seed: [row for row, _ in index.top("aligned", query("aligned", seed), 10)] for seed in range(8)}
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for _ in range(30):
            if [row for row, _ in index.top("aligned", query("aligned", seed), 10)] != wanted[seed]:
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
