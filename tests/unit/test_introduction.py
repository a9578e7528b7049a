"""A staged introduction on the demo shop: how it is told, and short plays of it."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from copies import copy_workspace
from typer.testing import CliRunner

import molar
from molar.introduction import MERCHANT, IntroductionReport, StagePlayed, introduce
from molar.planted import EstimateBesideTruth, PlantedEffect
from molar.sources import Demo
from molar_cli.app import app
from molar_cli.commands.demo import print_introduction
from molar_cli.console import Console
from molar_cli.session import Session
from molar_eval.experiments.results import Decision, Effect, ExperimentResults
from molar_retrieval.errors import RequestError
from molar_retrieval.experiments.definition import Arm, Experiment
from molar_retrieval.experiments.records import StageRow

EFFECT = Effect("conversion", 0.4, 0.5, 0.1, 0.05, 0.15, 0.25, 0.1, 0.4, (900, 1_000), True, True)
CLICKS = replace(EFFECT, metric="clicks", control=1.25, treatment=1.0, difference=-0.25, low=-0.5, high=-0.1)
RESULTS = ExperimentResults(
    name="all of it", stage="everybody", since=0, until=1, people={}, triggered={}, both=0, srm=None, effects=(EFFECT,),
    guardrails=(), preference=None, shadow=None, looks=(), money=None,
    decision=Decision("wait", None, ("It goes on.",), False), problems=(),
)  # fmt: skip


def played(stage, first, last, why, *estimates, automatic=False):
    return StagePlayed(stage, first, last, 12_345, 2_600, why, automatic, estimates)


def a_report():
    estimates = (
        EstimateBesideTruth(EFFECT, PlantedEffect("conversion", 0.4, 0.49)),
        EstimateBesideTruth(CLICKS, PlantedEffect("clicks", 1.0, 0.2)),
    )
    stages = (
        played("interleaving", 1, 7, "People prefer it."),
        played("ab", 8, 35, "Harm.", *estimates, automatic=True),
        played("everybody", 36, 60, ""),
    )
    record = tuple(
        StageRow(n, stage, n * 10**12, "so", "", False) for n, stage in enumerate(("shadow", "ab", "everybody"))
    )
    experiment = Experiment("all of it", treatment=Arm("popular"))
    return IntroductionReport("all of it", False, 60, 2_600, 1_800, stages, experiment, record, RESULTS, 71.0)


def test_the_story_fits_80_columns_and_says_what_was_not_held(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    report = a_report()
    print_introduction(Session(tmp_path, Console()), report)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert all(
        word in text for word in ("2,600 people", "8–35", "by itself", "as proposed", "goes on", "People prefer it.")
    )
    (held,), (missed,) = ([line for line in lines if line.startswith(name)] for name in ("conversion", "clicks"))
    assert held.split()[-1] == "yes"
    assert missed.split()[-1] == "no"
    assert "+10.0 %" in held
    assert "−0.50 to −0.10" in missed
    document = report.to_dict()
    assert document["stages"][1]["estimates"][1]["covered"] is False
    assert document["results"]["stage"] == document["record"][-1]["stage"] == "everybody"
    json.dumps(document)
    assert "Content-Security-Policy" in report.write_page(tmp_path / "experiment.html", "de").read_text("utf-8")


@pytest.fixture
def made(trained, tmp_path):
    shop = molar.Shop(trained.shop, copy_workspace(trained.workspace, tmp_path / ".molar"))
    return Demo(shop, SimpleNamespace(seed=7, items=trained.items, users=160))


def test_an_introduction_goes_by_the_code_of_the_server_and_its_own_clock(made):
    report = introduce(made.shop, made.facts, 2, 3, harmful=False, visitors=140)
    (shadow,) = report.stages
    assert (shadow.stage, shadow.first, shadow.last, shadow.why) == ("shadow", 1, 2, "")
    assert 30 < shadow.visits < 90
    assert 0.8 * shadow.visits < report.results.shadow.requests < shadow.visits  # of all but those held out
    assert (report.people, report.visitors, report.days) == (300, 140, 2)
    assert report.results.until - report.record[0].begun == 2 * 86_400_000_000
    assert report.results.until < time.time() * 1_000_000 - 86_400_000_000
    with pytest.raises(RequestError, match="was played in this shop before"):
        introduce(made.shop, made.facts, 2, 3, harmful=False)


def test_what_a_canary_estimates_stands_beside_the_truth(made):
    report = introduce(made.shop, made.facts, 6, 3, harmful=True, visitors=300)
    (canary,) = report.stages
    assert canary.stage == "canary"
    people = report.results.people
    assert all(0.1 * canary.people < people[arm] < 0.3 * canary.people for arm in ("control", "treatment"))
    assert {one.effect.metric for one in canary.estimates} >= {"clicks", "conversion"}
    assert all(one.truth.difference < 0 and one.covered for one in canary.estimates)


def test_what_goes_back_by_itself_is_given_up_and_the_play_ends(made, monkeypatch):
    harm = Decision("back", "shadow", ("the treatment does harm",), automatic=True)
    monkeypatch.setattr("molar_eval.experiments.analysis.decide", lambda *_: harm)
    report = introduce(made.shop, made.facts, 5, 3, harmful=True, visitors=20)
    (canary,) = report.stages
    assert (canary.automatic, canary.why, report.days) == (True, "the treatment does harm", 1)
    assert [one.stage for one in report.record] == ["canary", "shadow", "stopped"]
    assert [one.by for one in report.record][-1] == MERCHANT


def test_for_programs_there_is_one_document(tmp_path, monkeypatch):
    facts = SimpleNamespace(folder=tmp_path, **dict.fromkeys(("seed", "items", "users", "interactions"), 7))
    facts.example_user, facts.new_user = "u1", "u2"
    shop = SimpleNamespace(embed=lambda: None, align=lambda: None)
    asked = []

    def introduced(days, *, harmful):
        asked.append((days, harmful))
        return a_report()

    made = SimpleNamespace(shop=shop, facts=facts, introduce=introduced)
    monkeypatch.setattr("molar.demo", lambda *_, **__: made)
    done = CliRunner().invoke(app, ["demo", str(tmp_path), "--experiment", "--harmful", "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert asked == [(60, True)]
    assert told["users"] == 7
    assert told["experiment"]["stages"][1]["stage"] == "ab"


def test_options_of_days_that_do_not_go_together_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options in (["--harmful"], ["--serve", "--experiment"], ["--serve", "--json"]):
        done = CliRunner().invoke(app, ["demo", *options])
        assert done.exit_code == 2
    assert not list(tmp_path.iterdir())
