"""Choosing settings on validation cases."""

import math
from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, leave_one_out, log_of, walks

from molar_eval.cases import Cases
from molar_eval.models import base
from molar_eval.models.base import Fitted, edges, sample, tune, validation_ndcg
from molar_retrieval.models.validation import taken

EVERYTHING = np.ones(N_ITEMS, bool)


@pytest.fixture
def task():
    return leave_one_out(walks())[0]


def steps(size):
    """Scores that expect a step of ``size`` on the circle."""

    def score(inputs):
        scores = np.zeros((inputs.n_users, N_ITEMS), np.float32)
        for user in range(inputs.n_users):
            last = int(inputs.history(user)[-1])
            scores[user, last // 14 * 14 + (last % 14 + size) % 14] = 1
        return scores

    return score


def test_keeps_the_setting_that_ranks_validation_best(task):
    grid = [{"size": size} for size in (5, 2, 1, 3)]
    fitted = tune(grid, lambda setting: steps(setting["size"]), task, EVERYTHING)
    tried = {row["setting"]["size"]: row["ndcg@10"] for row in fitted.facts["tried"]}
    last = [int(task.training.history(user)[-1]) for user in range(80)]
    for size in (1, 2):  # a step is one or two, so each is right for its share of the cases
        right = np.mean([(t % 14 - b % 14) % 14 == size for b, t in zip(last, task.validation.targets, strict=True)])
        assert tried[size] == pytest.approx(right, abs=1e-6)
    assert tried[5] == tried[3] == 0
    assert tried[fitted.facts["chosen"]["size"]] == max(tried.values())
    inputs = task.validation.inputs()
    assert np.array_equal(fitted.scores(inputs), steps(fitted.facts["chosen"]["size"])(inputs))


def test_cases_of_training_count_as_those_of_validation_do(task):
    grid = [{"size": size} for size in (1, 2, 4)]
    log = log_of([[0, 4], [1, 5], [2, 6]] * 40, N_ITEMS)
    more = taken(log, EVERYTHING, 0)
    facts = tune(grid, lambda setting: steps(setting["size"]), task, EVERYTHING, more=more).facts
    plain = tune(grid, lambda setting: steps(setting["size"]), task, EVERYTHING).facts
    assert (facts["validation_cases"], facts["training_cases"]) == (80, 120)
    assert facts["chosen"] == {"size": 4} != plain["chosen"]
    assert facts["tried"][2]["ndcg@10"] == pytest.approx(120 / 200)
    assert facts["tried"][0]["ndcg@10"] == pytest.approx(plain["tried"][0]["ndcg@10"] * 80 / 200)


def test_of_equals_the_first_wins_and_no_cases_are_no_reason_to_choose(task):
    grid = [{"size": 4}, {"size": 5}]
    assert tune(grid, lambda setting: steps(setting["size"]), task, EVERYTHING).facts["chosen"] == {"size": 4}
    nobody = replace(task, validation=task.validation.select(np.zeros(80, bool)))
    facts = tune([{"size": 5}, {"size": 1}], lambda setting: steps(setting["size"]), nobody, EVERYTHING).facts
    assert (facts["chosen"], facts["validation_cases"]) == ({"size": 5}, 0)


def test_an_empty_grid_is_a_mistake(task):
    with pytest.raises(ValueError, match="empty"):
        tune([], lambda setting: steps(1), task, EVERYTHING)


def test_all_equal_scores_find_nothing(task):
    flat = Fitted(lambda inputs: np.zeros((inputs.n_users, N_ITEMS), np.float32), EVERYTHING, {})
    assert validation_ndcg(flat, task, task.validation) == 0


def test_candidates_and_seen_items_are_respected(task):
    history = log_of([[1, 2, 2]])
    case = Cases.single(history, np.array([0]), np.array([2]), np.array([2]))
    always = Fitted(lambda inputs: np.eye(N_ITEMS, dtype=np.float32)[[2] * inputs.n_users], EVERYTHING, {})
    assert validation_ndcg(always, replace(task, seen="show"), case) == 1
    assert validation_ndcg(always, replace(task, seen="hide"), case) == 0
    others = EVERYTHING.copy()
    others[2] = False
    assert validation_ndcg(always, replace(task, seen="show", candidates=others), case) == 0
    assert validation_ndcg(replace(always, scorable=others), replace(task, seen="show"), case) == 0


def test_cases_with_several_targets(task):
    history = log_of([[0, 5, 6, 7]])
    offsets = np.array([0, 3], np.int64)
    case = Cases(history, np.array([0]), np.array([1]), offsets, np.array([5, 6, 7], np.int32))
    falling = Fitted(lambda inputs: -np.arange(N_ITEMS, dtype=np.float32)[None, :], EVERYTHING, {})
    found = sum(1 / math.log2(rank + 1) for rank in (5, 6, 7))  # item 0 is hidden
    ideal = sum(1 / math.log2(rank + 1) for rank in (1, 2, 3))
    assert validation_ndcg(falling, task, case) == pytest.approx(found / ideal, rel=1e-6)


def test_many_cases_are_sampled_the_same_way_each_time(task, monkeypatch):
    assert sample(task.validation) is task.validation
    monkeypatch.setattr(base, "MAX_CASES", 25)
    first, second = sample(task.validation), sample(task.validation)
    assert len(first) == 25
    assert np.array_equal(first.user, second.user)
    assert np.array_equal(first.targets, task.validation.targets[first.user])
    assert first.user.max() > 40  # not merely the first ones


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"kind": "a", "size": 3, "shrink": 0}, {"size": "largest"}),  # nothing lies beyond a smallest of 0
        ({"kind": "a", "size": 1, "shrink": 5}, {"size": "smallest", "shrink": "largest"}),
        ({"kind": "a", "size": 2, "shrink": 0}, {}),
        ({"kind": "b", "size": 7, "shrink": 0}, {}),  # one size alone was tried with it
    ],
)
def test_a_choice_at_the_end_of_a_grid_is_told(chosen, found):
    grid = [{"kind": "a", "size": size, "shrink": shrink} for size in (1, 2, 3) for shrink in (0, 5)]
    grid.append({"kind": "b", "size": 7, "shrink": 0})
    assert edges(grid, chosen) == found


def test_the_facts_say_that_validation_asks_for_more(task):
    def facts(*sizes):
        return tune([{"size": s} for s in sizes], lambda s: steps(s["size"]), task, EVERYTHING).facts

    right = facts(1, 2)["chosen"]["size"]
    assert facts(right, 5)["edge_of_grid"] == {"size": "smallest"}
    assert "edge_of_grid" not in facts(0, right, 5)
