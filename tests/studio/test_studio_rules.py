"""The rules of the studio: in words, changed step by step, tried, saved in somebody's name, and put back."""

import html
import json
import re
import time
from contextlib import closing
from datetime import date, timedelta

import pytest
from copies import copy_workspace
from studio_client import studio_of_roles, words_of

from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import parse_toml

HOSTILE = "<script>alert(1)</script>\"'"


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("rules") / ".molar")


@pytest.fixture(scope="module")
def people(workspace):
    with studio_of_roles(workspace) as people:
        yield people


@pytest.fixture(scope="module")
def studio(people):
    return people["merchandiser"]


@pytest.fixture(autouse=True)
def file(workspace):
    path = workspace.parent / "rules.toml"
    path.unlink(missing_ok=True)
    return path


def form_of(page):
    """The hidden fields of the page's form."""
    found = re.findall(r'<input type="hidden" name="(draft|etag)" value="([^"]*)"', page.text)
    return {name: html.unescape(value) for name, value in reversed(found)}


def step(studio, page, do, **fields):
    return studio.post("/studio/rules/draft", {**form_of(page), "do": do, **fields})


def tables(page):
    return json.loads(form_of(page)["draft"])


def test_a_rule_is_made_step_by_step_and_saved_in_somebodys_name(studio, file, trained):
    page = studio.get("/studio/rules")
    assert "There are no rules" in words_of(page)
    page = step(studio, page, "new:pin")
    editing = {"kind": "pin", "place": "0"}
    page = step(studio, page, "find", **editing, typed="SKU-0001")
    assert 'name="items" value="SKU-0001"' in page.text
    page = step(studio, page, "keep", **editing, items="SKU-0001", at="2", name="spring", until="2030-05-01")
    assert tables(page) == [{"name": "spring", "until": "2030-05-01", "pin": ["SKU-0001"], "at": 2}]
    assert "from place 2 on. Until 2030-05-01. not saved yet" in words_of(page)
    assert not file.exists()
    assert studio.post("/studio/rules/save", form_of(page)).status_code == 303
    assert parse_toml(file.read_text("utf-8"), "")["rule"] == tables(page)
    page = studio.get("/studio/rules")
    assert "holds now merchandiser, " in words_of(page)
    body = {"user_id": trained.user, "k": 3, "explore": False}
    listed = studio.client.post("/v1/recommendations", json=body)
    assert listed.status_code in (200, 401)


def test_rules_are_changed_moved_and_removed(studio, file):
    file.write_text('[[rule]]\nban = ["SKU-0003"]\n\n[[rule]]\nboost = "price > 20"\nby = 1.5\n', "utf-8")
    page = studio.get("/studio/rules")
    assert "Hides" in words_of(page)
    assert "written in the file by hand" in words_of(page)
    assert [next(iter(one)) for one in tables(step(studio, page, "down:0"))] == ["boost", "ban"]
    assert [next(iter(one)) for one in tables(step(studio, page, "move:1:0"))] == ["boost", "ban"]
    assert [next(iter(one)) for one in tables(step(studio, page, "remove:1"))] == ["ban"]
    edited = step(studio, page, "edit:1")
    assert 'name="by" value="1.5"' in edited.text
    edited = step(studio, edited, "keep", kind="bury", place="1", condition="price > 30", by="1")
    assert tables(edited)[1] == {"bury": "price > 30", "by": 1}
    assert len(tables(step(studio, edited, "cancel", kind="boost", place="1"))) == 2


def test_what_is_wrong_or_in_the_way_is_said_and_not_saved(studio, file):
    draft = {"draft": json.dumps([{"boost": "colour ="}, {"pin": ["SKU-0001"]}]), "etag": ""}
    page = studio.post("/studio/rules/draft", {**draft, "do": ""})
    assert "cannot hold" in words_of(page)
    draft["etag"] = form_of(studio.get("/studio/rules"))["etag"]
    page = studio.post("/studio/rules/save", draft)
    assert (page.status_code, file.exists()) == (422, False)
    assert len(tables(page)) == 2
    both = [{"pin": ["SKU-0001"]}, {"require": "price < 0"}, {"pin": ["SKU-0002"], "at": 3, "until": "2020-01-01"}]
    page = words_of(studio.post("/studio/rules/draft", {"draft": json.dumps(both), "etag": "", "do": ""}))
    assert "Rule 1 pins 'SKU-0001', which rule 2 hides." in page
    assert "No item has price < 0" in page
    assert "has ended" in page


def test_what_somebody_else_saved_meanwhile_is_not_overwritten_and_ones_own_is_kept(studio, file):
    own = form_of(step(studio, studio.get("/studio/rules"), "new:ban")) | {"draft": '[{"ban": ["SKU-0005"]}]'}
    file.write_text("# mine\n", "utf-8")
    page = studio.post("/studio/rules/save", own)
    assert (page.status_code, file.read_text("utf-8")) == (412, "# mine\n")
    assert "has changed the rules meanwhile" in words_of(page)
    assert "comments and layout are lost" in words_of(page)
    assert tables(page) == [{"ban": ["SKU-0005"]}]
    assert studio.post("/studio/rules/save", form_of(page)).status_code == 303
    page = studio.get("/studio/rules/history")
    assert "# mine" in words_of(page)
    version = re.findall(r'name="version" value="([^"]+)"', page.text)[0]
    assert studio.post("/studio/rules/restore", {"version": version}).status_code == 303
    assert file.read_text("utf-8") == "# mine\n"


def test_a_preview_shows_before_and_after(studio):
    rules = {"draft": json.dumps([{"pin": ["SKU-0001", "SKU-0002"]}]), "etag": ""}
    page = studio.post("/studio/rules/preview", rules, part=True)
    assert page.status_code == 200, page.text
    assert re.search(r"\d+ of \d+ people \(\d+ %\) would see another list", words_of(page))
    assert "/studio/photos/SKU-0001" in page.text
    wrong = studio.post("/studio/rules/preview", {"draft": '[{"pin": 3}]', "etag": ""}, part=True)
    assert (wrong.status_code, "pin" in wrong.text) == (422, True)


def test_hostile_rules_are_words_and_a_broken_file_can_be_mended(studio, file):
    rule = {"name": HOSTILE, "ban": [HOSTILE], "for": HOSTILE}
    page = studio.post("/studio/rules/draft", {"draft": json.dumps([rule]), "etag": HOSTILE, "do": "edit:0"})
    assert (page.status_code, "<script>alert" in page.text) == (200, False)
    for draft in ("[" * 5000, "7", "[1]"):
        assert studio.post("/studio/rules/draft", {"draft": draft, "etag": ""}).status_code == 422
    file.write_text("[[rule", "utf-8")
    page = studio.get("/studio/rules")
    assert "not valid TOML" in words_of(page)
    etag = form_of(page)["etag"]
    wrong = studio.post("/studio/rules/save", {"toml": "[[rule]]\nbanana = 1", "etag": etag})
    assert (wrong.status_code, "banana = 1" in wrong.text) == (422, True)
    assert studio.post("/studio/rules/save", {"toml": "# good\r\n", "etag": etag}).status_code == 303
    assert file.read_text("utf-8") == "# good\n"


def test_what_a_rule_has_done_is_told_or_that_it_cannot_be(studio, file, workspace):
    day = int(time.time()) // 86_400
    began = f"{date(1970, 1, 1) + timedelta(days=day - 14)}"
    file.write_text(f'[[rule]]\npin = ["SKU-0001"]\nfrom = "{began}"\n\n[[rule]]\nboost = "price > 3"\n', "utf-8")

    def asked(number):
        etag = form_of(studio.get("/studio/rules"))["etag"]
        return studio.get("/studio/rules/effect", number=number, etag=etag, part=True)

    assert "Cannot tell yet" in words_of(asked(0))
    assert "nobody knows when it began" in words_of(asked(1))
    assert (asked(2).status_code, asked("x").status_code) == (404, 404)
    events = []
    for ago in range(28, 0, -1):
        for n in range(10 + (6 if ago > 14 else 12)):
            item = "SKU-0002" if n < 10 else "SKU-0001"
            when = 86_400 * (day - ago) + 600 * n
            who = f"w{ago} {n}"
            event = {"event_id": who, "event": "purchase", "user_id": who, "item_id": item, "timestamp": when}
            events.append(event)
    with closing(EventLog(Workspace.open(workspace))) as log:
        assert log.append(enumerate(events)).accepted == len(events)
    told = words_of(asked(0))
    assert "Its items are taken 100 % more than before" in told
    assert "Bought 84 times before, 168 times since" in told


def test_a_viewer_reads_and_changes_nothing(people, file):
    viewer = people["viewer"]
    file.write_text('[[rule]]\nban = ["SKU-0003"]\n', "utf-8")
    page = viewer.get("/studio/rules")
    assert (page.status_code, "Save" in words_of(page)) == (200, False)
    for path in ("draft", "save", "preview", "restore"):
        assert viewer.post(f"/studio/rules/{path}", form_of(page)).status_code == 403
    assert file.read_text("utf-8") == '[[rule]]\nban = ["SKU-0003"]\n'
