"""Every index with a random filter and random exclusions answers like brute force, in plain Python."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from served import SERVERS, shelf

from molar_indexes.backends import build_index, open_index
from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.filters import And, Between, Contains, Equals, Exists, Expression, Not, OneOf, Or, matches
from molar_retrieval.ranking.index_protocol import Index, IndexItem, IndexSpec

FIELDS = {"word": "keyword", "number": "integer", "size": "float", "flag": "bool"}
NAMES = [*FIELDS, "loose", "missing"]
N = 240

words = st.sampled_from(["", "a", "b", "é", "true", "1"])
numbers = st.integers(-3, 3)
sizes = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1.0, 2.0, 1e9])
scalars = words | numbers | sizes | st.booleans()


def make_items() -> list[IndexItem]:
    """Deterministic items whose scores are exact in float32, so that ties are ties everywhere."""
    values: dict[str, list[Any]] = {
        "word": ["a", "b", ["a", "é"], [], None, "true"],
        "number": [-3, 0, 1, [1, 2], None],
        "size": [0.25, 1.0, -1.5, [2.0, 1e9], None, 0.0, 7.5],
        "flag": [True, False, None, [True, False]],
        "loose": ["a", 1, 1.0, True, None, ["a", 1, False], 2.5, "1", 0],
    }
    items = []
    for row in range(N):
        payload = {name: options[row * (n + 3) // 2 % len(options)] for n, (name, options) in enumerate(values.items())}
        vectors = {"v": [float(row % 7), float(row % 5 - 2), 1.0]}
        items.append(IndexItem(row, f"item {row}", vectors if row % 13 else {}, payload))
    return items


def comparisons() -> st.SearchStrategy[Expression]:
    bound = st.none() | numbers | sizes
    return st.one_of(
        st.builds(Equals, st.sampled_from(NAMES), scalars),
        st.builds(OneOf, st.sampled_from(NAMES), st.lists(words | numbers, max_size=3).map(tuple)),
        st.builds(Between, st.sampled_from(NAMES), bound, bound, bound, bound),
        st.builds(Contains, st.sampled_from(NAMES), st.sampled_from(["", "a", "é", "ru", "True", "1", "A"])),
        st.builds(Exists, st.sampled_from(NAMES)),
    )


expressions = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    return make_items()


@pytest.fixture(scope="module", params=["edge", "exact", *SERVERS])
def index(
    request: pytest.FixtureRequest, items: list[IndexItem], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Index]:
    folder, spec = tmp_path_factory.mktemp("index"), IndexSpec({"v": 3}, FIELDS)
    if request.param in SERVERS:
        with shelf(request.param) as opened:
            yield opened.index(spec, items)
        return
    build_index(folder / "i", request.param, spec, items)
    opened = open_index(folder / "i", request.param, spec)
    yield opened
    opened.close()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.none() | expressions,
    hidden=st.sets(st.integers(0, N + 5)) | st.just(set(range(N))),
    k=st.integers(1, N + 1),
    query=st.tuples(*[st.integers(-2, 2).map(float)] * 3),
)
def test_like_brute_force(
    index: Index,
    items: list[IndexItem],
    where: Expression | None,
    hidden: set[int],
    k: int,
    query: tuple[float, ...],
) -> None:
    scored = [
        (-sum(a * b for a, b in zip(query, item.vectors["v"], strict=True)), item.row)
        for item in items
        if item.vectors and item.row not in hidden and (where is None or matches(where, item.payload))
    ]
    try:
        hits = index.top("v", query, k, exclude=hidden, where=where)
    except RequestError as refused:
        if "needs a Qdrant server of" not in refused.message:  # a real one may be older
            raise
        reject()
    assert [(-score, row) for row, score in hits] == sorted(scored)[:k]
