"""What sparse vectors of all items say to a user is the same in every bit, by whatever way it is added up."""

import numpy as np
import pytest

from molar_retrieval.ranking import item_store
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.ranking.item_store import SparseItemIndex, Sums

COUNT = 300
SPANS = [(0, 300), (350, 600)]  # what is between them adds nothing


def made(random: np.random.Generator, each: int) -> SparseItemIndex:
    """An index of 600 dimensions, in which some items each have a number; the last ones are empty."""
    items = [np.sort(random.choice(COUNT, each, replace=False)) for _ in range(580)]
    starts = np.concatenate([np.arange(581) * each, np.full(20, 580 * each)])
    values = random.normal(size=580 * each).astype(np.float32)
    return SparseItemIndex(starts, np.concatenate(items).astype(np.int32), values, np.full(580 * each, 9, np.int32))


def asking(random: np.random.Generator, count: int) -> SparseVector:
    dimensions = np.sort(random.choice(600, count, replace=False))
    return SparseVector(dimensions.tolist(), random.normal(size=count).astype(np.float32).tolist())


@pytest.mark.parametrize("each", [3, 150])
def test_sums_are_equal_in_every_bit_whoever_adds_them_up(each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(each)
    index, users = made(random, each), [asking(random, size) for size in (0, 1, 40, 200, 400)]
    first = [index.sums(user, SPANS, COUNT) for user in users]  # by NumPy: so few ask alone
    monkeypatch.setattr(item_store, "_ASKED_ALONE", 0)
    monkeypatch.setattr(item_store, "_BRIEF", 0)
    assert item_store._routines() is not None, "SciPy has moved them: look for the new place"
    later = [index.sums(user, SPANS, COUNT) for user in users]
    monkeypatch.setattr(item_store, "_routines", lambda: None)
    without = [index.sums(user, SPANS, COUNT) for user in users]
    expected = np.zeros((600, COUNT))
    for dimension in range(580):
        some = slice(index.starts[dimension], index.starts[dimension + 1])
        expected[dimension, index.items[some]] = index.values[some]
    for user, found in zip(users, zip(first, later, without, strict=True), strict=True):
        by_hand = np.zeros((2, COUNT))
        for dimension, value in zip(user.indices, user.values, strict=True):
            for own, (begin, end) in zip(by_hand, SPANS, strict=True):
                own += expected[dimension] * value * (begin <= dimension < end)
        assert all((whole(sums) == by_hand).all() for sums in found)


def whole(sums: Sums) -> np.ndarray:
    return sums.of(np.arange(COUNT))


def test_nobody_and_nothing() -> None:
    index = made(np.random.default_rng(0), 3)
    assert index.sums(asking(np.random.default_rng(1), 5), [], COUNT).parts.shape[0] == 0
