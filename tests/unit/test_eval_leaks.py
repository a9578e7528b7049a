"""A sceptic's checks: nothing from the test reaches what is fitted."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from eval_peeking import peeks
from test_eval_splits import random_log

from molar_eval.models.base import EvaluationTask
from molar_eval.models.baselines import baselines
from molar_eval.splits import Split, check_leaks, is_first, leave_one_out, temporal
from molar_retrieval.errors import DataError


def task(split: Split, folder) -> EvaluationTask:
    candidates = np.ones(split.history.n_items, bool)
    return EvaluationTask(split.training, split.validation, candidates, None, "hide", folder)


@dataclass
class Oracle:
    """Scores what the test wants: it was made with the split in its hands."""

    split: Split
    name: str = "oracle"
    kind: str = "baseline"
    settings: dict = field(default_factory=dict)
    stochastic: bool = False
    facts: dict = field(default_factory=dict)

    def fit(self, task, seed, progress=None):
        return self

    def scores(self, inputs):
        cases = next(iter(self.split.tests.values()))
        result = np.zeros((inputs.n_users, inputs.n_items), np.float32)
        result[cases.case_of_target, cases.targets] = 1
        return result


def test_an_oracle_that_peeks_is_caught(tmp_path):
    assert peeks(Oracle, leave_one_out(random_log()), task, tmp_path)


@pytest.mark.parametrize("name", ["popularity", "co-occurrence", "EASE", "ALS"])
@pytest.mark.parametrize("cut", [leave_one_out, temporal])
def test_baselines_train_the_same_whatever_the_test_holds(name, cut, tmp_path):
    assert not peeks(lambda split: baselines()[name](), cut(random_log(users=80)), task, tmp_path)


def test_a_split_that_fits_on_its_answers_is_refused():
    split = leave_one_out(random_log())
    everything = replace(split, fitted=np.ones(len(split.history), bool))
    with pytest.raises(DataError, match="among the training interactions"):
        check_leaks(everything)


def test_a_case_that_holds_its_answer_is_refused():
    split = leave_one_out(random_log())
    cases = split.tests["last"]
    longer = replace(cases, length=cases.length + 1)
    with pytest.raises(DataError, match="inputs of their own cases"):
        check_leaks(replace(split, tests={"last": longer}))


def test_training_after_the_cut_is_refused():
    split = temporal(random_log(users=100))
    late = split.fitted.copy()
    repeated = np.flatnonzero((split.history.timestamp >= split.facts["t1"]) & ~is_first(split.history))
    late[repeated[0]] = True
    with pytest.raises(DataError, match="after the cut"):
        check_leaks(replace(split, fitted=late))
