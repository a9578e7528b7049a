"""What somebody was shown, made again: by the generation, the events and the rules of then."""

import json
import os
import re
import shutil
import time
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient
from studio_client import StudioClient, words_of
from updates import Days, another_generation
from web_server import service_of, until_ready

from molar_retrieval.ranking.results import made_at
from molar_serving.app import application
from molar_serving.rules_file import RulesFile
from molar_serving.service import AnsweringGenerations
from molar_serving.studio.people import Somebody
from molar_serving.studio.screens.customers import RulesOfThen, remade, rules_at, shown_to

USER, VISITOR = Somebody("u0012"), Somebody('visitor/<b>"1"</b>', True)
RULES = "[[rule]]\nname = 'dear <i>first</i>'\nboost = 'price > 40'\nby = 0.6\n"


class ThePast:
    """A shop that answered, and in which much has happened since."""

    def __init__(self, days, service, studio):
        self.days, self.service, self.studio, self.count = days, service, studio, 0
        self.former = service.recommender.generation.name
        put = studio.client.put("/v1/rules", json={"toml": RULES})
        assert put.status_code == 200
        self.send(event="view", anonymous_id=VISITOR.name, item_id="SKU-0004")
        self.answers = {one: self.ask(one) for one in (USER, VISITOR)}
        self.before_all = made_at(self.answers[USER]["recommendation_id"])
        time.sleep(0.01)
        listed = [item["item_id"] for item in self.answers[USER]["items"]]
        for person, answer in self.answers.items():
            items = [{"item_id": item["item_id"], "position": item["rank"]} for item in answer["items"]]
            self.send(event="impression", recommendation_id=answer["recommendation_id"], items=items, **who(person))
        self.send(event="purchase", item_id=listed[0], **who(USER))
        self.send(event="item_withdraw", item_id=listed[1])
        self.send(event="identify", anonymous_id=VISITOR.name, user_id="u0013")
        assert studio.client.put("/v1/rules", json={"toml": "[[rule]]\nban = 'price > 40'\n"}).status_code == 200
        self.live = another_generation(days.workspace)
        while self.ask(USER)["generation"] != self.live:
            time.sleep(0.02)

    def send(self, **event):
        self.count += 1
        event |= {"event_id": f"past-{self.count}", "timestamp": time.time()}
        assert self.studio.client.post("/v1/events", json=event).json()["accepted"] == 1

    def ask(self, person):
        answer = self.studio.client.post("/v1/recommendations", json={**who(person), "k": 10, "explain": True})
        return answer.json()


def who(person):
    return {"anonymous_id" if person.anonymous else "user_id": person.name}


@pytest.fixture(scope="module")
def past(trained, tmp_path_factory):
    days = Days(trained, tmp_path_factory.mktemp("then"))
    service = service_of(days.workspace.root)
    with TestClient(application(service), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        until_ready(client)
        yield ThePast(days, service, StudioClient(client))


@contextmanager
def nothing_kept(service):
    """As when the minutes are over for which answers are kept."""
    find, service.shown.find = service.shown.find, lambda answer_id: None
    try:
        yield
    finally:
        service.shown.find = find


def shown(answer):
    return {item["rank"]: item["item_id"] for item in answer["items"]}


@pytest.mark.parametrize("person", [USER, VISITOR], ids=["user", "visitor"])
def test_an_answer_that_is_kept_comes_again_to_the_last_digit(past, person):
    answer = past.answers[person]
    assert shown(past.ask(person)) != shown(answer), "the list of now is another one"
    made = remade(past.service, person, answer_id=answer["recommendation_id"])
    assert (made.verdict, made.scores, made.generation, made.events) == ("same", True, past.former, answer["events"])
    assert made.rules.text == RULES
    assert {one.place: one.made.item_id for one in made.places} == shown(answer)
    for one, item in zip(made.places, answer["items"], strict=True):
        again = {name: getattr(one.made, name) for name in ("score", "parts", "reasons", "rule", "propensity")}
        assert again == {name: item[name] for name in again}


@pytest.mark.parametrize("person", [USER, VISITOR], ids=["user", "visitor"])
def test_later_the_event_log_tells_what_was_shown(past, person):
    answer = past.answers[person]
    with nothing_kept(past.service):
        made = remade(past.service, person, answer_id=answer["recommendation_id"])
    assert (made.verdict, made.scores, made.generation, made.events) == ("same", None, past.former, answer["events"])
    assert [one.made.score for one in made.places] == [item["score"] for item in answer["items"]]
    assert {"events_by_time", "question_usual"} == set(made.doubts)


def test_without_a_record_the_generation_is_guessed_and_the_page_says_so(past, monkeypatch):
    monkeypatch.setattr(past.service.answered, "at", lambda moment: [])
    with nothing_kept(past.service):
        made = remade(past.service, USER, answer_id=past.answers[USER]["recommendation_id"])
    assert (made.verdict, made.generation) == ("same", past.former)
    assert "generation_guessed" in made.doubts


def test_which_generation_answered_is_written_down(past, tmp_path):
    assert past.service.answered.at(past.before_all)[0] == past.former
    assert past.service.answered.at(time.time())[0] == past.live
    assert past.service.answered.at(1_600_000_000.0) == []
    record = AnsweringGenerations(tmp_path)
    assert record.at(time.time()) == []
    (tmp_path / "serving").mkdir()
    switches = {"g1": "12:00:00.000", "g2": "12:10:00.000", "g3": "12:10:02.500"}
    lines = [{"time": f"2026-11-24T{when}+00:00", "generation": name} for name, when in switches.items()]
    (tmp_path / "serving" / "answered.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    began = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
    assert [record.at(began + seconds) for seconds in (-1, 30, 601, 603, 700)] == [
        [],
        ["g1"],
        ["g2", "g1"],
        ["g3", "g2", "g1"],
        ["g3"],
    ]
    shutil.rmtree(tmp_path / "serving")
    (tmp_path / "serving").write_text("in the way", "utf-8")
    record.begins("g1")


def test_what_differs_is_named_by_its_place(past):
    answer = past.answers[USER]
    other = answer["recommendation_id"][:-4] + "0000"
    items = [{"item_id": item["item_id"], "position": item["rank"]} for item in answer["items"]]
    items[2]["item_id"] = "SKU-0001"
    past.send(event="impression", recommendation_id=other, items=items, **who(USER))
    made = remade(past.service, USER, answer_id=other)
    assert (made.verdict, [one.place for one in made.places if not one.same]) == ("differs", [3])
    page = past.studio.get(USER.address("then", [("answer", other)]))
    assert 'data-verdict="differs"' in page.text
    assert "one place differs" in words_of(page)


def test_the_list_of_any_moment(past):
    made = remade(past.service, USER, at=past.before_all)
    assert (made.verdict, made.generation) == ("nothing", past.former)
    assert {one.place: one.made.item_id for one in made.places} == shown(past.answers[USER])
    now = remade(past.service, USER, at=time.time())
    assert {one.place: one.made.item_id for one in now.places} == shown(past.ask(USER))
    assert remade(past.service, USER, at=1_600_000_000.0).verdict == "gone"


def test_lists_that_were_shown_are_found_by_person(past):
    found = shown_to(past.days.workspace, VISITOR)
    answer = past.answers[VISITOR]
    assert [one.answer_id for one in found] == [answer["recommendation_id"]]
    assert found[0].items == shown(answer)
    assert found[0].at == made_at(answer["recommendation_id"])
    assert remade(past.service, USER, answer_id=answer["recommendation_id"]) is None, "it was shown to somebody else"


def test_pages(past):
    page = past.studio.get(VISITOR.address("then"))
    answer_id = past.answers[VISITOR]["recommendation_id"]
    address = VISITOR.address("then", [("answer", answer_id)])
    assert f'href="{address.replace("&", "&amp;")}"' in page.text
    made = past.studio.get(address)
    assert 'data-verdict="same"' in made.text
    assert "to the last digit" in words_of(made)
    assert "<b>" not in made.text
    assert "dear <i>first" not in made.text
    assert "dear &lt;i&gt;first" in made.text
    assert re.findall(r'data-place="(\d+)"', made.text) == [str(n) for n in range(1, 11)]
    for language in ("de", "ja"):
        past.studio.language = language
        assert past.studio.get(address).status_code == past.studio.get(VISITOR.address("then")).status_code == 200
    past.studio.language = "en"
    at = past.studio.get(USER.address("then", [("at", "2020-01-01T10:00")]))
    assert 'data-verdict="gone"' in at.text
    assert "what" in words_of(past.studio.get("/studio/then/nobody"))
    assert past.studio.get("/studio/then/u1", at="yesterday").status_code == 422
    missing = past.studio.get("/studio/then/u1", answer="<i>x")
    assert missing.status_code == 404
    assert "<i>x" not in missing.text


def test_rules_of_a_moment(tmp_path, trained):
    days = Days(trained, tmp_path)
    file = RulesFile(days.workspace)
    now = time.time()
    assert rules_at(file, now) == RulesOfThen("", None, certain=True)
    file.path.write_text("a = 1\n", "utf-8")
    os.utime(file.path, (now - 100, now - 100))
    assert rules_at(file, now - 50) == rules_at(file, now) == RulesOfThen("a = 1\n", None, certain=True)
    assert not rules_at(file, now - 150).certain, "it was written by hand since"
    moments = [time.time()]
    for text in ("b = 1\n", "", "c = 1\n"):
        time.sleep(0.01)
        file.replace(text, lambda former: None, "anna")
        time.sleep(0.01)
        moments.append(time.time())
    found = [rules_at(file, at) for at in moments]
    assert [one.text for one in found] == ["a = 1\n", "b = 1\n", "", "c = 1\n"]
    assert [one.certain for one in found] == [False, True, True, True], "who wrote the first one is not known"
    assert [one.version is not None for one in found] == [True, True, False, False]


def test_without_its_generation_a_list_cannot_be_made_again(past):
    past.service.former.release(everything=True)
    shutil.rmtree(past.days.workspace.root / "generations" / past.former)
    for kept in (True, False):
        with nullcontext() if kept else nothing_kept(past.service):
            made = remade(past.service, USER, answer_id=past.answers[USER]["recommendation_id"])
        assert (made.verdict, made.generation) == ("gone", None)
        assert {one.place: one.shown for one in made.places} == shown(past.answers[USER])
    page = past.studio.get(USER.address("then", [("answer", past.answers[USER]["recommendation_id"])]))
    assert "no generation of that time is left" in words_of(page)
