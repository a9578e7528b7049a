"""Full ranking against plain Python: ties, hidden and impossible targets, empty histories, any budget."""

import numpy as np
import pytest
from eval_ranking_cases import cases_of, slowly_ranked
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_eval import ranking
from molar_eval.ranking import rank, rank_vectors

SCORE = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 0.5, 2.0, np.inf])


@st.composite
def situations(draw, score=SCORE):
    n_items, n_cases = draw(st.integers(1, 12)), draw(st.integers(0, 5))
    item = st.integers(0, n_items - 1)
    some = st.lists(item, max_size=n_items + 3)
    return {
        "n_items": n_items,
        "histories": [draw(some) for _ in range(n_cases)],
        "targets": [draw(st.lists(item, max_size=n_items, unique=True)) for _ in range(n_cases)],
        "scores": np.array([[draw(score) for _ in range(n_items)] for _ in range(n_cases)], np.float32),
        "candidates": np.array(draw(st.lists(st.booleans(), min_size=n_items, max_size=n_items))),
        "hide": draw(st.booleans()),
        "k": draw(st.integers(1, 14)),
    }


def agree(ranked, case):
    keys = ("scores", "histories", "targets", "candidates", "hide", "k")
    lists, ranks = slowly_ranked(*(case[key] for key in keys))
    assert ranked.ranks.tolist() == ranks
    for items, scores, expected in zip(ranked.items, ranked.scores, lists, strict=True):
        length = len(expected)
        assert list(zip(scores.tolist(), items.tolist(), strict=True))[:length] == expected
        assert (items[length:] == -1).all()
        assert np.isneginf(scores[length:]).all()


@settings(deadline=None, max_examples=300)
@given(situations(), st.integers(1, 200))
def test_scores(case, memory):
    cases = cases_of(case["histories"], case["targets"], case["n_items"])
    asked = []

    def scores(inputs):
        first = sum(asked)
        asked.append(inputs.n_users)
        expected = case["histories"][first : first + inputs.n_users]
        assert [inputs.history(u).tolist() for u in range(inputs.n_users)] == expected
        return case["scores"][first : first + inputs.n_users]

    before, seen = case["scores"].copy(), "hide" if case["hide"] else "show"
    agree(rank(cases, scores, k=case["k"], candidates=case["candidates"], seen=seen, memory=memory), case)
    assert (case["scores"] == before).all(), "the model's own table was written into"
    assert sum(asked) == len(cases)


@settings(deadline=None, max_examples=300)
@given(situations(st.integers(-2, 2)), st.integers(1, 400), st.integers(1, 3), st.integers(1, 4))
def test_vectors_in_tiles(case, memory, rows, columns):
    """Whole numbers multiply exactly, so that the same scores arise whatever the tiles."""
    cases = cases_of(case["histories"], case["targets"], case["n_items"])
    seen, table = "hide" if case["hide"] else "show", case["scores"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_TILE_ROWS", rows)
        patch.setattr(ranking, "_TILE_COLUMNS", columns)
        patch.setattr(ranking, "_MOST_ROWS", 2 * rows)
        given_as = (table, lambda block: table[block]) if memory % 2 else (table,)
        for users in given_as:
            options = {"k": case["k"], "candidates": case["candidates"], "seen": seen, "memory": memory}
            agree(rank_vectors(cases, users, np.eye(case["n_items"], dtype=np.float32), **options), case)
