"""Somebody in the studio: found, with their history and list, and what would change it."""

import re
import time
from contextlib import closing

import pytest
from copies import copy_workspace
from starlette.testclient import TestClient
from studio_client import studio_client, studio_of_roles, words_of
from web_server import service_of

from molar_indexes.recommender import Recommender
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.app import application
from molar_serving.studio.people import Asked, Somebody, marked, waterfall

NOBODY = 'no <script>alert("x")</script>/body & ?'


@pytest.fixture(scope="module")
def studio(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("people") / ".molar")
    with studio_client(workspace) as client:
        events = [
            {"event": "purchase", "user_id": "u0012", "item_id": "SKU-0003"},
            {"event": "view", "anonymous_id": "visitor/1", "item_id": "SKU-0005"},
            {"event": "view", "anonymous_id": NOBODY, "item_id": '<img src=x onerror="1">'},
        ]
        for number, event in enumerate(events):
            answer = client.client.post(
                "/v1/events", json={"event_id": f"p{number}", "timestamp": time.time(), **event}
            )
            assert answer.json()["accepted"] == 1
        yield client


def items_of(page, section="list"):
    """Items of a list of the page, in their order."""
    part = re.search(rf'<section[^>]* id="{section}">(.*?)</section>', page.text, re.S)[1]
    return re.findall(r'<li data-item="([^"]*)"', part.split('id="gone"')[0])


def test_people_are_found_by_id_and_among_the_last_events(studio):
    page = studio.get("/studio/people")
    assert page.status_code == 200
    lately = re.search(r'<table id="lately">(.*?)</table>', page.text, re.S)[1]
    assert re.findall(r'href="(/studio/people/[^"]*)"', lately)[1:] == [
        "/studio/people/visitor%2F1?anonymous=1",
        "/studio/people/u0012",
    ]
    assert "bought" in words_of(page)
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text
    assert studio.get("/studio/people", q="u0001").headers["location"] == "/studio/people/u0001"
    assert studio.get("/studio/people", q=" a/b ", anonymous="1").headers["location"] == (
        "/studio/people/a%2Fb?anonymous=1"
    )


def test_the_list_is_the_one_that_an_answer_gives(studio, trained):
    known, visitor = Somebody(trained.user), Somebody("visitor/1", True)
    for person, who in ((known, {"user_id": known.name}), (visitor, {"anonymous_id": visitor.name})):
        page = studio.get(person.address())
        answer = studio.client.post("/v1/recommendations", json={**who, "k": 10, "explain": True}).json()
        assert items_of(page) == [item["item_id"] for item in answer["items"]]
        told = words_of(page)
        assert all(" ".join(item["reasons"]) in told for item in answer["items"])
        assert "the rules" not in told


def test_one_thing_is_clicked_away_and_the_list_is_made_again(studio, trained):
    now = studio.get(f"/studio/people/{trained.user}")
    gone = items_of(now, "history")[0]
    address = Asked(Somebody(trained.user)).leaving(gone).address
    assert f'href="{address}"' in now.text
    page = studio.get(address)
    assert items_of(page) != items_of(now)
    assert f'<li data-item="{gone}" class="left-out">' in page.text
    marks = set(re.findall(r'data-mark="(\w+)"', page.text))
    assert marks <= {"same", "new", "up", "down"} != {"same"}
    counts = re.search(
        r'id="changed" role="status">The list was made again: (\d+) new, (\d+) gone, (\d+) moved', page.text
    )
    fresh, lost, moved = map(int, counts.groups())
    assert (fresh, moved) == (page.text.count('data-mark="new"'), len(re.findall('data-mark="(?:up|down)"', page.text)))
    assert lost == len(set(items_of(now)) - set(items_of(page)))
    assert 'id="changed" role="status"></p>' in now.text
    missing = set(items_of(now)) - set(items_of(page))
    listed_as_gone = re.search(r'id="gone">(.*?)</ul>', page.text, re.S)
    assert missing == set(re.findall(r'data-item="([^"]*)"', listed_as_gone[1] if listed_as_gone else ""))
    assert f'href="/studio/people/{trained.user}"' in page.text, "the way back"
    assert items_of(studio.get(f"/studio/people/{trained.user}")) == items_of(now)


def test_what_if_they_take_something(studio, trained):
    now = items_of(studio.get(f"/studio/people/{trained.user}"))
    page = studio.get(Asked(Somebody(trained.user)).buying(now[0]).address)
    assert now[0] not in items_of(page)
    assert "Nothing is changed by it" in words_of(page)
    found = studio.get(f"/studio/people/{trained.user}", find="SKU-0007")
    assert f'href="{Asked(Somebody(trained.user)).buying("SKU-0007").address}"' in found.text
    refused = studio.get(f"/studio/people/{trained.user}", **{"with": "SKU-99999"})
    assert refused.status_code in (404, 422)
    assert "unknown" in words_of(refused)
    assert studio.get(f"/studio/people/{trained.user}", without=[f"x{n}" for n in range(30)]).status_code == 422


def test_the_waterfall_is_the_score(studio, trained):
    user = trained.user
    item = items_of(studio.get(f"/studio/people/{user}"))[0]
    part = studio.get(f"/studio/why/{user}", part=True, item=item)
    assert "<html" not in part.text
    page = studio.get(f"/studio/why/{user}", item=item)
    assert "<html" in page.text
    with Recommender.open(trained.workspace) as recommender:
        answer = recommender.query(user, k=10, explain=True)
    (listed,) = (one for one in answer.items if one.item_id == item)
    steps = dict(re.findall(r'data-part="([^"]*)".*?class="number">([^<]*)<', part.text, re.S))
    assert steps == {name: f"{value:.2f}".replace("-", "−") for name, value in listed.parts.items() if value}
    assert f"Score {listed.score:.2f}" in words_of(part)
    assert 'id="by-history"' in part.text
    assert "do not add up to the score" in words_of(part)


def test_steps_of_a_waterfall_begin_where_the_one_before_ends():
    first, second, third = waterfall({"a": 2.0, "b": -3.0, "c": 3.0})
    assert (first.start, first.width) == pytest.approx((33.33, 66.67), abs=0.01)
    assert (second.start, second.width) == pytest.approx((0, 100), abs=0.01)
    assert third.start + third.width == pytest.approx(100, abs=0.01)
    assert waterfall({}) == ()


def test_lists_are_marked_against_the_one_of_now(trained):
    with Recommender.open(trained.workspace) as recommender:
        now, then = (recommender.query(user, k=10) for user in (trained.user, "u0031"))
    listed, gone = marked(now, then)
    places = {item.item_id: item.rank for item in now.items}
    for one in listed:
        assert one.before == places.get(one.item.item_id)
        assert (one.mark == "new") == (one.before is None)
    assert {item.item_id for item in gone} == set(places) - {item.item_id for item in then.items}
    assert all(one.mark == "same" for one in marked(now, now)[0])


def test_nobody_is_no_error(studio):
    page = studio.get(Somebody(NOBODY).address())
    assert page.status_code == 200
    assert "Nothing is known of this person" in words_of(page)
    assert "<script>alert" not in page.text
    assert "There is a visitor" not in words_of(page), "their item is unknown"
    assert "There is a visitor with this id" in words_of(studio.get("/studio/people/visitor%2F1"))
    assert "no history" in words_of(studio.get("/studio/why/nobody", item="SKU-0001"))


@pytest.mark.parametrize("language", ["de", "ja"])
def test_in_other_languages(studio, trained, language):
    studio.language = language
    try:
        for address in (
            "/studio/people",
            f"/studio/people/{trained.user}",
            f"/studio/why/{trained.user}?item=SKU-0001",
        ):
            page = studio.get(address)
            assert page.status_code == 200
            assert f'lang="{language}"' in page.text
    finally:
        studio.language = "en"


def test_before_anything_was_published(tmp_path):
    (tmp_path / "shop").mkdir()

    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    with TestClient(application(service_of(workspace.root)), base_url="http://127.0.0.1") as client:
        page = client.get("/studio/people/u1")
        assert page.status_code == 503
        assert "molar" in page.text


@pytest.fixture
def own(trained, tmp_path):
    """Clients by role of a shop of their own, in which events of somebody and of two visitors have come."""
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    copy_workspace(trained.shop, tmp_path / "shop")
    with closing(EventLog(Workspace(workspace))) as log:
        seen = {"event": "view", "timestamp": time.time()}
        named = ({"event_id": f"f{n}", "session_id": f"visitor-{n % 2}", "item_id": f"SKU-000{n}"} for n in (1, 2, 3))
        assert log.append(enumerate(seen | one for one in named)).accepted == 3
    with studio_of_roles(workspace) as roles:
        yield roles


def test_an_admin_forgets_somebody_and_a_visitor(own, trained):
    admin, viewer = own["admin"], own["viewer"]
    assert 'id="forget"' not in viewer.get(f"/studio/people/{trained.user}").text
    assert viewer.post(f"/studio/forget/{trained.user}", {"id": trained.user}).status_code == 403
    assert 'id="forget"' in admin.get(f"/studio/people/{trained.user}").text
    assert admin.post(f"/studio/forget/{trained.user}", {"id": "somebody"}).status_code == 422
    assert items_of(admin.get(f"/studio/people/{trained.user}"), "history")
    done = admin.post(f"/studio/forget/{trained.user}", {"id": trained.user})
    assert (done.status_code, "Histories 1" in words_of(done)) == (200, True), words_of(done)
    assert not items_of(admin.get(f"/studio/people/{trained.user}"), "history")
    there = "/studio/people/visitor-1?anonymous=1"
    assert items_of(admin.get(there), "history")
    done = admin.post("/studio/forget/visitor-1?anonymous=1", {"id": "visitor-1"})
    assert "Events 2" in words_of(done)
    assert not items_of(admin.get(there), "history")
    assert items_of(admin.get("/studio/people/visitor-0?anonymous=1"), "history")
    assert "Nobody here has this id" in words_of(admin.post("/studio/forget/none?anonymous=1", {"id": "none"}))
    assert "Person forgotten" in words_of(admin.get("/studio/changes"))
