"""Validation ranks against a ranking by hand."""

import numpy as np
import pytest

from molar_retrieval.alignment import validation
from molar_retrieval.alignment.validation import Cases, Part, ndcg, ranks, recall
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions import InteractionLog


def cases_of(histories, targets, n_items, candidates=None):
    lengths = [len(h) for h in histories]
    log = InteractionLog(
        IdMap([f"u{n}" for n in range(len(histories))]),
        IdMap([f"i{n}" for n in range(n_items)]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate(histories).astype(np.int32),
        np.zeros(sum(lengths), np.int64),
    )
    allowed = np.ones(n_items, bool) if candidates is None else candidates
    return Cases(log, np.arange(len(histories)), np.asarray(targets, np.int64), allowed)


def by_hand(cases, scores):
    result = []
    for row, (user, target) in enumerate(zip(cases.users, cases.targets, strict=True)):
        seen = set(cases.log.history(user).tolist())
        rivals = [i for i in range(scores.shape[1]) if i not in seen and cases.candidates[i]]
        own = scores[row, target]
        result.append(sum(scores[row, i] >= own for i in rivals) if target in rivals else scores.shape[1])
    return result


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_ranks_are_those_of_sorting_by_hand(monkeypatch, block):
    monkeypatch.setattr(validation, "_SCORES_PER_BLOCK", block * 20)
    random = np.random.default_rng(0)
    histories = [random.choice(20, random.integers(1, 9), replace=False) for _ in range(15)]
    targets = [next(i for i in random.permutation(20) if i not in h) for h in histories]
    candidates = random.random(20) > 0.1
    cases = cases_of(histories, targets, 20, candidates)
    left = Part(random.normal(size=(15, 4)).astype(np.float32), random.normal(size=(20, 4)).astype(np.float32))
    right = Part(random.normal(size=(15, 3)).astype(np.float32), random.normal(size=(20, 3)).astype(np.float32))
    got = ranks(cases, [left, right], [(1.0, 0.0), (0.5, 2.0)])
    assert got[0].tolist() == by_hand(cases, left.users @ left.items.T)
    assert got[1].tolist() == by_hand(cases, 0.5 * left.users @ left.items.T + 2 * right.users @ right.items.T)


def test_a_model_without_an_opinion_wins_nothing():
    cases = cases_of([[0], [1]], [5, 6], 50)
    flat = Part(np.ones((2, 1), np.float32), np.zeros((50, 1), np.float32))
    assert ranks(cases, [flat], [(1.0,)]).tolist() == [[49, 49]]


def test_metrics_by_hand():
    rank = np.array([1, 3, 10, 11])
    assert ndcg(rank) == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 4)
    assert recall(rank) == 0.75
    assert ndcg(np.array([], int)) == recall(np.array([], int)) == 0
