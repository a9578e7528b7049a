"""Money of an experiment: a month's margin with its interval, what machines and training took, payback, and doubt."""

import dataclasses
import json
import math

import numpy as np
import pytest
from made_up_experiment import DAY, EXPERIMENT, NOW, STAGES, effect, results

from molar_eval.experiments.analysis import earnings
from molar_eval.experiments.money import DAYS_OF_MONTH, MeasuredWork, money_of, payback, training_work
from molar_retrieval.errors import SettingsError
from molar_retrieval.experiments.definition import Arm
from molar_retrieval.experiments.records import StageRow
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import CostSettings

WORK = MeasuredWork(seconds=7200.0, works=2, killed=0)
ASKED = {"people": 10_000, "share": 0.5, "days": 28, "margin": 0.3, "machine_hour": 0.5, "currency": "EUR"}


def test_a_month_is_the_difference_times_people_times_margin():
    found = money_of((0.1, 0.2, 0.3), WORK, **ASKED)
    people = 10_000 / 0.5 * DAYS_OF_MONTH / 28
    assert (found.month_low, found.month, found.month_high) == pytest.approx(
        [0.3 * people * d for d in (0.1, 0.2, 0.3)]
    )
    assert found.machine == pytest.approx(0.5 * 730.5)
    assert (found.training, found.training_hours) == pytest.approx((1.0, 2.0))
    assert found.outcome == "brings"
    assert found.weeks_more == 0
    assert found.unknown == ()
    json.dumps(found.to_dict(), allow_nan=False)


def test_payback_is_a_range_and_never_where_nothing_is_left():
    shared = money_of((-0.1, 0.2, 0.3), WORK, **ASKED)
    assert shared.payback_low == pytest.approx(shared.training / shared.month_high)
    assert shared.payback_high is None  # at worst it brings nothing
    own = money_of((0.1, 0.2, 0.3), WORK, **ASKED, shared=False)
    assert own.payback_low == pytest.approx(own.training / (own.month_high - own.machine))
    assert payback(100, 365.25, 365.25) is None
    assert payback(None, 1.0) is None


def test_a_machine_of_its_own_has_to_be_earned_first():
    dear = ASKED | {"machine_hour": 1.5}
    assert money_of((0.1, 0.2, 0.3), WORK, **dear).outcome == "brings"
    assert money_of((0.1, 0.2, 0.3), WORK, **dear, shared=False).outcome == "open"
    assert money_of((0.01, 0.02, 0.03), WORK, **dear, shared=False).outcome == "loses"
    assert money_of((-0.3, -0.2, -0.1), WORK, **ASKED).outcome == "loses"


def test_what_is_not_known_is_no_number():
    nothing = money_of(None, WORK, **ASKED | {"margin": None, "machine_hour": None})
    assert nothing.unknown == ("revenue", "margin", "machine_hour")
    assert (nothing.month, nothing.machine, nothing.training, nothing.payback_low, nothing.weeks_more) == (None,) * 5
    assert nothing.training_hours == 2.0
    assert nothing.outcome == "unknown"
    assert money_of((-math.inf, 0.1, math.inf), WORK, **ASKED).unknown[0] == "revenue"
    assert money_of((0.1, 0.2, 0.3), WORK, **ASKED | {"days": 0}).unknown[0] == "revenue"


@pytest.mark.parametrize(
    "wrong", [{"share": 0}, {"share": 1.1}, {"people": -1}, {"days": math.nan}, {"margin": 30}, {"machine_hour": -1}]
)
def test_what_has_no_meaning_is_refused(wrong):
    with pytest.raises(SettingsError):
        money_of((0.1, 0.2, 0.3), WORK, **ASKED | wrong)


def test_after_the_weeks_that_are_named_most_experiments_can_tell():
    """Made-up experiments whose difference is as it was seen: after so many weeks 80 of 100 tell."""
    middle, half = 0.1, 0.2
    found = money_of((middle - half, middle, middle + half), WORK, **ASKED)
    weeks = 4 + found.weeks_more
    error = half / 1.96 * (4 / weeks) ** 0.5
    seen = np.random.default_rng(0).normal(middle, error, 20_000)
    assert np.mean(seen - 1.96 * error > 0) == pytest.approx(0.8, abs=0.015)
    assert money_of((0.001 - half, 0.001, 0.001 + half), WORK, **ASKED).weeks_more is None
    assert money_of((-half, 0.0, half), WORK, **ASKED).weeks_more is None


def test_training_is_read_from_the_log_of_work(tmp_path):
    (tmp_path / "shop").mkdir()
    place = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    lines = [
        {"what": "align", "begun": "2026-03-01T10:00:00+00:00", "state": "done", "seconds": 3600.0},
        {"what": "update", "begun": "2026-03-02T10:00:00+00:00", "state": "failed", "seconds": 60.0},
        {"what": "update", "begun": "2026-03-03T10:00:00+00:00", "state": "killed"},
        {"what": "evaluate", "begun": "2026-03-03T11:00:00+00:00", "state": "done", "seconds": 5000.0},
        {"what": "align", "begun": "2026-04-03T11:00:00+00:00", "state": "done", "seconds": 5000.0},
    ]
    (place.root / "work").mkdir(parents=True)
    (place.root / "work" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    march = 1_772_323_200_000_000
    assert training_work(place, march, march + 31 * 86_400_000_000) == MeasuredWork(3660.0, 2, 1)
    assert training_work(place, march + 12 * 3_600_000_000, march + 86_400_000_000) == MeasuredWork(0.0, 0, 0)


def test_an_experiment_is_charged_with_the_trainings_around_it_and_reckoned_for_everybody(tmp_path):
    (tmp_path / "shop").mkdir()
    place = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    costs = CostSettings(machine_hour=1.0, currency="JPY", margin=0.4)
    told = results(effect())
    revenue = told.effect("revenue")
    found = earnings(told, EXPERIMENT, STAGES, place, costs)
    assert found.month == pytest.approx(0.4 * revenue.difference * sum(revenue.people) * DAYS_OF_MONTH / 14)
    assert found.machine == pytest.approx(730.5)
    assert (found.currency, found.shared, found.training, found.unknown) == ("JPY", False, None, ("training",))
    rules = dataclasses.replace(EXPERIMENT, control=Arm(), treatment=Arm(rules="rules.toml"))
    untrained = earnings(told, rules, STAGES, place, costs)
    assert (untrained.shared, untrained.training, untrained.payback_low, untrained.unknown) == (True, 0.0, 0.0, ())
    half = dataclasses.replace(EXPERIMENT, slice=(0.0, 0.5), margin=0.2)
    assert earnings(told, half, STAGES, place, costs).month == pytest.approx(found.month)
    canary = earnings(told, EXPERIMENT, STAGES[:2], place, costs)
    assert canary.month == pytest.approx(found.month * 14 / 21 / 0.1)
    uneven = dataclasses.replace(EXPERIMENT, treated=0.2)  # whoever could have been in the canary is left out
    assert earnings(told, uneven, STAGES, place, costs).month == pytest.approx(found.month / 0.9)
    blocks = dataclasses.replace(EXPERIMENT, unit="time", slice=(0.0, 0.5))
    assert earnings(told, blocks, [STAGES[0], STAGES[2]], place, costs).month == pytest.approx(found.month)
    stopped = [*STAGES, StageRow(4, "stopped", NOW, "", "anna", automatic=False)]
    later = dataclasses.replace(told, stage="stopped", until=NOW + 9 * DAY)
    assert earnings(later, EXPERIMENT, stopped, place, costs).month == pytest.approx(found.month)
    assert earnings(told, EXPERIMENT, STAGES[:1], place, costs) is None
    assert earnings(results(None), EXPERIMENT, STAGES, place, costs).unknown[0] == "revenue"
