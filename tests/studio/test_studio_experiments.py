"""The screens of experiments: what runs and what is known of it, beginning, going on and stopping, and who may."""

import dataclasses

import pytest
from made_up_experiment import effect, results
from studio_client import studio_of_roles, words_of
from updates import Days

from molar_eval.experiments.results import Guardrail
from molar_retrieval.experiments.records import Look
from molar_serving.studio.screens import experiments

EVIL = "<b>odd</b> & /co"
FORM = {
    "tried": "rules", "rules": '[[rule]]\nban = ["SKU-0003"]\n', "against": "lists", "primary": "conversion",
    "weeks": "4", "placements": "home, cart", "generation": "", "column": "", "value": "",
}  # fmt: skip

GONE = {"tried": "generation", "generation": "20200101-000000-00000000"}


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    """A shop of its own."""
    return Days(trained, tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="module")
def people(days):
    with studio_of_roles(days.shop.workspace, days.folder.parent / "molar.toml") as people:
        yield people


@pytest.fixture(scope="module")
def begun(people):
    """An experiment that was begun by the form."""
    assert "No experiment has begun yet" in words_of(people["viewer"].get("/studio/experiments"))
    answer = people["admin"].post("/studio/experiments/start", FORM | {"name": EVIL})
    assert answer.status_code == 303, words_of(answer)
    return answer.headers["location"]


@pytest.fixture
def known(monkeypatch):
    """Results of an A/B stage, whatever the log says."""
    guard = Guardrail("clicks", -0.02, -0.08, 0.04, 0.1, alarm=False, visitors=900)
    facts = {"low": -0.001, "difference": 0.002, "high": 0.005, "week": 1}
    look = Look(1, 1_791_000_000_000_000, "ab", "conversion", 0.3, 0.001, 1.1, 3.2, "wait", facts)
    found = results(effect(), guardrails=(guard, dataclasses.replace(guard, low=None, high=None)), looks=(look,))
    monkeypatch.setattr("molar.introducing.looking.analyse", lambda *_: found)
    monkeypatch.setattr(experiments, "_RESULTS", experiments.KeptFor(60))
    return found


def test_the_list_says_what_runs_and_asks_for_the_verdict(people, begun, known):
    page = people["viewer"].get("/studio/experiments")
    assert page.status_code == 200
    words = words_of(page)
    assert EVIL in words
    assert EVIL not in page.text
    assert "Behind the scenes" in words
    assert "Begin an experiment" not in words
    (part,) = [one for one in page.text.split('"') if one.startswith("/studio/experiments/verdict/")]
    assert "It brings more." in words_of(people["viewer"].get(part, part=True))


def test_an_experiment_is_told_with_stages_effects_guardrails_and_looks(people, begun, known):
    page = people["viewer"].get(begun)
    words = words_of(page)
    assert "The log is being counted" in words
    assert "The trial began." in words
    assert "on the pages: home, cart" in words
    assert "takes the role of an admin" in words
    assert 'id="stop"' not in page.text
    whole = people["viewer"].get(begun, now=1)
    told = words_of(whole)
    for said in (
        "It brings more.",
        "The share of visitors who buy",
        "no alarm",
        "cannot tell yet",
        "Look by look",
        "wait",
    ):
        assert said in told
    assert "−8.0 % to +4.0 %" in told.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "style=" not in whole.text
    assert EVIL not in whole.text
    part = people["viewer"].get(begun.replace("/of/", "/results/"), part=True)
    assert "<html" not in part.text
    assert "It brings more." in words_of(part)


def test_the_page_for_a_board_has_no_part_in_the_studio(people, begun, known):
    page = people["viewer"].get(begun.replace("/of/", "/page/"))
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert "It brings more." in words_of(page)
    assert "<script" not in page.text


@pytest.mark.parametrize("language", ["de", "ja"])
def test_it_speaks_other_languages(people, begun, known, language):
    admin = people["admin"]
    admin.language = language
    try:
        for path in ("/studio/experiments", begun + "?now=1", "/studio/experiments/new", "/studio/experiments/plan"):
            page = admin.get(path)
            assert page.status_code == 200
            assert not [
                one for one in ("Compared with", "so far", "may be chance", "The trial") if one in words_of(page)
            ]
    finally:
        admin.language = "en"


def test_what_is_known_of_a_new_one_comes_from_its_record(people, begun):
    words = words_of(people["viewer"].get(begun.replace("/of/", "/results/"), part=True))
    assert "Customers do not have the new version yet" in words
    assert "It cannot be told yet" in words


def test_the_form_says_what_is_wrong_and_keeps_what_was_typed(people, begun, days):
    admin = people["admin"]
    page = admin.get("/studio/experiments/new")
    assert page.status_code == 200
    assert "How long would it take?" in words_of(page)
    asked = FORM | {"name": "second", "tried": "lists", "weeks": "7"}
    answer = admin.post("/studio/experiments/start", asked)
    assert answer.status_code == 422
    assert "both arms are the same" in words_of(answer)
    assert 'value="second"' in answer.text
    assert 'value="7"' in answer.text
    for wrong in (
        {"weeks": "many"},
        {"tried": "magic"},
        {"rules": "[[rule]\n", "tried": "rules"},
        {"name": ""},
        {**FORM, "name": "third", "column": "country"},  # without a value it would be for everybody
        GONE,
    ):
        assert admin.post("/studio/experiments/start", asked | wrong).status_code == 422
    assert len(days.shop.experiments.status()) == 1


def test_rules_that_are_being_written_become_an_experiment(people):
    draft = {"draft": '[{"ban": ["SKU-0007"], "name": "no sevens"}]'}
    page = people["admin"].post("/studio/experiments/new", draft)
    assert page.status_code == 200
    assert "SKU-0007" in page.text
    assert '<option value="rules" selected>' in page.text
    assert people["admin"].post("/studio/experiments/new", {"draft": "oops"}).status_code == 422
    assert people["merchandiser"].post("/studio/experiments/new", draft).status_code == 403
    assert 'id="as-experiment"' in people["admin"].get("/studio/rules").text
    assert 'id="as-experiment"' not in people["merchandiser"].get("/studio/rules").text


def test_how_long_it_takes_is_said_or_why_not(people):
    words = words_of(people["viewer"].get("/studio/experiments/plan", part=True))
    assert "of visitors who buy" in words or "Cannot tell yet" in words


def test_only_an_admin_begins_goes_on_and_stops(people, begun, days):
    for role in ("viewer", "merchandiser"):
        assert people[role].get("/studio/experiments/new").status_code == 403
        for path in ("/studio/experiments/start", begun.replace("/of/", "/stop/"), begun.replace("/of/", "/advance/")):
            assert people[role].post(path).status_code == 403
    assert people["nobody"].get("/studio/experiments").status_code == 303
    assert days.shop.experiments.status(EVIL)[0].stage.stage == "shadow"


def test_it_goes_on_only_as_far_as_is_known_or_anyway_and_stops(people, begun, days):
    admin = people["admin"]
    assert "Go on to: Mixed lists" in words_of(admin.get(begun))
    refused = admin.post(begun.replace("/of/", "/advance/"))
    assert refused.status_code in (409, 422)
    assert admin.post(begun.replace("/of/", "/advance/"), {"anyway": "yes"}).status_code == 303
    assert days.shop.experiments.status(EVIL)[0].stage.stage == "interleaving"
    assert admin.post(begun.replace("/of/", "/stop/"), {"why": "enough", "keep": "control"}).status_code == 303
    last = days.shop.experiments.status(EVIL)[0].stage
    assert (last.stage, last.by) == ("stopped", "admin")
    assert "enough" in last.why
    assert "This experiment is over." in words_of(admin.get(begun))
    assert "<b>" not in words_of(people["admin"].get("/studio/changes")).replace(EVIL, "")


def test_an_unknown_one_is_not_found(people):
    for kind in ("of", "results", "page", "verdict"):
        assert people["viewer"].get(f"/studio/experiments/{kind}/nothing").status_code == 404
