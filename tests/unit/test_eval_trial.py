"""Trials are kept, and made anew exactly when data, settings, seed or code changed."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from test_eval_leaks import task
from test_eval_splits import random_log

from molar_eval import model_runs as trials
from molar_eval import modules
from molar_eval.model_runs import TrialRunner
from molar_eval.splits import leave_one_out


@dataclass
class Counting:
    """Scores by training counts plus noise of the seed, and counts its fits."""

    settings: dict = field(default_factory=dict)
    name: str = "counting"
    kind: str = "baseline"
    stochastic: bool = True
    fits: list = field(default_factory=list)
    facts: dict = field(default_factory=lambda: {"chosen": {"a": 1}})
    files: None = None

    def fit(self, task, seed, progress=None):
        self.fits.append(seed)
        self.row = np.bincount(task.training.item, minlength=task.training.n_items).astype(np.float32)
        self.row = self.row + np.random.default_rng(seed).random(len(self.row), np.float32)
        return self

    def scores(self, inputs):
        return np.tile(self.row, (inputs.n_users, 1))

    def finish(self, scores, allowed, inputs):
        return scores


@pytest.fixture
def bench(tmp_path):
    split = leave_one_out(random_log())
    return TrialRunner(split, task(split, tmp_path / "models"), 10, tmp_path / "trials", 1 << 20)


def test_a_trial_is_not_made_twice(bench):
    model = Counting()
    first, second = bench.run(model, 0), bench.run(model, 0)
    assert model.fits == [0]
    assert (first.cached, second.cached) == (False, True)
    assert second.facts == first.facts == {"chosen": {"a": 1}}
    assert second.fit_seconds == first.fit_seconds
    for test, ranked in first.ranked.items():
        for field_ in ("items", "scores", "ranks"):
            assert np.array_equal(getattr(ranked, field_), getattr(second.ranked[test], field_))


def test_what_changes_the_result_makes_another_trial(bench, monkeypatch):
    model = Counting()
    bench.run(model, 0)
    bench.run(model, 1)
    bench.run(replace(model, settings={"x": 1}), 0)
    replace(bench, k=5).run(model, 0)
    replace(bench, task=replace(bench.task, seen="show")).run(model, 0)
    replace(bench, split=leave_one_out(random_log(5))).run(model, 0)
    monkeypatch.setattr(modules, "of_modules", lambda *_: "other code")
    bench.run(model, 0)
    monkeypatch.setattr(modules, "library_versions", lambda *_: {"numpy": "0.1"})
    bench.run(model, 0)
    assert model.fits == [0, 1, 0, 0, 0, 0, 0, 0]
    bench.run(model, 0)
    assert len(model.fits) == 8


def test_the_seed_of_a_deterministic_model_does_not_count(bench):
    model = Counting(stochastic=False)
    bench.run(model, 0)
    bench.run(model, 1)
    assert model.fits == [0]


def test_a_killed_trial_leaves_nothing_that_looks_finished(bench, monkeypatch):
    model = Counting()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trials, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.run(model, 0)
    assert not bench.run(model, 0).cached
    assert bench.run(model, 0).cached
