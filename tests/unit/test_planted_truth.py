"""What is true of an experiment on the demo shop, and how often what is said of it is: plays without an index.

With ``MOLAR_TEST_INTRODUCTION_RUNS=200`` there are so many plays of each kind, which take some ten minutes of one core.
"""

import importlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from molar.planted import PlantedEffect, PlantedTruth
from molar_eval.experiments.results import Decision, Effect, ExperimentResults
from molar_retrieval.data.demo.traffic import ExpectedOutcome

BENCH = Path(__file__).resolve().parents[2] / "bench"
RUNS = int(os.environ.get("MOLAR_TEST_INTRODUCTION_RUNS", "0"))
WORSE, BETTER = ExpectedOutcome(0.5, 0.1, 4.0), ExpectedOutcome(1.0, 0.2, 6.0)
EFFECT = Effect("conversion", 0.4, 0.5, 0.1, 0.05, 0.15, 0.25, 0.1, 0.4, (900, 1_000), True, True)
RESULTS = ExperimentResults(
    name="all of it", stage="ab", since=0, until=1, people={}, triggered={}, both=0, srm=None, effects=(EFFECT,),
    guardrails=(), preference=None, shadow=None, looks=(), money=None,
    decision=Decision("wait", None, (), False), problems=(),
)  # fmt: skip


def test_the_truth_is_of_the_people_and_the_time_that_are_asked_for():
    truth = PlantedTruth()
    for unit, at in (("a", 10), ("a", 20), ("b", 5), ("b", 40), ("stranger", 15)):
        truth.add(unit, at, WORSE, BETTER)
    found = truth.effects({"a": 10, "b": 10, "c": 0}, 40)
    assert (found["clicks"].control, found["clicks"].treatment) == pytest.approx((1.0 / 3, 2.0 / 3))
    assert found["revenue"].difference == pytest.approx(2 * 2.0 / 3)
    assert found["conversion"].control == pytest.approx((1 - 0.9**2) / 3)
    assert found["conversion"].treatment == pytest.approx((1 - 0.8**2) / 3)
    assert truth.effects({}, 40) == {}


def test_estimates_stand_beside_the_truth_that_they_are_of():
    truth = PlantedTruth()
    truth.add("a", 0, WORSE, BETTER)
    (found,) = truth.beside(RESULTS, {"a": 0})
    assert found.truth == PlantedEffect("conversion", pytest.approx(0.1), pytest.approx(0.2))
    assert found.covered
    assert not replace(found, effect=replace(EFFECT, low=0.11)).covered
    assert found.to_dict()["truth"]["difference"] == pytest.approx(0.1)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("introduction")


def test_a_better_treatment_is_found_and_estimated_as_it_is(bench):
    (found,) = bench.plays(replace(bench.KINDS["better"], control=0.05, treatment=0.8), 1, 300)
    assert found.go == "on"
    assert {one.effect.metric for one in found.estimates} == {"clicks", "conversion", "revenue"}
    for one in found.estimates:
        assert one.truth.difference > 0.3 * one.truth.control
        assert one.covered


def test_of_two_equal_arms_neither_goes_on(bench):
    (found,) = bench.plays(replace(bench.KINDS["equal"], days=14), 1, 150, first=1)
    assert found.go in ("wait", "stop")
    assert all(one.covered for one in found.estimates)


def test_a_harmful_treatment_goes_back_from_its_canary(bench):
    (found,) = bench.plays(replace(bench.KINDS["harmful"], control=1.0, treatment=0.05), 1, 1_000)
    assert found.go == "back"
    assert 50 < found.treated < 500


@pytest.mark.skipif(not RUNS, reason="some ten minutes: set MOLAR_TEST_INTRODUCTION_RUNS to 200")
def test_intervals_hold_the_truth_as_often_as_they_say(bench):
    plays = {
        name: list(bench.plays(kind, RUNS, 1_000 if name != "harmful" else 4_000)) for name, kind in bench.KINDS.items()
    }
    for metric in ("conversion", "revenue", "clicks"):
        told = bench.summary(plays["better"])[metric]
        assert min(told["held its own truth"], told["held the mean of all"]) >= 0.93
    assert sum(one.go == "on" for one in plays["equal"]) <= 0.05 * RUNS
    assert sum(one.go == "back" and one.treated < 2_000 for one in plays["harmful"]) >= 0.9 * RUNS
