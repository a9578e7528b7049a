"""Accuracy against trec_eval, and against ranx where MOLAR_TEST_RANX is set."""

import os

import numpy as np
import pytest
from eval_ranking_cases import ragged
from hypothesis import example, given, settings
from hypothesis import strategies as st

from molar_eval.metrics import ACCURACY, accuracy

CUTOFFS = (1, 2, 3, 5, 10, 40)
TREC = {"recall": "recall", "ndcg": "ndcg_cut", "hit_rate": "success", "precision": "P", "map": "map_cut"}
# Per case: length of the list, ranks of the targets in it, number of targets that were not found.
CASE = (
    st.integers(1, 12)
    .flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), unique=True), st.integers(0, 8)))
    .filter(lambda case: case[1] or case[2])
)
DEGENERATE = [(4, [], 3), (4, [3, 1, 4, 2], 0), (12, list(range(12, 0, -1)), 8), (1, [1], 0), (1, [], 1), (12, [12], 0)]


def _arrays(cases):
    offsets, ranks = ragged([np.array([*found, *[0] * missed]) for _, found, missed in cases])
    return ranks.astype(np.int64), offsets


def _judged(cases, longest=None):
    """The same as dictionaries: what is right, and what was listed."""
    right, run = {}, {}
    for number, (length, found, missed) in enumerate(cases):
        name = f"q{number:03d}"
        right[name] = {f"d{rank}": 1 for rank in found} | {f"missed{m}": 1 for m in range(missed)}
        run[name] = {f"d{rank}": 1 / rank for rank in range(1, min(length, longest or length) + 1)}
    return right, run


@settings(deadline=None, max_examples=100)
@given(st.lists(CASE, min_size=1, max_size=8))
@example(DEGENERATE)
def test_like_trec_eval(cases):
    trec = pytest.importorskip("pytrec_eval")
    ours = accuracy(*_arrays(cases), CUTOFFS)
    right, run = _judged(cases)
    theirs = trec.RelevanceEvaluator(right, {f"{name}.{k}" for name in TREC.values() for k in CUTOFFS}).evaluate(run)
    for k in CUTOFFS:
        for name, trec_name in TREC.items():
            expected = [theirs[query][f"{trec_name}_{k}"] for query in sorted(right)]
            assert ours[f"{name}@{k}"] == pytest.approx(expected, abs=1e-6), (name, k)
        first = trec.RelevanceEvaluator(right, {"recip_rank"}).evaluate(_judged(cases, longest=k)[1])
        assert ours[f"mrr@{k}"] == pytest.approx([first[query]["recip_rank"] for query in sorted(right)], abs=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")
@settings(deadline=None, max_examples=30)
@given(st.lists(CASE, min_size=1, max_size=8))
@example(DEGENERATE)
def test_like_ranx(cases):
    if "MOLAR_TEST_RANX" not in os.environ:
        pytest.skip("ranx compiles for a minute: MOLAR_TEST_RANX=1")
    ranx = pytest.importorskip("ranx")
    ours = accuracy(*_arrays(cases), CUTOFFS)
    names = [f"{name}@{k}" for name in ACCURACY for k in CUTOFFS]
    right, run = _judged(cases)
    theirs = ranx.evaluate(ranx.Qrels(right), ranx.Run(run), names, return_mean=False)
    for name in names:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name
