"""Molar under evaluation: what it is given, and what it is asked."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, leave_one_out, log_of, walks

from molar_eval.cases import Cases
from molar_eval.models.ours import MolarScorer, as_held_out
from molar_eval.ranking import rank
from molar_eval.splits import temporal
from molar_retrieval.models.validation import ValidationCases
from molar_retrieval.ranking.objectives import FUTURE_ITEMS, NEXT_ITEM, Objective


@pytest.mark.parametrize("seen", ["hide", "show"])
def test_newcomers_are_lifted_among_what_may_be_shown(seen):
    task, test = leave_one_out(walks(), seen=seen)
    asked, lifted = [], []

    def scores(users, log, objective):
        assert objective == Objective("next_item", seen)
        asked.append(log.asked_at)
        return np.random.default_rng(0).random((log.n_users, N_ITEMS), np.float32)

    def lift(table, allowed, objective):
        lifted.append(allowed)
        return table

    model = SimpleNamespace(users=lambda log, rows: None, scores_of=scores, lifted=lift, reranker=None, objectives={})
    scorer = MolarScorer(model, None, {}, Objective("next_item", seen))
    rank(test, scorer.scores, k=5, candidates=task.candidates, seen=seen, finish=scorer.finish)
    assert np.concatenate(asked).tolist() == test.times().tolist(), "popularity is that of the moment"
    allowed = np.concatenate(lifted)
    had = np.zeros_like(allowed)
    had[test.seen().user, test.seen().item] = True
    expected = np.broadcast_to(task.candidates, allowed.shape) & ~(had if seen == "hide" else False)
    assert np.array_equal(allowed, expected)


def test_of_another_horizon_scores_are_asked_for_and_no_second_stage():
    task, _ = leave_one_out(walks())
    inputs, asked = task.validation.inputs(), []

    def scores(users, log, objective):
        asked.append(objective)
        return np.zeros((log.n_users, N_ITEMS), np.float32)

    def moved(table, *_):
        asked.append("second stage")
        return table

    model = SimpleNamespace(
        users=lambda log, rows: "vectors",
        scores_of=scores,
        lifted=lambda table, _, objective: table,
        reranked=moved,
        reranker="one",
        objectives={},
    )
    for objective, expected in ((NEXT_ITEM, [NEXT_ITEM, "second stage"]), (FUTURE_ITEMS, [FUTURE_ITEMS])):
        scorer = MolarScorer(model, None, {}, objective)
        scorer.finish(scorer.scores(inputs), None, inputs)
        assert asked == expected
        asked.clear()


def test_validation_cases_are_asked_when_they_happened():
    log = log_of([[1, 2, 3, 4], [5, 6, 7, 8]], times=[1, 2, 30, 40, 3, 4, 50, 60])
    sets = Cases(log, np.array([0, 1]), np.array([2, 2]), np.array([0, 2, 3]), np.array([3, 4, 8], np.int32))
    task = replace(leave_one_out(walks())[0], validation=sets, training=log)
    held = as_held_out(task, 10)
    assert held.users.tolist() == [0, 0, 1]
    assert held.targets.tolist() == [3, 4, 8]
    assert held.times.tolist() == [30, 30, 50], "all targets of a case are asked for at its time"
    assert (held.users.dtype, held.times.dtype) == (np.int32, np.int64)


def test_a_sample_keeps_users_targets_and_times_together():
    task, _ = leave_one_out(walks())
    whole, some = as_held_out(task, 1000), as_held_out(task, 20)
    assert len(some) == 20 < len(whole)
    known = set(zip(whole.users.tolist(), whole.targets.tolist(), whole.times.tolist(), strict=True))
    assert set(zip(some.users.tolist(), some.targets.tolist(), some.times.tolist(), strict=True)) <= known


def test_a_case_is_asked_with_what_its_user_did_since_training_ended():
    log = log_of([[1, 2, 1, 3], [5, 6, 7], [8, 9, 8]], times=[1, 2, 30, 31, 3, 4, 30, 5, 6, 40])
    split = temporal(log, train=0.6, validation=0.3)
    training = log.select(split.fitted)
    task = replace(leave_one_out(walks())[0], validation=split.validation, training=training)
    held = as_held_out(task, 10)
    assert held.targets.tolist() == [3, 7]
    asked = ValidationCases.of(held).histories()
    assert [asked.history(row).tolist() for row in range(2)] == [[1, 2, 1], [5, 6]]
    assert asked.asked_at.tolist() == [31, 30]
    whole = split.validation.inputs()
    assert (asked.item.tolist(), asked.timestamp.tolist()) == (whole.item.tolist(), whole.timestamp.tolist())


def test_where_training_has_all_that_came_before_nothing_is_kept_of_it_twice():
    assert as_held_out(leave_one_out(walks())[0], 1000).known is None
