"""A score and its parts."""

import json

import numpy as np
import pytest

from molar_retrieval.index import SparseVector
from molar_retrieval.ranking.answer import Answer, Recommendation, split_score
from molar_retrieval.rng import generator

SPANS = {"collaborative": (0, 3), "content": (3, 7), "trend": (7, 8)}
SPARSE = {"linear": (0, 50), "sequence": (50, 100)}


def drawn(rng: np.random.Generator, count: int) -> tuple[SparseVector, np.ndarray]:
    wide = np.zeros(100)
    wide[rng.choice(100, count, replace=False)] = rng.exponential(size=count)
    at = np.flatnonzero(wide)
    return SparseVector(at.tolist(), wide[at].tolist()), wide


@pytest.mark.parametrize("counts", [(30, 40), (100, 100), (1, 100), (0, 40), (40, 0), (0, 0)])
def test_parts_are_dot_products_over_their_ranges_and_add_up(counts: tuple[int, int]) -> None:
    rng = generator(0, "parts", counts)
    user, item = rng.normal(size=8), rng.normal(size=8)
    (left, wide_left), (right, wide_right) = drawn(rng, counts[0]), drawn(rng, counts[1])
    parts = split_score(user.tolist(), item.tolist(), SPANS, left, right, SPARSE)
    assert list(parts) == [*SPANS, *SPARSE]
    for name, (start, stop) in SPANS.items():
        assert parts[name] == pytest.approx(user[start:stop] @ item[start:stop])
    for name, (start, stop) in SPARSE.items():
        assert parts[name] == pytest.approx(wide_left[start:stop] @ wide_right[start:stop])
    assert sum(parts.values()) == pytest.approx(user @ item + wide_left @ wide_right)


def test_parts_are_there_where_nothing_is() -> None:
    assert split_score([1.0], [2.0], {"trend": (0, 1)}, sparse_spans=SPARSE) == {
        "trend": 2.0, "linear": 0.0, "sequence": 0.0,
    }  # fmt: skip


def test_an_answer_is_jsonable_without_payloads() -> None:
    item = Recommendation(1, "a", None, 1.0, {"trend": 1.0, "newcomer": 0.5}, (), {"price": 3})
    answer = Answer("u", 10, "g", "aligned", [item], None, {"total": 1.0})
    shown = json.loads(json.dumps(answer.to_dict()))
    assert shown["items"] == [
        {
            "rank": 1,
            "item_id": "a",
            "title": None,
            "score": 1.0,
            "parts": {"trend": 1.0, "newcomer": 0.5},
            "reasons": [],
        }
    ]
