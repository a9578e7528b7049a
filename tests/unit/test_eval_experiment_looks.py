"""Looks at an A/B stage: false alarms and power by simulation, with what people do adding up from week to week."""

import os

import numpy as np
import pytest

from molar_eval.experiments.ab_test import Moments, compare_means
from molar_eval.experiments.decisions import WEEK, ComparedMetric, due, taken_now
from molar_retrieval.experiments.definition import Experiment
from molar_retrieval.experiments.records import Look

RUNS = int(os.environ.get("MOLAR_TEST_EXPERIMENT_RUNS", "25"))  # 1,000 for docs/experiments.md
WEEKS = 4


def decided(experiment: Experiment, rng: np.random.Generator, people: int, lift: float) -> Look:
    """The last look at an experiment in whose weeks so many people come, each of whom buys at a moment of their own."""
    rate = rng.gamma(2.0, 0.1, people)  # purchases until the end, of who comes at the beginning
    treated = rng.random(people) < 0.5
    came = rng.uniform(0, WEEKS, people)
    faithful = rng.poisson(3 * rate).astype(np.float64)
    buys = came + rng.exponential(WEEKS / (rate * np.where(treated, 1 + lift, 1.0)))
    taken: list[Look] = []
    for week in range(1, WEEKS + 1):
        here = came < week
        bought = (buys < week).astype(np.float64)
        arms = [Moments.of(bought[here & of], faithful[here & of]) for of in (~treated, treated)]
        found = ComparedMetric("conversion", compare_means(*arms), cuped=True)
        look = due(experiment, 0, week * WEEK, taken)
        if look is None:
            break
        if (made := taken_now(experiment, look, found, taken, week, week * WEEK)) is not None:
            taken.append(made)
    return taken[-1]


@pytest.mark.parametrize("people", [700, 4_000])
def test_false_alarms_are_as_rare_as_they_should_be(people: int) -> None:
    """Also where far fewer come than the plan asks for, and far more."""
    rng = np.random.default_rng(people)
    experiment = Experiment("red", weeks=WEEKS, lift=0.5, alpha=0.05)
    alarms = sum(decided(experiment, rng, people, 0.0).decision in ("on", "back") for _ in range(RUNS))
    assert alarms <= RUNS * 0.05 + 3 * np.sqrt(RUNS * 0.05 * 0.95)


def test_the_planned_effect_is_found() -> None:
    rng = np.random.default_rng(1)
    experiment = Experiment("red", weeks=WEEKS, lift=0.5)
    looks = [decided(experiment, rng, 1_400, 0.55) for _ in range(RUNS)]
    found = sum(look.decision == "on" for look in looks)
    assert all(look.decision != "back" for look in looks)
    assert found >= RUNS * 0.5
