"""Lists of many people at once are those of each of them alone, bit by bit."""

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_indexes.users import UserRecord
from molar_retrieval.ranking import ranker as ranking
from molar_retrieval.ranking.index_protocol import IndexSpec, SparseVector
from molar_retrieval.ranking.item_store import ItemStore, LowSupportItems, SparseItemIndex
from molar_retrieval.ranking.objectives import Slots, last
from molar_retrieval.ranking.query import Exploration, Query, ResolvedQuery
from molar_retrieval.ranking.ranked_list import RankedList
from molar_retrieval.ranking.ranker import Ranker
from molar_retrieval.ranking.reranker import Reranker, names
from molar_retrieval.rng import generator

DIMS, FEATURES, FACTORS = 7, 19, 5
EXAMPLES = int(os.environ.get("MOLAR_TEST_EXAMPLES", 40))


def store_of(random: np.random.Generator, count: int, cold: float, low_support: bool, coarse: bool) -> ItemStore:
    """Made-up items; coarse numbers are often equal."""

    def numbers(*shape: int) -> np.ndarray:
        drawn = random.normal(size=shape).astype(np.float32)
        return np.round(drawn) if coarse else drawn

    new = random.random(count) < cold
    content = numbers(count, FEATURES)
    content /= np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-6)
    entries = random.random((2 * count, count)) < 0.2
    entries[:, new] = False
    dimension, item = np.nonzero(entries)
    starts = np.concatenate([[0], np.cumsum(np.bincount(dimension, minlength=2 * count))])
    sparse = SparseItemIndex(starts, item.astype(np.int32), abs(numbers(len(item))), np.full(len(item), 9, np.int32))
    few = np.flatnonzero(~new)[::4] if low_support else np.zeros(0, np.int64)
    return ItemStore(
        numbers(count, DIMS),
        ~new,
        new,
        sparse,
        content,
        numbers(count, FACTORS),
        numbers(count, 1),
        {"id_tower": (0, 4), "popularity": (4, DIMS)},
        {"sequential": (0, count), "ease": (count, 2 * count)},
        LowSupportItems(few, numbers(len(few), DIMS)) if len(few) else None,
    )


def reranker_of(random: np.random.Generator, store: ItemStore) -> Reranker:
    width = len(names(store, ["year"]))
    shapes = {"mean": (width,), "hidden": (2, width, 4), "bias": (2, 4), "out": (2, 4), "skip": (2, width)}
    made = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    deviation, scale = np.ones(width, np.float32), np.full(2, 3, np.float32)
    return Reranker(
        names(store, ["year"]), {"year": (0.0, 1.0)}, made["mean"], deviation, made["hidden"], made["bias"],
        made["out"], made["skip"], scale,
    )  # fmt: skip


def people(random: np.random.Generator, store: ItemStore, count: int) -> list[UserRecord]:
    """Users with histories of any length, also none."""
    found = []
    for number in range(count):
        had = random.integers(0, len(store), random.integers(0, 40))
        once = np.unique(had)
        reads = np.concatenate([once, len(store) + once])
        sparse = SparseVector(reads.tolist(), random.random(len(reads)).astype(np.float32).tolist())
        vector = random.normal(size=DIMS).astype(np.float32).tolist()
        found.append(UserRecord(f"u{number}", vector, had.astype(np.int32), sparse))
    return found


def same(one: RankedList, other: RankedList) -> bool:
    """Whether two lists are the same in every bit."""
    columns = ("rows", "parts", "lifted", "by_score", "propensity")
    alike = all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in columns[:2])
    alike &= all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in columns)
    return alike and one.causes == other.causes and one.notes == other.notes


SLOTS = st.sampled_from([*map(last, range(4)), (3, 6, 10), (5, 10)])


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 1 << 20),
    count=st.sampled_from([1, 9, 30, 150, 420]),
    cold=st.sampled_from([0.0, 0.2, 1.0]),
    asked=st.fixed_dictionaries(
        {
            "k": st.sampled_from([1, 5, 10, 35, 250]),
            "rerank": st.booleans(),
            "diversity": st.sampled_from([0.0, 0.0, 0.4]),
        }
    ),
    tried=SLOTS,
    slots=SLOTS,
    drawn=st.booleans(),
    hiding=st.booleans(),
    low_support=st.booleans(),
    coarse=st.booleans(),
    held=st.sampled_from([1 << 22, 1000]),
)
def test_lists_of_many_are_those_of_each(
    seed: int,
    count: int,
    cold: float,
    asked: dict[str, Any],
    tried: Slots,
    slots: Slots,
    drawn: bool,
    hiding: bool,
    low_support: bool,
    coarse: bool,
    held: int,
) -> None:
    random = generator(seed, "lists at once")
    store = store_of(random, count, cold, low_support, coarse)
    dims = {"aligned": DIMS} | ({"cold_start": DIMS} if store.cold.any() else {})
    index = SimpleNamespace(spec=IndexSpec(dims))
    ranker = Ranker(index, store, slots, reranker_of(random, store), Exploration(tried, 0.7))  # type: ignore[arg-type]
    requests = [
        ResolvedQuery(
            Query(**asked),
            user,
            hidden=frozenset(map(int, user.history)) if hiding else frozenset(),
            draw=user.user_id if drawn else None,
        )
        for user in people(random, store, 12)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_MOST_SUMS", held)
        together = list(ranker.ranked(requests))
    assert len(together) == len(requests)
    for request, found in zip(requests, together, strict=True):
        (alone,) = ranker.ranked([request])
        assert same(found, alone)
