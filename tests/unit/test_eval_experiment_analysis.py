"""Experiments are analysed: made-up logs with a known truth, and every way in which data can be broken."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molar_eval.experiments.analysis import analyse
from molar_eval.experiments.results import ExperimentResults
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.experiments.assignment import arm_of, arm_of_block, block_of
from molar_retrieval.experiments.definition import ARMS, Arm, Experiment, Stage
from molar_retrieval.experiments.records import EDGES, Assignment, ServedRow, ShadowRow
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace

SECOND = 1_000_000
DAY = 86_400 * SECOND
BEGUN = 20_000 * DAY
WEEK = 7 * DAY
MINUTES = range(BEGUN // (60 * SECOND), BEGUN // (60 * SECOND) + 50)
FAST = tuple(20 if number == 4 else 0 for number in range(len(EDGES) + 1))
SLOW = tuple(20 if number == 12 else 0 for number in range(len(EDGES) + 1))
AB = Experiment("red", salt="x", weeks=2, lift=0.5)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,title,price\na,first,10\nb,second,20\n")
    workspace = Workspace.for_catalogue(tmp_path / ".molar", folder)
    prepare_catalogue(folder, workspace)
    return workspace


class Played:
    """An experiment that was played with made-up people, of whom each comes on a day of its own."""

    def __init__(self, workspace: Workspace, experiment: Experiment, stage: Stage, people: int, days: int = 14) -> None:
        self.workspace, self.experiment, self.stage = workspace, experiment, stage
        self.rng = np.random.default_rng(7)
        self.names = [f"p{number}" for number in range(people)]
        self.arms = {name: arm for name in self.names if (arm := arm_of(experiment, stage, name)) is not None}
        self.at = {name: BEGUN + int(self.rng.uniform(0, days) * DAY) for name in self.names}
        self.rows: list[dict[str, Any]] = []

    def happens(self, kind: str, chances: Mapping[str, float], later: int = 600, **more: Any) -> "Played":
        """Something happens to people by their arm, some seconds after they came."""
        for name, arm in self.arms.items():
            if self.rng.random() < chances[arm]:
                self.row(kind, name, self.at[name] // SECOND + later, **({"arm": f"red:{arm}"} | more))
        return self

    def row(self, kind: str, name: str, at: int, **more: Any) -> None:
        row = {"event": kind, "event_id": str(len(self.rows)), "user_id": name, "timestamp": at, "item_id": "a", **more}
        self.rows.append({key: value for key, value in row.items() if value is not None})

    def told(self, *, recorded: bool = True, lost: float = 0.0) -> "Played":
        """Write down what happened; of the treated a share is lost on the way."""
        with closing(EventLog(self.workspace)) as log:
            done = log.append(enumerate(self.rows))
        assert not done.refused, done.refusals
        kept = [name for name, arm in self.arms.items() if arm == "control" or self.rng.random() >= lost]
        self.kept = kept if recorded else []
        with ExperimentStore(self.workspace, make=True) as store:
            store.start(self.experiment, self.stage, BEGUN)
        return self

    def serve(self, *rows: ServedRow) -> None:
        with ExperimentStore(self.workspace) as store:
            store.record_served("red", "1", rows)

    def recorded(self, until: int) -> None:
        """Put on record who came so far."""
        came = [name for name in self.kept if self.at[name] < until]
        with ExperimentStore(self.workspace) as store:
            store.assign([Assignment("red", name, self.arms[name], self.at[name]) for name in came])
            store.trigger("red", [(name, self.at[name]) for name in came])

    def results(self, until: int = BEGUN + 2 * WEEK) -> ExperimentResults:
        self.recorded(until)
        return analyse(self.workspace, "red", until)


def played(workspace: Workspace, before: float, now: float, *, people: int = 1_000, **more: Any) -> Played:
    """Everybody looks at something, and some buy, as many of the control arm as before."""
    found = Played(workspace, Experiment(**{**vars(AB), **more}), "ab", people)
    found.happens("view", {"control": 1, "treatment": 1})
    return found.happens("purchase", {"control": before, "treatment": now})


def test_an_effect_is_found_and_its_interval_covers_it(workspace: Workspace) -> None:
    shop = Played(workspace, AB, "ab", 1_500)
    faithful = {name for name in shop.names if shop.rng.random() < 0.4}
    for name, arm in shop.arms.items():
        shop.row("view", name, shop.at[name] // SECOND)
        if name in faithful:
            shop.row("purchase", name, (BEGUN - 20 * DAY) // SECOND)
        if shop.rng.random() < (0.6 if name in faithful else 0.1) + (0.2 if arm == "treatment" else 0.0):
            shop.row("purchase", name, shop.at[name] // SECOND + 600)
    results = shop.told().results()
    effect = results.effect("conversion")
    assert effect is not None
    assert effect is results.effects[0]
    assert effect.low < 0.2 < effect.high
    assert effect.significant
    assert effect.cuped
    assert effect.people == (results.triggered["control"], results.triggered["treatment"])
    assert sum(effect.people) == 1_500
    money = results.effect("revenue")
    assert money is not None
    assert money.low < 2 < money.high
    assert results.problems == ()
    assert results.srm is not None
    assert results.srm > 0.01
    assert [look.decision for look in results.looks] == ["on"]
    assert (results.decision.go, results.decision.to, results.decision.automatic) == ("on", "everybody", False)
    json.dumps(results.to_dict(), allow_nan=False)


def test_without_an_effect_nothing_is_found(workspace: Workspace) -> None:
    shop = played(workspace, 0.4, 0.4).told()
    first, last = shop.results(BEGUN + WEEK), shop.results()
    assert first.problems == last.problems == ()
    for results in (first, last):
        assert not any(effect.significant for effect in results.effects)
        assert not any(one.alarm for one in results.guardrails)
    assert last.decision.go == "stop"
    assert last.decision.to == "stopped"
    assert not last.decision.automatic


def test_harm_sends_an_ab_stage_back_by_itself(workspace: Workspace) -> None:
    results = played(workspace, 0.5, 0.3, harm={"conversion": 0.9, "revenue": 0.9}).told().results()
    assert [look.decision for look in results.looks] == ["back"]
    assert (results.decision.go, results.decision.to, results.decision.automatic) == ("back", "shadow", True)


def test_a_look_is_taken_once_whatever_is_killed_and_whoever_asks(workspace: Workspace) -> None:
    shop = played(workspace, 0.4, 0.44, weeks=4, lift=0.1).told()
    assert shop.results(BEGUN + WEEK - SECOND).looks == ()
    first = shop.results(BEGUN + WEEK + SECOND)
    again = shop.results(BEGUN + WEEK + 2 * DAY)  # another process, after more came
    assert len(first.looks) == 1
    assert again.looks == first.looks
    assert first.decision.why == again.decision.why
    second = shop.results(BEGUN + 2 * WEEK)
    assert [look.number for look in second.looks] == [1, 2]
    assert second.looks[0] == first.looks[0]
    assert second.looks[1].spent > first.looks[0].spent
    assert second.looks[1].facts["planned"] == first.looks[0].facts["planned"]
    with ExperimentStore(workspace) as store:
        assert tuple(store.looks("red")) == second.looks


def test_kills_change_no_look(workspace: Workspace) -> None:
    shop = played(workspace, 0.4, 0.44, weeks=4, lift=0.1).told()
    for weeks in (1, 2):
        until = BEGUN + weeks * WEEK + SECOND
        shop.recorded(until)
        for late in (0.01, 0.05, 0.1, 0.2):  # seconds until whoever asks is killed
            child = os.fork()
            if not child:
                analyse(workspace, "red", until)
                os._exit(0)
            time.sleep(late)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        whole = shop.results(until).looks
    shutil.rmtree(workspace.root / "experiments")
    shop.rows = []
    shop.told()
    shop.results(BEGUN + WEEK + SECOND)
    assert shop.results(BEGUN + 2 * WEEK + SECOND).looks == whole
    assert len(whole) == 2


def test_nobody_looks_while_data_are_broken(workspace: Workspace) -> None:
    results = played(workspace, 0.3, 0.5).told(lost=0.4).results()
    assert results.srm is not None
    assert results.srm < 0.001
    assert "the arms are uneven" in results.problems[0]
    assert results.looks == ()
    assert results.decision.go == "wait"
    assert results.decision.why[0] == "there is no verdict on broken data"


def test_people_with_both_arms_are_left_out_and_too_many_of_them_are_a_problem(workspace: Workspace) -> None:
    shop = played(workspace, 0.3, 0.5)
    shop.told()
    shop.results()
    with ExperimentStore(workspace) as store:
        store.met_other("red", list(shop.arms)[:30])
        few = shop.results()
        assert (few.both, few.problems) == (30, ())
        assert sum(few.people.values()) == 970
        store.met_other("red", list(shop.arms)[:200])
    assert "20% of the people had both arms" in shop.results().problems[0]


def test_what_is_assigned_elsewhere_comes_to_the_same(workspace: Workspace, tmp_path: Path) -> None:
    here = played(workspace, 0.3, 0.5).told().results()
    (tmp_path / "other").mkdir()
    other = Workspace.for_catalogue(tmp_path / "other" / ".molar", tmp_path / "other")
    shop = played(other, 0.3, 0.5, assigned="elsewhere")
    for row in shop.rows:  # the page told who has which arm as they came
        row["timestamp"] += -600 if row["event"] == "view" else 0
    there = shop.told(recorded=False).results()
    assert there.people == here.people
    one, again = here.effect("conversion"), there.effect("conversion")
    assert one is not None
    assert again is not None
    assert again.people == one.people
    ends = (again.difference, again.low, again.high)
    assert ends == pytest.approx((one.difference, one.low, one.high), rel=1e-9)


def test_late_events_count_in_the_next_analysis(workspace: Workspace) -> None:
    shop = played(workspace, 0.3, 0.5).told()
    before = shop.results(BEGUN + DAY).effect("conversion")
    assert before is not None
    treated = next(n for n, arm in shop.arms.items() if arm == "treatment" and shop.at[n] < BEGUN + DAY // 2
                   and not any(r["user_id"] == n and r["event"] == "purchase" for r in shop.rows))  # fmt: skip
    shop.rows = [{"event": "purchase", "event_id": "late", "user_id": treated, "item_id": "a",
                  "timestamp": shop.at[treated] // SECOND + 900}]  # fmt: skip
    with closing(EventLog(workspace)) as log:
        log.append(enumerate(shop.rows))
    after = shop.results(BEGUN + DAY).effect("conversion")
    assert after is not None
    assert after.treatment > before.treatment
    assert after.control == before.control


def test_a_page_that_sends_nothing_is_named(workspace: Workspace) -> None:
    shop = Played(workspace, AB, "ab", 400).happens("view", {"control": 1, "treatment": 0})
    words = shop.happens("impression", {"control": 1, "treatment": 1}).told().results().problems
    assert len(words) == 1
    assert "the event log has nothing that the" in words[0]
    assert "people of treatment" in words[0]


def test_clocks_that_jump_are_named(workspace: Workspace) -> None:
    shop = played(workspace, 0.3, 0.3, people=200)
    shop.told()
    with ExperimentStore(workspace) as store:
        store.assign([Assignment("red", "later", "control", BEGUN + 3 * WEEK)])
    assert "first seen later than now" in shop.results().problems[0]
    shop.rows = []
    soon = int(time.time()) + 7_200  # later than it arrives
    for name in shop.names[:50]:
        shop.row("view", name, soon, event_id=f"soon {name}")
        shop.row("view", name, BEGUN // SECOND - 7_200, event_id=f"early {name}", arm=f"red:{shop.arms[name]}")
    with closing(EventLog(workspace)) as log:
        assert not log.append(enumerate(shop.rows)).refused
    early = shop.results().problems
    assert any("name an arm before their person was first seen" in words for words in early)
    assert any("from the future" in words for words in shop.results(soon * SECOND - 3_600 * SECOND).problems)


def test_a_hole_in_the_log_is_named(workspace: Workspace) -> None:
    shop = played(workspace, 0.3, 0.5)
    shop.rows = [row for row in shop.rows if not BEGUN + 3 * DAY <= row["timestamp"] * SECOND < BEGUN + 5 * DAY]
    assert re.search("4[89] hours on end", shop.told().results().problems[0])


def test_weekdays_on_which_a_shop_is_closed_are_no_hole(workspace: Workspace) -> None:
    shop = played(workspace, 0.3, 0.5)
    closed = [BEGUN + day * DAY for day in (3, 4, 10, 11)]
    shop.rows = [row for row in shop.rows if row["timestamp"] * SECOND // DAY * DAY not in closed]
    assert shop.told().results().problems == ()


def test_a_generation_that_is_gone_is_named(workspace: Workspace) -> None:
    shop = played(workspace, 0.3, 0.5, treatment=Arm(generation="g7")).told()
    assert "the generation g7 of treatment is gone" in shop.results().problems[0]


def test_harm_in_a_canary_goes_back_by_itself_and_no_harm_goes_on_after_a_week(workspace: Workspace) -> None:
    canary = Experiment("red", salt="x", canary=0.5)
    shop = Played(workspace, canary, "canary", 1_500).happens(
        "click", {"control": 0.6, "treatment": 0.3}, request_id="r"
    )
    results = shop.told().results(BEGUN + 5 * DAY)
    clicks = next(one for one in results.guardrails if one.metric == "clicks")
    assert clicks.alarm
    assert clicks.high is not None
    assert clicks.high < 0
    assert (results.decision.go, results.decision.to, results.decision.automatic) == ("back", "shadow", True)
    assert results.looks == ()


def test_a_canary_without_an_alarm_goes_on_after_a_week(workspace: Workspace) -> None:
    canary = Experiment("red", salt="x", canary=0.5)
    shop = Played(workspace, canary, "canary", 600).happens("click", {"control": 0.6, "treatment": 0.6}, request_id="r")
    shop.told().serve(*(ServedRow(arm, minute, 20, 0, 0, 0, FAST) for minute in MINUTES for arm in ARMS))
    assert shop.results(BEGUN + 6 * DAY).decision.why == ("no alarm so far; 1 day more",)
    results = shop.results(BEGUN + 8 * DAY)
    assert {one.metric: one.alarm for one in results.guardrails} == dict.fromkeys(
        ("clicks", "conversion", "revenue", "returns", "milliseconds", "errors", "empty"), False
    )
    assert (results.decision.go, results.decision.to) == ("on", "ab")


@pytest.mark.parametrize("fault", ["errors", "empty", "milliseconds"])
def test_answers_that_are_worse_raise_an_alarm(workspace: Workspace, fault: str) -> None:
    shop = Played(workspace, AB, "canary", 10).told()
    bad = {"errors": 0, "empty": 0, "milliseconds": FAST} | {fault: SLOW if fault == "milliseconds" else 2}
    shop.serve(*(ServedRow("control", minute, 20, 0, 0, 0, FAST) for minute in MINUTES))
    shop.serve(*(ServedRow("treatment", minute, 20, late=0, **bad) for minute in MINUTES))
    results = shop.results(BEGUN + DAY)
    assert [one.metric for one in results.guardrails if one.alarm] == [fault]
    assert results.decision.go == "back"


def test_who_is_held_out_tells_what_it_brings_in_the_end(workspace: Workspace) -> None:
    shop = Played(workspace, AB, "everybody", 1_500)
    shop.arms = {name: "control" if number % 5 == 0 else "treatment" for number, name in enumerate(shop.names)}
    shop.happens("view", {"control": 0.9, "treatment": 0.9})
    shop.happens("purchase", {"control": 0.2, "treatment": 0.5}).told(recorded=False)
    with ExperimentStore(workspace) as store:
        rows = [
            Assignment("red", n, a, shop.at[n], "holdout" if a == "control" else "hash") for n, a in shop.arms.items()
        ]
        store.assign(rows)
    results = shop.results()
    effect = results.effect("conversion")
    assert effect is not None
    assert effect.low < 0.3 < effect.high
    assert effect.significant
    assert results.srm is None
    assert results.decision.go == "wait"
    assert "11 weeks of the quarter are left" in results.decision.why[1]


def test_what_was_stopped_is_shown_as_it_ended(workspace: Workspace) -> None:
    shop = played(workspace, 0.3, 0.5).told()
    ended = shop.results()
    with ExperimentStore(workspace) as store:
        store.move("red", "stopped", BEGUN + 2 * WEEK, "enough was seen")
    results = shop.results(BEGUN + 5 * WEEK)
    assert (results.stage, results.until) == ("ab", BEGUN + 2 * WEEK)
    assert results.effects == ended.effects
    assert results.decision.why == ("enough was seen",)


def test_in_the_shadow_requests_of_both_arms_are_compared(workspace: Workspace) -> None:
    shop = Played(workspace, AB, "shadow", 0).told()
    assert shop.results().decision.why == ("both arms have ranked 0 requests; 1,000 are needed",)
    with ExperimentStore(workspace) as store:
        store.record_shadows("red", [ShadowRow(BEGUN + at, 0.5, 4.0, 4.4) for at in range(1_000)])
    results = shop.results()
    assert results.shadow is not None
    assert results.shadow.overlap == 0.5
    assert (results.decision.go, results.decision.to) == ("on", "interleaving")
    with ExperimentStore(workspace) as store:
        store.record_shadows("red", [ShadowRow(BEGUN, 0.5, 4.0, 9.0, treatment_empty=True) for _ in range(50)])
        store.record_shadows("red", [ShadowRow(BEGUN, 0.5, 4.0, 9.0, treatment_error=True)])
    decision = shop.results().decision
    assert decision.go == "wait"
    assert [words.split()[:3] for words in decision.why[:3]] == [
        ["the", "treatment", "failed"], ["the", "treatment", "has"], ["of", "a", "hundred"]
    ]  # fmt: skip


def test_interleaved_lists_tell_whom_people_prefer(workspace: Workspace) -> None:
    shop = Played(workspace, AB, "interleaving", 200, days=5)
    lists = [(f"r{n}", name, shop.at[name], {"a": 1.0, "b": -1.0}) for n, name in enumerate(shop.names)]
    for (request, name, at, _), _ in zip(lists, range(120), strict=False):
        shop.row(
            "purchase", name, at // SECOND + 60, request_id=request, item_id="a" if shop.rng.random() < 0.8 else "b"
        )
    shop.told(recorded=False)
    assert shop.results(BEGUN + DAY).decision.go == "wait"
    with ExperimentStore(workspace) as store:
        store.record_lists("red", lists)
    results = shop.results(BEGUN + 7 * DAY)
    assert results.preference is not None
    assert results.preference.people == 200
    assert (results.decision.go, results.decision.to, results.decision.automatic) == ("on", "canary", False)


def test_a_switchback_is_judged_by_blocks_once(workspace: Workspace) -> None:
    experiment = Experiment("red", unit="time", salt="x", block_hours=24, weeks=4)
    shop = Played(workspace, experiment, "ab", 3_000, days=28)
    arms = {n: arm_of_block(experiment, at) for n, at in shop.at.items()}
    for name, arm in arms.items():
        shop.row("view", name, shop.at[name] // SECOND)
        if shop.rng.random() < (0.5 if arm == "treatment" else 0.3):
            shop.row("purchase", name, shop.at[name] // SECOND)
    shop.told(recorded=False)
    with ExperimentStore(workspace) as store:
        days = [BEGUN + day * DAY for day in range(28)]
        rows = [Assignment("red", block_of(experiment, at), arm_of_block(experiment, at), at) for at in days]
        store.assign(rows)
    half = shop.results(BEGUN + 2 * WEEK)
    assert (half.looks, half.decision.go) == ((), "wait")
    results = shop.results(BEGUN + 4 * WEEK)
    effect = results.effects[0]
    assert effect.metric == "conversion"
    assert effect.low < 0.2 < effect.high
    assert sum(results.people.values()) == 3_000
    assert [look.decision for look in results.looks] == ["on"]
    assert shop.results(BEGUN + 5 * WEEK).looks == results.looks
    assert results.decision.to == "everybody"
