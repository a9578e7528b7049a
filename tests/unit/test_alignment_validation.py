"""Validation ranks against a ranking by hand."""

from dataclasses import replace

import numpy as np
import pytest
from alignment_tasks import cases_of, random_cases, rank_by_hand
from eval_model_tasks import log_of

from molar_retrieval.data.interactions import Holdout
from molar_retrieval.models import validation
from molar_retrieval.models.validation import ValidationCases, gains, means, ndcg, ranks, recall, sample


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_ranks_are_those_of_sorting_by_hand(monkeypatch, block):
    monkeypatch.setattr(validation, "SCORES_PER_BLOCK", block * 20)
    cases = random_cases(40, 20, 0)
    scores = np.random.default_rng(1).integers(0, 8, (40, 20)).astype(np.float32)  # with ties
    asked = []

    def scoring(rows):
        asked.append(rows.stop - rows.start)
        return scores[rows].copy()

    found = ranks(cases, scoring)
    assert found.tolist() == rank_by_hand(cases, scores)
    assert 21 in found, "some target is hidden or no candidate"
    assert sum(asked) == 40
    assert max(asked) == min(block, 40)


def test_a_user_with_several_cases_hides_the_same_for_each():
    cases = cases_of([[0, 1], [2], [3, 3, 4]], [5, 6, 5, 0], 8, users=[2, 0, 0, 1])
    hidden = cases.hidden(slice(0, 4))
    assert [np.flatnonzero(row).tolist() for row in hidden] == [[3, 4], [0, 1], [0, 1], [2]]
    part = cases.select(np.array([3, 0]))
    assert [np.flatnonzero(row).tolist() for row in part.hidden(slice(0, 2))] == [[2], [3, 4]]
    assert np.flatnonzero(cases.hidden(slice(1, 2))[0]).tolist() == [0, 1]


def test_a_case_after_an_empty_history_hides_nothing_but_what_is_no_candidate():
    candidates = np.array([True, False, True])
    assert cases_of([[], [2]], [0, 0], 3, candidates=candidates).hidden(slice(0, 2)).tolist() == [
        [False, True, False],
        [False, True, True],
    ]


def test_a_model_without_an_opinion_wins_nothing():
    cases = cases_of([[0], [1]], [5, 6], 50)
    assert ranks(cases, lambda block: np.zeros((2, 50), np.float32)).tolist() == [49, 49]


def test_cases_of_a_holdout_keep_users_targets_and_times_together():
    log = log_of([[1, 2], [3, 4], [5]], 9)
    split = Holdout(log, np.array([0, 0, 2], np.int32), np.array([7, 8, 6], np.int32), np.array([50, 60, 70]))
    cases = ValidationCases.of(split)
    assert (cases.users.tolist(), cases.targets.tolist(), cases.times.tolist()) == ([0, 0, 2], [7, 8, 6], [50, 60, 70])
    assert cases.candidates.all()
    part = cases.select(np.array([2, 1]))
    assert (part.users.tolist(), part.targets.tolist(), part.times.tolist()) == ([2, 0], [6, 8], [70, 60])


def test_what_somebody_takes_again_is_a_case_of_lists_that_show_it_alone():
    log = log_of([[1, 2], [3, 4], [5]], 9)
    split = Holdout(log, np.array([0, 1, 2], np.int32), np.array([7, 3, 6], np.int32), np.array([50, 60, 70]))
    assert ValidationCases.of(split).targets.tolist() == [7, 6]
    both = ValidationCases.with_repeats(split)
    assert both.targets.tolist() == [7, 3, 6]
    assert not both.hidden(slice(0, 3)).any()
    assert not both.select(np.array([1])).hidden(slice(0, 1)).any()
    assert ranks(both, lambda block: np.eye(9, dtype=np.float32)[[7, 3, 1]]).tolist() == [1, 1, 9]


def test_a_sample_is_a_part_in_order_and_all_where_there_are_few():
    cases = cases_of([[0]] * 30, np.arange(30) % 7 + 1, 9, times=np.arange(30))
    part = sample(cases, 10, np.random.default_rng(0))
    assert len(part) == 10
    assert (np.diff(part.users) > 0).all()
    assert part.times.tolist() == part.users.tolist()
    assert sample(cases, 30, np.random.default_rng(0)).times.tolist() == list(range(30))


def test_metrics_by_hand():
    rank = np.array([1, 3, 10, 11])
    assert gains(rank).tolist() == pytest.approx([1, 0.5, 1 / np.log2(11), 0])
    assert ndcg(rank) == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 4)
    assert recall(rank) == 0.75
    assert means(rank) == {"ndcg@10": ndcg(rank), "recall@10": 0.75}
    assert ndcg(np.array([], int)) == recall(np.array([], int)) == 0
    assert ranks(cases_of([[1]], [2], 3, users=[0]).select(np.zeros(0, int)), lambda block: None).tolist() == []


def test_what_came_since_the_training_interactions_is_read_and_hidden_with_its_case():
    log, known = log_of([[1, 2], [3, 4]], 9), log_of([[3, 4, 5], [1, 2], [3, 4, 5, 6]], 9)
    targets = np.array([6, 7, 1], np.int32)
    split = Holdout(log, np.array([1, 0, 1], np.int32), targets, np.array([50, 60, 70]), known)
    assert split.again.tolist() == [False, False, False]
    assert replace(split, targets=np.array([5, 1, 8], np.int32)).again.tolist() == [True, True, False]
    for cases in (ValidationCases.of(split), ValidationCases.of(split.select(np.arange(3)))):
        hidden = cases.hidden(slice(0, 3))
        assert [np.flatnonzero(row).tolist() for row in hidden] == [[3, 4, 5], [1, 2], [3, 4, 5, 6]]
        part = cases.select(np.array([2, 1]))
        asked = part.histories(slice(0, 1))
        assert (asked.item.tolist(), asked.asked_at.tolist()) == ([3, 4, 5, 6], [70])
        assert np.flatnonzero(part.hidden(slice(1, 2))[0]).tolist() == [1, 2]
