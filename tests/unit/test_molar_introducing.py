"""Experiments begin, end and are written out; whatever is wrong with one is told before anybody is in it."""

import csv
import json
import os
import shutil
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from updates import Days, another_generation

from molar.introducing import starting
from molar.introducing.path import path_of
from molar_cli.app import app
from molar_eval.kpi.prelaunch import CandidateVerdict
from molar_indexes.generations import list_generations
from molar_retrieval.errors import DataError, MissingArtefactError, RequestError, SettingsError, StaleArtefactError
from molar_retrieval.experiments.definition import Arm, Experiment
from molar_retrieval.experiments.records import EDGES, Assignment, ServedRow, ShadowRow
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonyms import session_key

NOW = datetime(2027, 1, 4, tzinfo=UTC)
TESTS = Path(__file__).resolve().parents[1]
STEP = int(os.environ.get("MOLAR_TEST_KILL_STEP", "5"))  # 1: killed at every change of a file


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    """A shop with a second generation beside the live one."""
    days = Days(trained, tmp_path_factory.mktemp("introducing"))
    days.first = days.workspace["generations"].pointer
    days.second = another_generation(days.workspace)
    days.workspace["generations"].switch(days.first)
    return days


@pytest.fixture
def experiments(days):
    """The door, without experiments before and after."""
    folder = days.shop.workspace / "experiments"
    shutil.rmtree(folder, ignore_errors=True)
    days.workspace["generations"].switch(days.first)
    return days.shop.experiments


def on_record(days):
    with ExperimentStore(days.workspace) as store:
        return store.all()


def test_an_experiment_begins_once_with_generations_that_updates_do_not_change(days, experiments):
    began = experiments.start("best", generation=days.second, by="anna", now=NOW)
    assert (began.stage.stage, began.stage.by, began.following) == ("shadow", "anna", "interleaving")
    assert began.experiment.treatment == Arm(generation=days.second)
    assert began.experiment.control == Arm(generation=days.first)
    assert began.experiment.salt == "best"
    assert experiments.start("best", generation=days.second, now=NOW).stages == began.stages
    with pytest.raises(RequestError, match="there was an experiment best already"):
        experiments.start("best", generation=days.second, slice=(0, 0.1), now=NOW)
    assert [one.experiment.name for one in experiments.status()] == ["best"]
    with pytest.raises(RequestError, match="no experiment bset") as missing:
        experiments.status("bset")
    assert "best" in missing.value.hint
    newer = another_generation(days.workspace, keep=0)  # none is kept beside the live one, but for those of arms
    assert {one.name for one in list_generations(days.workspace)} == {days.first, days.second, newer}
    days.workspace["generations"].switch(days.first)
    shutil.rmtree(days.workspace["generations"].root / newer)


def test_a_preset_is_the_last_generation_made_with_it(days, experiments):
    made = json.loads((days.workspace["generations"].root / days.second / "encoder" / "manifest.json").read_text())
    preset = made["settings"]["align"]["preset"]
    began = experiments.start("p", preset=preset, control_generation=days.first, now=NOW)
    assert began.experiment.treatment.generation == days.second
    with pytest.raises(MissingArtefactError, match="made with the preset instant") as missing:
        experiments.start("q", preset="instant", now=NOW)
    assert "molar align --preset instant --stage" in missing.value.hint
    with pytest.raises(SettingsError, match="no preset 'bets'") as unknown:
        experiments.start("q", preset="bets", now=NOW)
    assert "best" in unknown.value.hint
    with pytest.raises(SettingsError, match="a preset and a generation"):
        experiments.start("q", preset="best", generation=days.second, now=NOW)


@pytest.mark.parametrize(
    ("said", "error", "what", "remedy"),
    [
        ({}, SettingsError, "both arms are the same", "what is tried"),
        ({"generation": "nothing"}, MissingArtefactError, "the treatment arm: there is no generation", "there are"),
        ({"options": {"diversty": 0.3}}, SettingsError, "no option 'diversty'", "diversity"),
        ({"options": {"diversity": 7}}, RequestError, "the treatment arm: diversity = 7", ""),
        ({"options": {"calibrate": "colur"}}, RequestError, "the treatment arm: the catalogue has no field", "colour"),
        ({"control_rules": {"rule": [{"ban": "a ="}]}}, SettingsError, "the control arm: .*rule 1", ""),
        ({"rules": "nowhere.toml"}, SettingsError, "nowhere.toml cannot be read", "name an existing file"),
        ({"shows": "popular", "options": {"rerank": False}}, SettingsError, "shows popular has no", "leave them out"),
        ({"people": "region = Kansai"}, RequestError, "segment of people: .*no field 'region'", ""),
        ({"people": "age >"}, RequestError, "segment of people: .*something is missing", ""),
        ({"items": "colur = red"}, RequestError, "the segment of items: .*no field 'colur'", "colour"),
        ({"placements": ["home", "home"]}, RequestError, "named twice", "once"),
        ({"slice": (0.5, 0.2)}, SettingsError, "the slice is 0.5 to 0.2", "0 0.5"),
        ({"weeks": 0}, SettingsError, "weeks is 0", "1 to 104"),
        ({"alpha": float("nan")}, SettingsError, "alpha is nan", ""),
        ({"harm": {"click": 0.1}}, SettingsError, "guardrail is 'click'", "clicks"),
        ({"primary": "profit"}, SettingsError, "primary is 'profit'", ""),
        ({"stage": "everybody"}, SettingsError, "cannot begin with the stage everybody", "shadow"),
        ({"shows": "nothing", "stage": "shadow"}, SettingsError, "cannot begin with the stage shadow", "canary, ab"),
        ({"assigned": "elsewhere", "stage": "canary"}, SettingsError, "cannot begin", "ab"),
        ({"unit": "time", "assigned": "elsewhere"}, SettingsError, "not assigned elsewhere", "leave one"),
    ],
)
def test_what_is_wrong_is_told_with_a_remedy_and_nothing_begins(days, experiments, said, error, what, remedy):
    tried = {} if said == {} else {"options": {"diversity": 0.3}, **said}
    if "generation" in said or said.get("shows") == "nothing":
        tried.pop("options")
    with pytest.raises(error, match=what) as told:
        experiments.start("one", **tried, now=NOW)
    assert remedy in told.value.hint
    assert told.value.hint
    assert on_record(days) == []


@pytest.mark.parametrize("name", ["", "a:b", " a", "a" * 65, "a\nb"])
def test_a_name_that_none_could_have_is_refused(experiments, name):
    with pytest.raises(SettingsError, match="name of an experiment"):
        experiments.start(name, options={"diversity": 0.3}, now=NOW)


def test_a_column_that_the_index_does_not_know_is_named_with_the_setting(days, experiments):
    people = days.folder / "users.parquet"
    former = people.read_bytes() if people.exists() else None
    pd.DataFrame({"user_id": ["u0001"], "shoe_size": [42]}).to_parquet(people)
    try:
        with pytest.raises(RequestError, match="does not know what the table of users says of shoe_size") as told:
            experiments.start("one", options={"diversity": 0.3}, people="shoe_size > 40", now=NOW)
        assert "shoe_size" in told.value.hint
        assert "[index]" in told.value.hint
    finally:
        people.unlink() if former is None else people.write_bytes(former)


def test_a_damaged_generation_is_shown_to_nobody(days, experiments):
    users = days.workspace["generations"].root / days.second / "users.sqlite"
    whole = users.read_bytes()
    users.write_bytes(whole[:-1] + b"x")
    try:
        with pytest.raises(StaleArtefactError, match=f"the treatment arm: generation {days.second} is damaged"):
            experiments.start("one", generation=days.second, now=NOW)
    finally:
        users.write_bytes(whole)
    assert on_record(days) == []


def test_people_are_in_one_experiment_of_a_layer(experiments):
    experiments.start("low", options={"diversity": 0.2}, slice=(0, 0.4), now=NOW)
    experiments.start("high", options={"diversity": 0.3}, slice=(0.7, 1), now=NOW)
    with pytest.raises(RequestError, match=r"low has people of the slice 0\.3 to 0\.6 of the layer lists") as told:
        experiments.start("between", options={"diversity": 0.4}, slice=(0.3, 0.6), now=NOW)
    assert "0.4 0.7" in told.value.hint
    experiments.start("between", options={"diversity": 0.4}, slice=(0.4, 0.7), now=NOW)
    experiments.start("others", options={"rerank": False}, layer="more", now=NOW)
    with pytest.raises(RequestError, match="has people of the slice") as told:
        experiments.start("none", options={"diversity": 0.5}, now=NOW)
    assert "stop" in told.value.hint
    experiments.stop("low", "done", now=NOW)
    experiments.start("again", options={"diversity": 0.5}, slice=(0.1, 0.3), now=NOW)


def test_a_clock_that_was_set_back_is_named(days, experiments):
    experiments.start("one", options={"diversity": 0.3}, now=NOW)
    before = NOW - timedelta(hours=1)
    for act in (
        lambda: experiments.start("two", options={"rerank": False}, layer="other", now=before),
        lambda: experiments.stop("one", now=before),
    ):
        with pytest.raises(DataError, match="clock of this machine stands before"):
            act()
    assert [one.experiment.name for one in on_record(days)] == ["one"]


def test_rules_are_kept_as_they_were(days, experiments, tmp_path):
    rules = tmp_path / "new.toml"
    rules.write_text('[[rule]]\nat_most = 2\nper = "colour"\n', "utf-8")
    began = experiments.start("one", rules=rules, now=NOW)
    rules.write_text("[[rule]]\nwrong", "utf-8")
    kept = began.experiment.treatment.rules_in(days.shop.workspace)
    assert kept.is_relative_to(days.shop.workspace)
    assert not Path(began.experiment.treatment.rules).is_absolute()  # a workspace may be moved
    assert "at_most = 2" in kept.read_text("utf-8")
    assert began.experiment.control == Arm()


def test_an_arm_that_is_kept_goes_live_and_what_people_have_to_do_is_told(days, experiments):
    experiments.start("best", generation=days.second, stage="ab", now=NOW)
    moved = experiments.stop("best", "week 4", keep="treatment", by="anna", now=NOW + timedelta(days=28))
    assert (moved.before, moved.stage, moved.live) == ("ab", "stopped", days.second)
    assert "molar.toml" in moved.left[0]
    assert days.workspace["generations"].pointer == days.second
    (one,) = experiments.status("best")
    assert (one.stage.stage, one.stage.why, one.stage.by) == ("stopped", "week 4; treatment is kept", "anna")
    assert one.following is None
    with pytest.raises(RequestError, match="over already"):
        experiments.stop("best", now=NOW + timedelta(days=29))
    experiments.start("calm", options={"diversity": 0.3}, stage="ab", now=NOW + timedelta(days=29))
    moved = experiments.stop("calm", keep="treatment", now=NOW + timedelta(days=30))
    assert (moved.live, moved.left) == (None, ("Ask for lists with its options: diversity = 0.3.",))


def test_stopping_for_control_leaves_what_is_live(days, experiments):
    experiments.start("best", generation=days.second, stage="canary", now=NOW)
    assert experiments.stop("best", now=NOW).live is None
    assert days.workspace["generations"].pointer == days.first
    experiments.start("all", generation=days.second, stage="ab", now=NOW)
    with ExperimentStore(days.workspace) as store:
        store.move("all", "everybody", int(NOW.timestamp() * 1e6), "on")
    days.workspace["generations"].switch(days.second)
    assert experiments.stop("all", now=NOW).live == days.first  # everybody goes back


def micros(when):
    return round(when.timestamp() * 1e6)


def failing(days, name, errors):
    """Answers of both arms of the last minutes, of which those of the treatment fail so often."""
    with ExperimentStore(days.workspace) as store:
        begun = store.find(name).stage.begun
        rows = [
            ServedRow(arm, begun // 60_000_000 + n, 200, failed, 0, 0, [200] + [0] * len(EDGES))
            for n in range(1, 20)
            for arm, failed in (("control", 0), ("treatment", errors))
        ]
        store.record_served(name, "test", rows)
    return datetime.fromtimestamp(begun / 1e6, UTC) + timedelta(hours=1)


def test_an_experiment_goes_on_where_what_is_known_says_so_or_a_person_does(days, experiments):
    experiments.start("best", generation=days.second, now=NOW)
    later = NOW + timedelta(days=1)
    assert experiments.check("best", now=later).decision.go == "wait"
    with pytest.raises(RequestError, match=r"does not say that best should go on to interleaving: .*1,000") as told:
        experiments.advance("best", now=later)
    assert "--anyway" in told.value.hint
    with ExperimentStore(days.workspace) as store:
        store.record_shadows("best", [ShadowRow(micros(NOW) + n, 0.7, 5, 5) for n in range(1000)])
    with pytest.raises(RequestError, match="does not say that best should go on to ab"):
        experiments.advance("best", "ab", now=later)
    moved = experiments.advance("best", by="anna", now=later)
    assert (moved.before, moved.stage, moved.live) == ("shadow", "interleaving", None)
    with pytest.raises(RequestError, match="cannot go from interleaving to shadow") as told:
        experiments.advance("best", "shadow", now=later)
    assert "canary" in told.value.hint
    experiments.advance("best", "ab", anyway=True, now=later)
    (one,) = experiments.status("best", known=True, now=later)
    assert one.stage.why.startswith("anyway, against: ")
    assert one.results.decision.go == "wait"
    assert json.dumps(one.to_dict())
    experiments.stop("best", now=later)
    with pytest.raises(RequestError, match="best is over"):
        experiments.advance("best", now=later)


def test_a_treatment_that_does_harm_by_the_log_is_refused_before_anybody_sees_it(days, experiments, monkeypatch):
    began = experiments.start("first", generation=days.second, slice=(0, 0.5), now=NOW)
    assert began.beforehand.outcome == "cannot_tell"  # there is no log of what was shown
    assert began.stage.why == "begun"
    asked = []

    def refused(workspace, control, treatment, *, harm):
        asked.append((control.generation, treatment.generation, harm))
        return CandidateVerdict("refuse", ("it loses 20 % of the clicks",))

    monkeypatch.setattr(starting, "verdict_beforehand", refused)
    second = {"generation": days.second, "slice": (0.5, 1), "harm": {"clicks": 0.05}, "now": NOW}
    with pytest.raises(RequestError, match="does harm, and nobody has to see it: it loses 20 %") as told:
        experiments.start("second", **second)
    assert "--anyway" in told.value.hint
    assert [one.experiment.name for one in on_record(days)] == ["first"]
    began = experiments.start("second", **second, anyway=True)
    assert began.stage.why == "begun anyway, against: it loses 20 % of the clicks"
    assert asked == [(days.first, days.second, 0.05)] * 2


def test_what_does_harm_goes_back_by_itself_unless_settings_say_otherwise(days, experiments):
    experiments.start("bad", generation=days.second, stage="canary", now=NOW)
    now = failing(days, "bad", 100)
    quiet = replace(days.shop, settings_file=days.folder.parent / "quiet.toml")
    quiet.settings_file.write_text("[experiments]\nautomatic = false\n", "utf-8")
    assert quiet.experiments.check("bad", now=now).decision.go == "back"
    assert experiments.status("bad")[0].stage.stage == "canary"
    (results,) = experiments.check_all(now=now)
    assert (results.stage, results.decision.to) == ("canary", "shadow")
    row = experiments.status("bad")[0].stage
    assert (row.stage, row.automatic, row.by) == ("shadow", True, "molar")
    assert "more answers fail" in row.why
    assert experiments.check("bad", now=now).decision.go == "wait"


def test_everybody_gets_what_is_tried_once_and_goes_back_to_what_was(days, experiments):
    experiments.start("best", generation=days.second, stage="ab", now=NOW)
    moved = experiments.advance("best", anyway=True, now=NOW)
    assert (moved.stage, moved.live) == ("everybody", days.second)
    assert experiments.advance("best", now=NOW).live is None  # the same again does nothing
    with pytest.raises(RequestError, match="in its last stage"):
        experiments.advance("best", "ab", now=NOW)
    now = failing(days, "best", 100)
    assert experiments.check("best", now=now).decision.to == "stopped"
    assert experiments.status("best")[0].stage.stage == "stopped"
    assert days.workspace["generations"].pointer == days.first
    assert experiments.check_all(now=now) == []


def test_what_is_everybodys_is_what_is_live_whatever_updates_do(days, experiments):
    experiments.start("best", generation=days.second, stage="ab", now=NOW)
    days.workspace["generations"].switch(days.second)  # as if the next call had been killed before it was on record
    assert experiments.advance("best", "everybody", anyway=True, now=NOW).live is None
    (one,) = on_record(days)
    assert one.experiment.arm_in("treatment", one.stage.stage) == Arm()
    assert one.experiment.arm_in("control", one.stage.stage) == Arm(generation=days.first)
    days.workspace["generations"].switch(days.first)  # an update, or somebody rolled back
    assert experiments.advance("best", now=NOW).live is None
    assert experiments.stop("best", keep="treatment", now=NOW).live is None
    assert days.workspace["generations"].pointer == days.first


def test_an_arm_without_lists_goes_on_from_where_it_went_back_to(days, experiments):
    experiments.start("none", shows="nothing", now=NOW)
    now = failing(days, "none", 100)
    experiments.check("none", now=now)
    (one,) = experiments.status("none")
    assert (one.stage.stage, one.following) == ("shadow", "canary")
    assert experiments.advance("none", anyway=True, now=now).stage == "canary"


def test_the_page_is_written_in_each_language(days, experiments, tmp_path):
    experiments.start("best", generation=days.second, stage="ab", now=NOW)
    for language in ("en", "de", "ja"):
        page = experiments.report("best", tmp_path / "page.html", language=language, now=NOW + timedelta(days=1))
        assert f'lang="{language}"' in page.read_text("utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        experiments.report("best", tmp_path / "nowhere" / "page.html", now=NOW + timedelta(days=1))


@pytest.mark.parametrize(
    ("made", "stages"),
    [
        ({}, ["shadow", "interleaving", "canary", "ab", "everybody"]),
        ({"treatment": Arm("nothing")}, ["canary", "ab", "everybody"]),
        ({"unit": "time"}, ["shadow", "ab", "everybody"]),
        ({"assigned": "elsewhere"}, ["ab", "everybody"]),
    ],
)
def test_an_experiment_goes_through_the_stages_that_make_sense_for_it(made, stages):
    assert list(path_of(Experiment("one", **made))) == stages


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["customer_id", "session_id", "arm", "time"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_assignments_come_from_another_service_and_stay_as_they_were_first(days, experiments, tmp_path):
    experiments.start("flags", generation=days.second, assigned="elsewhere", now=NOW)
    rows = [
        {"customer_id": "u1", "arm": "treatment", "time": "2027-01-04T10:00:00Z"},
        {"customer_id": "u2", "arm": "flags:control", "time": "2027-01-04T09:00:00Z"},
        {"session_id": "s", "arm": "control", "time": "2027-01-04T11:00:00Z"},
        {"customer_id": "u1", "arm": "control", "time": "2027-01-04T12:00:00Z"},
        {"customer_id": "u3", "arm": "contrl", "time": "2027-01-04T12:00:00Z"},
        {"arm": "control", "time": "2027-01-04T12:00:00Z"},
        {"customer_id": "u4", "arm": "control", "time": "yesterday"},
    ]
    report = experiments.assign("flags", write(tmp_path / "flags.csv", rows), now=NOW)
    assert (report.accepted, report.repeated, report.refused) == (3, 0, 4)
    told = {one.row: (one.field, one.problem, one.remedy) for one in report.refusals}
    assert told[4][:2] == ("arm", "the person has the arm treatment on record")
    assert "did you mean 'control'" in told[5][2]
    assert (told[6][0], told[7][0]) == ("user_id", "timestamp")
    with ExperimentStore(days.workspace) as store:
        assert store.assigned("flags", ["u1", "u2", session_key("s"), "u3"]) == {
            "u1": "treatment", "u2": "control", session_key("s"): "control",
        }  # fmt: skip
    again = experiments.assign("flags", write(tmp_path / "flags.csv", rows[:3]), now=NOW)
    assert (again.accepted, again.repeated) == (0, 3)
    with pytest.raises(DataError, match="no table of assignments"):
        experiments.assign("flags", tmp_path / "none.csv")
    experiments.stop("flags", now=NOW)
    experiments.start("ours", generation=days.second, now=NOW)
    with pytest.raises(RequestError, match="people of ours are assigned here"):
        experiments.assign("ours", tmp_path / "flags.csv")


def test_tables_say_who_was_in_which_arm_and_who_met_a_difference(days, experiments, tmp_path):
    experiments.start("=1+1", generation=days.second, now=NOW)
    with ExperimentStore(days.workspace) as store:
        units = [("=cmd", "control"), ("u2", "treatment"), (session_key("s"), "treatment"), ("u3", "control")]
        store.assign([Assignment("=1+1", unit, arm, 1000 + n) for n, (unit, arm) in enumerate(units)])
        store.trigger("=1+1", [("=cmd", 5_000_000), ("u2", 6_000_000), ("u3", 7_000_000)])
        store.met_other("=1+1", ["u3"])
    done = experiments.export("=1+1", tmp_path / "csv")
    assert done.rows == {"assignments.csv": 4, "exposures.csv": 2}
    rows = list(csv.DictReader((tmp_path / "csv" / "assignments.csv").open(encoding="utf-8")))
    assert [row["user_id"] for row in rows] == ["'=cmd", "u2", "", "u3"]
    assert {row["experiment"] for row in rows} == {"'=1+1"}
    assert rows[2]["anonymous_id"] == "s"
    experiments.export("=1+1", tmp_path / "parquet", format="parquet")
    exposed = pq.read_table(tmp_path / "parquet" / "exposures.parquet").to_pylist()
    assert [(row["user_id"], row["arm"]) for row in exposed] == [("=cmd", "control"), ("u2", "treatment")]
    assert exposed[0]["exposed_at"] == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    done = experiments.export("=1+1", tmp_path / "growthbook", format="growthbook")
    rows = list(csv.DictReader((tmp_path / "growthbook" / "exposures.csv").open(encoding="utf-8")))
    assert list(rows[0]) == ["user_id", "timestamp", "experiment_id", "variation_id"]
    assert [row["variation_id"] for row in rows] == ["0", "1"]
    (one,) = experiments.status("=1+1")
    assert (one.people, one.exposed) == ({"control": 2, "treatment": 2}, {"control": 1, "treatment": 1})
    assert one.both == 1
    with pytest.raises(RequestError, match="no format 'cvs'"):
        experiments.export("=1+1", tmp_path / "csv", format="cvs")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        experiments.export("=1+1", tmp_path / "file")


def test_the_commands_tell_what_a_person_needs_within_80_columns(days, experiments, tmp_path):
    def run(*arguments, code=0):
        command = ["experiment", *map(str, arguments), "--workspace", str(days.shop.workspace)]
        done = CliRunner().invoke(app, command, env={"COLUMNS": "80"})
        assert done.exit_code == code, done.output
        if "--json" not in command:
            assert max(map(len, done.stdout.splitlines()), default=0) <= 80
        return done.stdout if code == 0 else done.stderr

    options = ("--option", "diversity=0.3", "--option", "rerank=false", "--harm", "clicks=0.2", "--slice", "0", "0.5")
    told = run("start", "calm", *options, "--placement", "home", "--items", "colour = red", "--stage", "canary")
    assert told.splitlines()[:4] == [
        "calm has begun: canary",
        "control: whatever is live",
        "treatment: whatever is live, diversity = 0.3, rerank = False",
        "only: colour = red; home",
    ]
    assert "next: ab\nbeforehand, by what was shown so far: cannot tell\n- " in told
    assert "no pair" in run("start", "x", "--option", "diversity", code=2)
    assert "calm        canary" in run("status")
    assert "begun" in run("status", "calm")
    found = json.loads(run("status", "calm", "--json"))["experiments"][0]
    assert found["experiment"]["harm"] == {"clicks": 0.2}
    assert found["experiment"]["treatment"]["options"] == {"diversity": 0.3, "rerank": False}
    assert run("export", "calm", tmp_path / "t", "--json").count("assignments.csv") == 1
    assert "assigned here" in run("assign", "calm", write(tmp_path / "a.csv", []), code=1)
    assert run("check").splitlines()[:2] == ["calm: canary", "decision: wait"]
    assert "should go on to ab" in run("advance", "calm", code=1)
    assert run("advance", "calm", "--anyway") == "calm: canary → ab\n"
    assert "decision: wait\n- the first look comes after a week" in run("status", "calm")
    assert run("report", "calm", "--out", tmp_path / "p.html", "--json").count("p.html") == 1
    told = run("stop", "calm", "--keep", "treatment", "--why", "enough")
    assert told == "calm: ab → stopped\nAsk for lists with its options: diversity = 0.3, rerank = False.\n"
    assert "no experiment clam" in run("status", "clam", code=1)


CHILD = """
import json, os, signal, sys
from pathlib import Path
import molar
import molar.introducing.looking, molar.introducing.starting, molar.introducing.proposed, molar_indexes.edge

molar.introducing.starting.admit = lambda *_: None  # reads, and writes nothing
where, name, treatment, step = Path(sys.argv[1]), "one", sys.argv[2], int(sys.argv[3])
experiments = molar.Shop(None, where).experiments
rules = {"rule": [{"at_most": 2, "per": "colour"}]}
acts = (
    lambda: experiments.start(name, generation=treatment, stage="ab", rules=rules),
    lambda: experiments.advance(name, anyway=True),
    lambda: experiments.stop(name, keep="treatment"),
)

def dying_at(n):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        ours = any(part in str(arguments) for part in (str(where / "experiments"), "/.current"))
        if ours and event in ("open", "os.rename", "os.mkdir", "sqlite3.connect"):
            seen += 1
            if seen == n:
                os.kill(os.getpid(), signal.SIGKILL)
    return hook

for act in acts:
    for n in range(1, 99, step):
        if (child := os.fork()) == 0:
            sys.addaudithook(dying_at(n))
            act()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        stages = [one.stage.stage for one in experiments.status()]
        print(json.dumps([code, stages, (where / "generations" / "current").read_text().strip()]))
        if code != -signal.SIGKILL:
            break
"""


def test_killed_anywhere_an_experiment_has_begun_or_not_and_is_over_or_not(days, experiments, warm, tmp_path):
    program = tmp_path / "child.py"
    program.write_text(CHILD, "utf-8")
    done = warm.run(program, days.shop.workspace, days.second, STEP, cwd=TESTS)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    first, second, third = (n for n, (code, _, _) in enumerate(told) if code != -signal.SIGKILL)
    assert min(first, second - first - 1, third - second - 1) >= 1  # so often it was killed
    assert [told[n][0] for n in (first, second, third)] == [0, 0, 0]
    assert told[0][1] == []
    assert {tuple(stages) for _, stages, _ in told[:first]} <= {(), ("ab",)}
    assert {live for _, _, live in told[: first + 1]} == {days.first}
    assert told[first][1] == ["ab"]
    for _, stages, live in told[first:second]:
        assert (stages, live) in [(["ab"], days.first), (["ab"], days.second), (["everybody"], days.second)]
    assert told[second][1:] == [["everybody"], days.second]
    assert told[third] == [0, ["stopped"], days.second]
