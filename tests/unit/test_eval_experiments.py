"""Plans of experiments: sizes and bounds against published constants, power by simulation, outcomes of a log."""

import os
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from scipy.stats import norm

from molar_eval.experiments.ab_test import Design, UnchangedOutcome, adjusted, explained
from molar_eval.experiments.covariates import PastPurchases, end_of, outcomes
from molar_eval.experiments.planning import plan_experiment, remedies, verdicts
from molar_eval.experiments.sequential import boundaries, crossing, inflation, inflation_of
from molar_retrieval.data.event_store import DAY
from molar_retrieval.errors import DataError, SettingsError

RUNS = int(os.environ.get("MOLAR_TEST_EXPERIMENT_RUNS", "400"))  # 4,000 for docs/experiments.md


def test_bounds_are_those_of_lan_and_demets():
    """Five equally spaced looks, two-sided .05: as the program of Reboussin et al. 2000 and gsDesign print them."""
    assert boundaries(5) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    assert boundaries(1) == pytest.approx([1.95996], abs=1e-5)
    assert crossing(boundaries(12)) == pytest.approx(0.05, abs=1e-9)


def test_integration_gives_the_constants_of_obrien_and_fleming():
    """Jennison and Turnbull 2000, tables 2.3 and 2.4: C = 2.040; R = 1.028 and 1.026 at a power of .8 and .9."""
    bounds = [2.040 * (5 / look) ** 0.5 for look in range(1, 6)]
    assert bounds == pytest.approx([4.56, 3.23, 2.63, 2.28, 2.04], abs=0.006)
    assert crossing(bounds) == pytest.approx(0.05, abs=5e-5)
    assert inflation_of(bounds, 0.05, 0.8) == pytest.approx(1.028, abs=6e-4)
    assert inflation_of(bounds, 0.05, 0.9) == pytest.approx(1.026, abs=6e-4)


def test_looking_costs_little_and_more_looks_cost_more():
    costs = [inflation(looks) for looks in (1, 2, 4, 8, 12)]
    assert costs[0] == 1
    assert costs == sorted(costs)
    assert costs[-1] < 1.05


def test_sizes_are_those_of_the_formula():
    """Fleiss, Levin and Paik 2003, without continuity: .25 against .40 takes 150 per arm at .8, worked by hand."""
    z = norm.isf(0.025) + norm.ppf(0.8)
    by_hand = z**2 * (0.25 * 0.75 + 0.4 * 0.6) / 0.15**2
    assert by_hand == pytest.approx(149.1, abs=0.1)
    share = UnchangedOutcome(0.25, 0.25 * 0.75, binary=True)
    assert Design().people(share, 0.6) == pytest.approx(2 * by_hand, abs=1)
    assert Design(treated=0.2).people(share, 0.6) > Design().people(share, 0.6)
    assert Design().people(share, 0.6, explained=0.4) == pytest.approx(2 * by_hand * 0.6, abs=1)


def test_the_smallest_effect_takes_just_the_people_that_there_are():
    money = UnchangedOutcome(20.0, 900.0)
    for design in (Design(), Design(0.01, 0.9, 0.3, 1.02)):
        lift = design.smallest(money, 5_000, 0.3)
        assert design.people(money, lift, 0.3) == pytest.approx(5_000, abs=1)


def test_a_share_cannot_rise_above_everybody():
    most = UnchangedOutcome(0.9, 0.09, binary=True)
    assert Design().people(most, 0.2) is None
    assert Design().smallest(most, 4) is None
    assert UnchangedOutcome(0.0, 0.0, binary=True).room == inf
    assert Design().people(UnchangedOutcome(0.0, 0.0), 0.1) is None


def spending(rng, people):
    """Spend of people who mostly buy nothing, and what they spent before."""
    taste = rng.gamma(0.6, 1.0, people)
    before = rng.gamma(0.2 + 3 * taste, 30.0) * (rng.random(people) < 0.9)
    now = rng.gamma(0.2 + 3 * taste, 10.0) * (rng.random(people) < 0.6)
    return now, before


def z_value(control, treated):
    error = np.sqrt(control.var() / len(control) + treated.var() / len(treated))
    return (treated.mean() - control.mean()) / error


def found(rng, people, lift, treated, *, cuped, looks=1):
    """How often a lift is found in so many people, by simulated experiments; looks come as people do."""
    bounds, hits = boundaries(looks), 0
    for _ in range(RUNS):
        now, before = spending(rng, people)
        new = rng.random(people) < treated
        now = np.where(new, now * (1 + lift), now)
        ends = (people * np.arange(1, looks + 1)) // looks
        for end, bound in zip(ends, bounds, strict=True):
            outcome = adjusted(now[:end], before[:end]) if cuped else now[:end]
            if abs(z_value(outcome[~new[:end]], outcome[new[:end]])) > bound:
                hits += 1
                break
    return hits / RUNS


@pytest.mark.parametrize(
    ("treated", "cuped", "looks"), [(0.5, False, 1), (0.5, True, 1), (0.2, False, 1), (0.5, True, 4)]
)
def test_planned_people_give_the_planned_power_and_no_more_false_alarms(treated, cuped, looks):
    rng = np.random.default_rng(24)
    now, before = spending(rng, 200_000)
    baseline, share = UnchangedOutcome(now.mean(), now.var()), explained(now, before) if cuped else 0.0
    people = Design(treated=treated, inflation=inflation(looks)).people(baseline, 0.2, share)
    chance = 3 * np.sqrt(0.8 * 0.2 / RUNS)  # what a simulation of so many runs can be off
    assert found(rng, people, 0.2, treated, cuped=cuped, looks=looks) == pytest.approx(0.8, abs=max(0.03, chance))
    alarms = found(rng, people, 0.0, treated, cuped=cuped, looks=looks)
    assert alarms <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / RUNS)
    if cuped and looks == 1:
        assert found(rng, people, 0.2, treated, cuped=False) < 0.75  # so few people do not do without it


def test_cuped_leaves_the_mean_and_takes_out_the_squared_correlation():
    now, before = spending(np.random.default_rng(1), 10_000)
    left = adjusted(now, before)
    assert left.mean() == pytest.approx(now.mean())
    assert left.var() == pytest.approx(now.var() * (1 - np.corrcoef(now, before)[0, 1] ** 2))
    assert explained(now, np.ones(10_000)) == 0
    assert explained(np.ones(10_000), now) == 0


def past(rows, *, value=True, visits=(), since=None):
    """Purchases as (person, day, value), visits as (person, day)."""
    person, day, worth = (np.array(column) for column in zip(*rows, strict=True))
    came = np.array(visits, np.int64).reshape(-1, 2)
    return PastPurchases(
        person, day * DAY + 5, worth.astype(float) if value else None, came[:, 0], came[:, 1], visits_since=since
    )


def test_buyers_are_those_of_the_weeks_before():
    log = past([(0, 0, 5), (1, 10, 7), (1, 16, 2), (1, 17, 3), (2, 20, 9), (0, 20, 0)])
    seen = outcomes(log, 1, end_of(log), "buyers")  # days 14 to 20
    assert (seen.people, seen.before) == (2, 2)
    assert seen.converted.tolist() == [1, 1]  # person 2 is new
    assert seen.spent.tolist()[0] == 0
    assert 0 < seen.spent.tolist()[1] <= 5
    assert outcomes(log, 2, end_of(log), "buyers") is None  # one week before two weeks
    assert outcomes(log, 1, end_of(log) - 7, "buyers").people == 1


def test_visitors_are_those_who_came():
    log = past([(0, 0, 5), (1, 16, 2), (5, 17, 3)], visits=[(3, 15), (3, 16), (4, 2), (1, 16)], since=2)
    seen = outcomes(log, 1, 21, "visitors")  # days 14 to 20: 1 and 3 came, 5 bought
    assert seen.converted.tolist() == [1, 0, 1]
    assert outcomes(log, 3, 21, "visitors") is None  # days 0 and 1 are not known


def test_few_rich_people_do_not_decide():
    rng = np.random.default_rng(3)
    rows = [
        (0, 1, 1),
        *((one, day, 10 + rng.random()) for one in range(1_000) for day in (10, 30) if rng.random() < 0.5),
    ]
    calm = outcomes(past(rows), 2, 31, "buyers").baseline("revenue")[0]
    rich = outcomes(past([*rows, (0, 10, 5), (0, 30, 1e6)]), 2, 31, "buyers").baseline("revenue")[0]
    assert rich.variance == pytest.approx(calm.variance, rel=0.1)


def shop_log(people=1_500, days=280, seed=0):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.7, 0.02, people)
    rows = [
        (one, day, 20 * (1 + rng.random()))
        for one in range(people)
        for day in np.flatnonzero(rng.random(days) < rate[one])
    ]
    return past([*rows, (0, days - 1, 1.0)])


def test_a_plan_says_what_can_be_seen_and_what_cannot():
    plan = plan_experiment(shop_log())
    told = verdicts(plan)
    assert plan.who == "buyers"
    weeks = [window.weeks for window in plan.metrics["revenue"]]
    assert weeks == [1, 2, 4, 8, 12]
    assert any(line.startswith("This shop cannot see +5 % revenue within 12 weeks: ") for line in told)
    first = plan.shortest("conversion", 0.2, cuped=False)
    assert f"+20 % conversion can be seen in {first.weeks} weeks" in " ".join(told)
    shorter = [window for window in plan.metrics["conversion"] if window.weeks < first.weeks]
    assert not any(need.seen for window in shorter for need in window.needed if need.lift == 0.2)
    assert any("CUPED" in line for line in remedies(plan))
    half = plan_experiment(shop_log(), share=0.5)
    assert half.metrics["revenue"][2].people == plan.metrics["revenue"][2].people // 2
    assert half.metrics["revenue"][2].needed[0].plain == plan.metrics["revenue"][2].needed[0].plain


def test_without_prices_conversion_alone_is_planned():
    plan = plan_experiment(replace(shop_log(300), value=None))
    assert list(plan.metrics) == ["conversion"]
    assert any("no prices" in note for note in plan.notes)
    assert not any("revenue" in line for line in [*verdicts(plan), *remedies(plan)])


def test_a_log_that_is_too_short_or_of_one_person_is_an_error():
    with pytest.raises(DataError, match="knows buyers for 6 days, too few for a window of 1 week"):
        plan_experiment(past([(0, 0, 1), (1, 5, 1)]))
    with pytest.raises(DataError, match="fewer than two buyers"):
        plan_experiment(past([(0, 0, 1), (0, 40, 1)]))
    short = plan_experiment(past([(one, day, 1) for one in range(5) for day in (0, 20, 30)]))
    assert short.too_long == (4, 8, 12)
    assert any("only rough" in note for note in short.notes)
    with pytest.raises(DataError, match="knows visitors for 0 days"):
        plan_experiment(shop_log(50), who="visitors")


def test_a_window_in_which_nobody_or_everybody_buys_says_so():
    nobody = plan_experiment(past([(0, 0, 1), (1, 0, 2)], visits=[(0, 27)], since=27), who="buyers", weeks=[1])
    assert verdicts(nobody)[0] == "+5 % conversion cannot be seen: within 1 week nobody bought."
    all_buy = plan_experiment(past([(one, day, 1) for one in range(9) for day in (0, 13)]), weeks=[1])
    assert verdicts(all_buy)[0] == "+5 % conversion cannot be seen: within 1 week 100 % of people buy already."


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0}, {"treated": 1}, {"alpha": 0}, {"power": 0.04}, {"power": 1}, {"weeks": [0]}, {"weeks": []},
     {"lifts": [0]}, {"lifts": [float("nan")]}, {"share": float("nan")}],
)  # fmt: skip
def test_settings_without_meaning_are_errors(wrong):
    with pytest.raises(SettingsError):
        plan_experiment(past([(0, 0, 1), (1, 40, 1)]), **wrong)
