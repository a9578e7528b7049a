"""Verdicts on what people of a real shop spent: false where nothing was changed, power where something was."""

import os
from math import sqrt

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from molar_eval.experiments.ab_test import Design, Moments, UnchangedOutcome, compare_means, explained
from molar_eval.experiments.covariates import PastPurchases, end_of, outcomes
from molar_eval.experiments.sequential import (
    ALPHA,
    ArmSums,
    difference_sequence,
    inflation,
    next_look,
    planned_information,
    tuned_to,
)
from molar_retrieval.data.event_store import DAY

RUNS = int(os.environ.get("MOLAR_TEST_EXPERIMENT_RUNS", "200"))  # 4,000 for docs/experiments.md
WEEKS = 4
LOOKS = 4 * 7 * 8
"""At guardrails, every three hours; a verdict is looked at once a week."""
pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def shop(real_data):
    """Of buyers of the weeks before: outcomes at each look, shape (looks, people), and what they did before."""
    columns = ["user_id", "timestamp", "quantity", "price"]
    log = pq.read_table(real_data("online-retail") / "interactions.parquet", columns=columns)
    log = log.filter(pc.and_(pc.greater(log["quantity"], 0), pc.greater(log["price"], 0)))
    person = pc.dictionary_encode(log["user_id"]).combine_chunks().indices.to_numpy().astype(np.int64)
    worth = log["quantity"].to_numpy() * log["price"].to_numpy()
    past = PastPurchases(person, log["timestamp"].to_numpy() * 1_000_000, worth, *np.zeros((2, 0), np.int64))
    last = end_of(past)
    whole = outcomes(past, WEEKS, last, "buyers")
    begin = last - 7 * WEEKS
    people = np.unique(person[(past.micros // DAY >= begin - 7 * whole.before) & (past.micros // DAY < begin)])
    assert len(people) == whole.people > 3_000
    there = (past.micros >= begin * DAY) & (past.micros < last * DAY) & np.isin(person, people)
    look = ((past.micros[there] - begin * DAY) * LOOKS // (7 * WEEKS * DAY)).astype(int)
    each = np.zeros((LOOKS, len(people)))
    np.add.at(each, (look, np.searchsorted(people, person[there])), worth[there])
    spent = np.minimum(np.cumsum(each, axis=0), whole.spent.max())
    assert spent[-1] == pytest.approx(whole.spent)
    return {
        "revenue": (spent, whole.spent_before),
        "conversion": ((spent > 0).astype(float), whole.bought_before),
    }


def weekly(shop, metric):
    """What people did after each week, shape (4, people), and before."""
    now, before = shop[metric]
    return now[LOOKS // WEEKS - 1 :: LOOKS // WEEKS], before


def decided(now, before, new, planned, looks):
    """Whether one of the looks finds a difference; with CUPED where it is known what people did before."""
    made = []
    for number, figures in enumerate(now[-looks:], 1):
        parts = [Moments.of(figures[arm], *([] if before is None else [before[arm]])) for arm in (~new, new)]
        found = compare_means(*parts)
        look = next_look(made, found.lift_information / planned, last=number == looks)
        if look is None:
            continue
        made.append(look)
        if abs(found.statistic) > look.bound:
            return True
    return False


def lifted(rng, metric, now, lift, new):
    """Outcomes where the treated do more: each of them spends more; some who did not buy do so, at some time."""
    if metric == "revenue":
        return np.where(new, now * (1 + lift), now)
    share = now[-1].mean()
    more = new & (now[-1] == 0) & (rng.random(now.shape[1]) < share * lift / (1 - share))
    since = rng.choice(len(now), now.shape[1], p=np.diff(now.mean(axis=1), prepend=0) / share)
    return np.where(more & (np.arange(len(now))[:, None] >= since), 1.0, now)


CASES = [("revenue", True, 4, 0.5, 1), ("conversion", True, 4, 0.5, 1), ("revenue", False, 1, 0.2, 4)]
"""The last: how many times as many people as the shop has, drawn from them."""


@pytest.mark.parametrize(("metric", "cuped", "looks", "treated"), [case[:-1] for case in CASES])
def test_nothing_is_decided_where_nothing_was_changed(shop, metric, cuped, looks, treated, record_property):
    rng, (now, before) = np.random.default_rng(20), weekly(shop, metric)
    planned = planned_information(smallest(now, before, cuped, looks, treated), looks=looks)
    wrong = np.mean([
        decided(now, before if cuped else None, rng.random(now.shape[1]) < treated, planned, looks)
        for _ in range(RUNS)
    ])  # fmt: skip
    record_property("false decisions", float(wrong))
    assert wrong <= 0.05 + 3 * sqrt(0.05 * 0.95 / RUNS)


def smallest(now, before, cuped, looks, treated, times=1):
    """The smallest lift that the plan says is seen with a power of 80 %, by all people of the shop."""
    base = UnchangedOutcome(now[-1].mean(), now[-1].var(), binary=now.max() == 1)
    share = explained(now[-1], before) if cuped else 0.0
    design = Design(treated=treated, inflation=inflation(looks))
    return design.smallest(base, times * now.shape[1], share)


@pytest.mark.parametrize(("metric", "cuped", "looks", "treated", "times"), CASES)
def test_an_effect_that_was_planned_for_is_found_as_often_as_planned(
    shop, metric, cuped, looks, treated, times, record_property
):
    rng, (now, before) = np.random.default_rng(21), weekly(shop, metric)
    lift = smallest(now, before, cuped, looks, treated, times)
    planned, hits = planned_information(lift, looks=looks), []
    for _ in range(RUNS):
        people = rng.integers(0, now.shape[1], times * now.shape[1])
        new = rng.random(len(people)) < treated
        changed = lifted(rng, metric, now[:, people], lift, new)
        hits.append(decided(changed, before[people] if cuped else None, new, planned, looks))
    record_property(f"found of +{lift:.1%}", float(np.mean(hits)))
    assert np.mean(hits) == pytest.approx(0.8, abs=max(0.03, 3 * sqrt(0.8 * 0.2 / RUNS)))


@pytest.mark.parametrize("metric", ["revenue", "conversion"])
@pytest.mark.parametrize("control", [0.05, 0.5, 0.95])
def test_guardrails_are_quiet_on_real_spend_however_often_one_looks(shop, metric, control, record_property):
    rng, now = np.random.default_rng(22), shop[metric][0]
    draws, arms = rng.random((now.shape[1], RUNS)), []
    for arm in (draws >= 1 - control, draws < 0.05):
        arms.append(ArmSums(np.tile(arm.sum(axis=0), (LOOKS, 1)).astype(float), now @ arm, now**2 @ arm))
    tuned = tuned_to(200, now[-1].var(), 0.05 / control)
    same = difference_sequence(*arms, tuned=tuned)
    wrong = [same.less().any(axis=0).mean(), same.more().any(axis=0).mean()]
    record_property("false alarms", [float(one) for one in wrong])
    assert max(wrong) <= ALPHA + 3 * sqrt(ALPHA * (1 - ALPHA) / RUNS)
