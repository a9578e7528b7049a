"""The page of an experiment for a board: one bottom line, intervals, three languages, no script."""

import dataclasses
import json
import re
import string
import tomllib
from importlib import resources

import pytest
from browser import Browser, installed
from made_up_experiment import DAY, EXPERIMENT, NOW, STAGES, effect, results

from molar_eval.experiments.report import board_page
from molar_eval.experiments.results import Decision, Guardrail, Preference, ShadowComparison, verdict_of, weeks_left
from molar_retrieval.errors import RequestError
from molar_retrieval.experiments.definition import Arm, Experiment, Segment
from molar_retrieval.experiments.records import Look, StageRow
from molar_retrieval.reports.wording import LANGUAGES, PageWords

EVIL = "<script>alert(1)</script>"


def words(page):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S).split())


def test_one_bottom_line_says_what_to_take_from_it():
    open_effect = effect(low=-0.01)
    late = dataclasses.replace(results(open_effect), until=NOW + 28 * DAY)
    alarm = Guardrail("clicks", -0.3, -0.4, -0.2, 0.1, alarm=True, visitors=900)
    for found, verdict, said in (
        (results(effect()), "brings", "It brings more."),
        (results(open_effect), "open", "2 weeks more are planned"),
        (late, "nothing", "It brings nothing that can be seen."),
        (results(effect(low=-0.2, high=-0.1)), "harms", "It does harm."),
        (results(effect(), guardrails=(alarm,)), "harms", "clicks fall by more than was allowed"),
        (results(effect(), problems=("the arms have odd sizes",)), "held", "There is no verdict"),
        (results(None), "open", "Too few people"),
    ):
        assert verdict_of(found, EXPERIMENT, STAGES) == verdict
        page = words(board_page(found, EXPERIMENT, STAGES))
        assert said in page
        assert sum(line in page for line in _bottom_lines()) == 1
    assert weeks_left(late, EXPERIMENT, STAGES) == 0
    assert weeks_left(results(None), EXPERIMENT, STAGES[:1]) == EXPERIMENT.weeks


def test_what_everybody_has_is_not_said_to_bring_nothing_because_few_are_held_out():
    everybody = [*STAGES, StageRow(4, "everybody", NOW, "the treatment brings more", "anna", False)]
    found = dataclasses.replace(results(effect(low=-0.01)), stage="everybody", until=NOW + 60 * DAY)
    assert verdict_of(found, EXPERIMENT, everybody) == "watched"
    for language in LANGUAGES:
        page = words(board_page(found, EXPERIMENT, everybody, language))
        assert _entries()["bottom_watched"][language] in page
        assert sum(entry[language] in page for name, entry in _entries().items() if name.startswith("bottom_")) == 1
    brings = dataclasses.replace(found, effects=(effect(),))
    assert verdict_of(brings, EXPERIMENT, everybody) == "brings"


def _bottom_lines():
    return [entry["en"] for name, entry in _entries().items() if name.startswith("bottom_")]


def _entries():
    return tomllib.loads((resources.files("molar_eval.experiments") / "page.toml").read_text("utf-8"))


def test_what_was_stopped_early_brings_no_verdict_of_nothing():
    stopped = [*STAGES, StageRow(4, "stopped", NOW, "enough", "anna", False)]
    found = results(effect(low=-0.01))
    assert verdict_of(found, EXPERIMENT, stopped) == "open"
    page = words(board_page(found, EXPERIMENT, stopped))
    assert "It was stopped before it could be told." in page
    assert "it may be chance" in page
    assert "By anna. “enough”" in page
    assert "the trial is over" in page


def test_what_more_weeks_would_hardly_show_brings_nothing_that_can_be_seen():
    look = Look(1, NOW, "ab", "conversion", 0.5, 0.01, 0.3, 2.9, "stop", {"low": -1.0, "difference": 0.1, "high": 1.2})
    page = words(board_page(results(effect(low=-0.01), looks=(look,)), EXPERIMENT, STAGES))
    assert "It brings nothing that can be seen. More weeks would hardly show it." in page
    assert "weeks more would tell" in page
    told = dataclasses.replace(look, facts={**look.facts, "weeks_more": 9})
    page = words(board_page(results(effect(low=-0.01), looks=(told,)), EXPERIMENT, STAGES))
    assert "more would tell" not in page  # the look says so already


def test_a_begin_that_something_spoke_against_says_so():
    first = dataclasses.replace(STAGES[0], why="begun anyway, against: fewer clicks")
    page = words(board_page(results(effect()), EXPERIMENT, [first, *STAGES[1:]]))
    assert "By anna. Begun anyway, against: “fewer clicks”" in page
    assert "The trial began." not in page


def test_money_stands_with_its_interval_and_payback_is_a_range():
    page = words(board_page(results(effect()), EXPERIMENT, STAGES))
    assert "€1,000 to €3,000 more margin (best estimate €2,000)" in page
    assert "after one day to 3 days" in page
    assert "€365; it runs anyway" in page
    assert "+4.0 % to +8.0 %" in page.replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_what_is_not_known_is_said_with_the_remedy():
    money = dataclasses.replace(
        results(effect()).money, month_low=None, month=None, month_high=None, training=None, machine=None,
        payback_low=None, payback_high=None, weeks_more=None, unknown=("margin", "machine_hour"),
    )  # fmt: skip
    page = board_page(dataclasses.replace(results(effect()), money=money), EXPERIMENT, STAGES)
    assert "<code>margin</code> under <code>[costs]</code>" in page
    assert "<code>machine_hour</code>" in page
    assert "€" not in words(page).partition("Money")[2].partition("Doubts")[0]
    assert "Money was not reckoned" in board_page(
        dataclasses.replace(results(effect()), money=None), EXPERIMENT, STAGES
    )


def test_broken_data_gets_no_money_and_its_fault_is_named():
    page = words(board_page(results(effect(), problems=("the arms have odd sizes",), srm=1e-9), EXPERIMENT, STAGES))
    assert "more margin (" not in page
    assert "The data has a fault: the arms have odd sizes" in page
    assert "by chance: below 0.001" in page


def test_before_people_have_either_arm_the_page_tells_what_is_known():
    shadow = results(None, stage="shadow", shadow=ShadowComparison(2000, 0.6, 1.4, 0, 3, None), money=None)
    page = words(board_page(shadow, EXPERIMENT, STAGES[:1]))
    assert "Customers do not have the new version yet" in page
    assert "2,000 lists were made both ways" in page
    mixed = results(None, stage="interleaving", preference=Preference(90, 40, 20, 0.3, 0.1, 0.5, 0.001, 150))
    assert "90 preferred the new version and 40 the former one. That is more than chance" in words(
        board_page(mixed, EXPERIMENT, STAGES[:1])
    )


@pytest.mark.parametrize("language", ["de", "ja"])
def test_it_is_all_in_the_language_that_was_asked_for(language):
    page = board_page(results(effect()), EXPERIMENT, STAGES, language)
    assert f'<html lang="{language}">' in page
    english = [entry["en"] for entry in _entries().values() if isinstance(entry["en"], str) and "{" not in entry["en"]]
    told = words(page)
    assert not [one for one in english if len(one) > 12 and one in told]
    assert ("15. Oktober 2026" if language == "de" else "2026年10月15日") in told
    assert ("1.000 € bis 3.000 €" if language == "de" else "1,000ユーロ〜3,000ユーロ") in told


def test_every_word_exists_in_all_languages_with_the_same_places():
    for name, entry in _entries().items():
        assert set(entry) == set(LANGUAGES), name
        places = {language: _places(text) for language, text in entry.items()}
        assert len(set(map(frozenset, places.values()))) == 1, (name, places)


def _places(text):
    several = text.values() if isinstance(text, dict) else [text]
    found = {field for one in several for _, field, _, _ in string.Formatter().parse(one) if field}
    return found - {"n"}


def test_amounts_and_days_are_written_as_in_each_language():
    en, de, ja = (PageWords(code, "molar_eval.experiments", "page.toml") for code in LANGUAGES)
    assert [one.amount(-12_345.6, "EUR") for one in (en, de, ja)] == ["−€12,300", "−12.300 €", "−12,300ユーロ"]
    assert (ja.amount(123_456, "JPY"), ja.amount(4.2, "JPY")) == ("123,000円", "4円")
    assert (en.amount(0.314, "EUR"), en.amount(12, "CHF"), en.amount(12)) == ("€0.31", "12 CHF", "12")
    assert [one.day(0) for one in (en, de, ja)] == ["1 January 1970", "1. Januar 1970", "1970年1月1日"]


def test_nothing_that_somebody_wrote_is_run():
    arms = {"treatment": Arm(generation=EVIL, rules=EVIL), "segment": Segment(EVIL, EVIL, (EVIL,))}
    odd = Experiment(EVIL[:64], **arms)
    stages = [dataclasses.replace(STAGES[0], why=EVIL, by=EVIL), dataclasses.replace(STAGES[1], why=EVIL, by=EVIL)]
    page = board_page(results(effect(), problems=(EVIL,)), odd, stages)
    assert "<script" not in page
    assert "script-src" not in page
    assert "default-src &#39;none&#39;" in page


def test_another_language_is_refused_and_the_same_values_give_the_same_page():
    with pytest.raises(RequestError, match="speaks no 'fr'"):
        board_page(results(effect()), EXPERIMENT, STAGES, "fr")
    assert board_page(results(effect()), EXPERIMENT, STAGES) == board_page(results(effect()), EXPERIMENT, STAGES)
    json.dumps(results(effect()).to_dict(), allow_nan=False)


@pytest.mark.skipif(installed() is None, reason="no Chromium on the path")
def test_it_fits_a_desk_and_a_phone(tmp_path):
    long = Experiment("x" * 64, treatment=Arm(generation="g" * 90), segment=Segment("y" * 200))
    decided = results(effect(), decision=Decision("on", "everybody", (), automatic=False))
    with Browser(1000, 900) as browser:
        for language in LANGUAGES:
            for n, experiment in enumerate((EXPERIMENT, long)):
                path = tmp_path / f"{language}{n}.html"
                path.write_text(board_page(decided, experiment, STAGES, language), "utf-8")
                for width in (1000, 375):
                    browser.resize(width, 900)
                    browser.go(path.as_uri())
                    browser.wait("document.readyState == 'complete'")
                    assert browser.run("document.documentElement.scrollWidth <= innerWidth"), (language, width)
        assert browser.complaints == []
