"""Reasons in words: which claim is made, in which language, and whose templates."""

from dataclasses import replace
from pathlib import Path

import pytest

from molar_retrieval.errors import RequestError, SettingsError
from molar_retrieval.ranking.explanations import Attributions, Speaker, TakenBefore, _packaged, languages, traits

TITLES = {1: "Fargo", 2: "Heat", 3: "Alien"}
TOGETHER = Attributions([(1, 2.0), (2, 1.0), (3, 0.5)], [(3, 0.1)], {"image": 1.0})
ALIKE = [(3, 1.0)]


def say(evidence: Attributions, language: str = "en", **more: object) -> str:
    given = {"parts": {}, "titles": TITLES, "shared": [], **more}
    return Speaker.of(language).say(evidence, **given)  # type: ignore[arg-type]


def test_the_stronger_kind_of_evidence_speaks() -> None:
    assert say(TOGETHER) == "Others who had “Fargo” and “Heat” took it too."
    assert say(Attributions([(1, 0.1)], ALIKE, {})) == "It is like “Alien”, which you had."


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"image": 0.7, "text": 0.3}, "Its photo looks like"),
        ({"image": 0.3, "text": 0.7}, "It reads like"),
        ({"image": 0.1, "text": 0.1, "attributes": 0.8}, "of the same kind as"),
        ({"image": 0.5, "text": 0.5}, "It is like"),
        ({"image": -1.0, "text": 0.2}, "It reads like"),
        ({"content_tower": 1.0}, "It is like"),
        ({}, "It is like"),
    ],
)
def test_a_source_is_named_where_it_has_most_of_the_likeness(sources: dict[str, float], words: str) -> None:
    assert words in say(Attributions([], ALIKE, sources))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"id_tower": 1.0, "popularity": 1.0}, "fits what you had"),
        ({"id_tower": -1.0, "popularity": 1.0}, "in demand"),
        ({"popularity": -1.0}, "stands here"),
    ],
)
def test_without_items_the_score_itself_speaks(parts: dict[str, float], words: str) -> None:
    assert words in say(Attributions([], [], {}), parts=parts)


@pytest.mark.parametrize(
    ("language", "taken", "words"),
    [
        ("en", TakenBefore(4, 30.2), "You took this 4 times, about every 30 days."),
        ("en", TakenBefore(9, 1.2), "You took this 9 times, about every day."),
        ("en", TakenBefore(1, None), "You took this before."),
        ("de", TakenBefore(4, 30.2), "Das haben Sie 4-mal gewählt, etwa alle 30 Tage."),
        ("ja", TakenBefore(4, 30.2), "これまでに4回、約30日おきに選んでいます。"),
    ],
)
def test_habits_speak_where_they_carry_most(language: str, taken: TakenBefore, words: str) -> None:
    evidence = replace(TOGETHER, taken=taken)
    assert say(evidence, language, parts={"repeat_consumption": 4.0}) == words
    assert say(evidence, language, parts={"repeat_consumption": 3.0}) != words, "what goes together carries more"
    assert say(TOGETHER, language, parts={"repeat_consumption": 4.0}) != words, "nobody knows when"


def test_what_else_is_said() -> None:
    told = say(TOGETHER, parts={"cold_start": 0.0}, shared=["Crime", "1995", "US", "x"], causes=["max 2 per brand"])
    assert told.startswith("New here. Others who")
    assert "In common: Crime, 1995, US." in told
    assert told.endswith("Moved by: max 2 per brand.")
    assert say(TOGETHER, causes=["diversity"]).endswith("Chosen to vary the list.")
    assert say(TOGETHER, causes=["calibration"]).endswith("Chosen to match your usual mix.")
    assert "In common" not in say(Attributions([], [], {}), shared=["Crime"])


def test_every_language_says_everything() -> None:
    assert languages() == ["de", "en", "ja"]
    german = "Auch andere, die „Fargo“ und „Heat“ hatten, haben sich dafür entschieden. Gemeinsam: Crime."
    assert say(TOGETHER, "de", shared=["Crime"]) == german
    for language in languages():
        assert set(_packaged(language)) == set(_packaged("en"))
    assert say(TOGETHER, "ja") == "「Fargo」と「Heat」を選んだほかの方も選んでいます。"


def test_a_file_replaces_templates_and_adds_languages(tmp_path: Path) -> None:
    path = tmp_path / "reasons.toml"
    english = "\n".join(f'{name} = "{text}"' for name, text in {"together": "With {items}!", "joint": " + "}.items())
    path.write_text(f"[en]\n{english}\n", "utf-8")
    spoken = Speaker.of("en", path).say(TOGETHER, {}, TITLES, [])
    assert spoken == "With “Fargo” + “Heat”!"
    assert "選んで" in Speaker.of("ja", path).say(TOGETHER, {}, TITLES, [])


def test_sentences_that_a_file_leaves_out_are_those_of_its_language_or_english(tmp_path: Path) -> None:
    path = tmp_path / "reasons.toml"
    path.write_text("[de]\ntogether = 'Zu {items}'\n[fr]\ntogether = 'Avec {items}'\njoint = ' et '\n", "utf-8")
    german, french = (Speaker.of(language, path) for language in ("de", "fr"))
    assert german.say(TOGETHER, {}, TITLES, []) == "Zu „Fargo“ und „Heat“"
    assert german.say(Attributions([], [], {}), {"popularity": 1.0}, TITLES, []) == "Zurzeit besonders gefragt."
    assert french.say(TOGETHER, {}, TITLES, []) == "Avec “Fargo” et “Heat”"
    assert french.say(Attributions([], [], {}), {"popularity": 1.0}, TITLES, []) == "It is in demand right now."


def test_a_language_made_in_code_says_everything() -> None:
    with pytest.raises(SettingsError, match="'joint' is missing"):
        Speaker({"quote": "{}"}, "mine")


@pytest.mark.parametrize(
    ("text", "language", "word"),
    [
        ("[en]\ntogehter = 'x'", "en", "did you mean 'together'"),
        ("[en]\ntogether = 'x'", "en", "{items}"),
        ("[en]\npopularity = '{items}'", "en", "no gap"),
        ("[en]\ntogether = '{items'", "en", "cannot be read"),
        ("[en]\ntogether = 3", "en", "cannot be read"),
        ("en = 3", "en", "no table"),
        ("[en", "en", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, language: str, word: str) -> None:
    path = tmp_path / "reasons.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as error:
        Speaker.of(language, path)
    assert word in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize(("language", "remedy"), [("fr", "known are de, en, ja"), ("de-DE", "did you mean 'de'?")])
def test_an_unknown_language_is_a_mistake_of_who_asks(language: str, remedy: str) -> None:
    with pytest.raises(RequestError) as error:
        Speaker.of(language)
    assert remedy in error.value.hint


def test_traits_leave_out_texts_numbers_and_what_most_items_have() -> None:
    payload = {"genres": ["Drama", "Crime"], "country": "US", "year": 1995, "plot": "x" * 41, "note": ""}
    found = traits(payload, ["genres", "country", "year", "plot", "note", "none"], {"country": ["US"]})
    assert list(found) == [("genres", "Drama"), ("genres", "Crime")]
