"""Answers that are kept: the next page of the same list, and what was shown, byte by byte."""

import os
import shutil
import sqlite3
import time
import zlib

import msgspec
import pytest
from copies import copy_workspace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from web_server import client_of, service_of, until_ready

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ranking.results import made_at, new_id
from molar_serving.app import application
from molar_serving.auth import Keyring
from molar_serving.response_store import Shown, ShownAnswers, packed, unpacked
from molar_serving.service import FormerGenerations
from molar_serving.wire import AnsweredItem, InExperiment, ListAnswer, RecommendationRequest, encode

EXAMPLES = int(os.environ.get("MOLAR_TEST_PAGES", "8"))
SIMPLE = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("served") / ".molar")


@pytest.fixture(scope="module")
def client(workspace):
    with client_of(workspace) as client:
        yield client


def told(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(client, **body):
    return told(client.post("/v1/recommendations", json=body))


def ids(*pages):
    return [item["item_id"] for page in pages for item in page["items"]]


def test_an_id_says_when_it_was_made():
    first = new_id()
    assert abs(made_at(first) - time.time()) < 5
    assert len({first, *(new_id() for _ in range(1000))}) == 1001
    assert made_at("nothing") is made_at(first.replace("7", "4")) is None


def test_pages_go_on_without_anything_twice(client, trained):
    first = listed(client, user_id=trained.user, k=10, placement="home", fields=["price"])
    pages = [first]
    while pages[-1]["next"] is not None:
        pages.append(told(client.post(pages[-1]["next"], json={"k": 15})))
    long = listed(client, user_id=trained.user, k=200)
    assert sorted(ids(*pages)) == sorted(ids(long))
    assert [item["rank"] for page in pages for item in page["items"]] == list(range(1, len(ids(long)) + 1))
    assert pages[-1]["shortfall"] is not None
    assert {page["placement"] for page in pages} == {"home"}
    assert all(item["fields"].keys() == {"price"} for page in pages for item in page["items"])
    assert len({page["recommendation_id"] for page in pages}) == len(pages)
    simply = told(client.get(first["next"], params={"k": 15}))
    assert ids(simply) == ids(pages[1])


happened = st.lists(
    st.tuples(st.sampled_from(["view", "purchase", "add_to_cart", "impression"]), st.integers(1, 100), st.booleans()),
    max_size=3,
)


@given(sizes=st.lists(st.integers(10, 20), min_size=3, max_size=4), between=st.lists(happened, min_size=4, max_size=4))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_are_those_of_one_long_list_whatever_happens_meanwhile(client, trained, sizes, between):
    visitor = f"v-{new_id()}"
    bought = {"event_id": new_id(), "event": "purchase", "anonymous_id": visitor, "item_id": "SKU-0007"}
    seq = told(client.post("/v1/events", json=bought))["seq"]
    asked = {"anonymous_id": visitor, "wait_for": seq}
    long, taken = ids(listed(client, k=sum(sizes) + 10, dry_run=True, **asked)), set()
    pages = [listed(client, k=sizes[0], **asked)]
    for size, events in zip(sizes[1:], between, strict=False):
        for kind, number, own in events:
            item = f"SKU-{number:04d}"
            who = {"anonymous_id": visitor if own else "somebody"}
            event = {"event_id": new_id(), "event": kind, "item_id": item, **who}
            assert told(client.post("/v1/events", json=event))["accepted"] == 1
            taken |= {item} if own and kind != "impression" else set()
        pages.append(told(client.post(pages[-1]["next"], json={"k": size})))
        assert not taken & set(ids(pages[-1]))
    shown = ids(*pages)
    assert len(set(shown)) == len(shown) == sum(sizes)
    left = [item for item in long if item not in taken or item in shown]
    assert sorted(shown) == sorted(left[: len(shown)])


def test_what_was_shown_is_told_byte_by_byte(client, trained):
    for ask in (
        lambda: client.post("/v1/recommendations", json={"user_id": trained.user, "explain": True, "fields": ["é"]}),
        lambda: client.get("/v1/search", params={"text": "lamp"}),
        lambda: client.get("/v1/items/SKU-0001/similar"),
        lambda: client.post("/v1/rankings", json={"user_id": trained.user, "items": ["SKU-0001", "gone"]}),
    ):
        first = ask()
        assert client.get(f"/v1/recommendations/{first.json()['recommendation_id']}").content == first.content


def test_searches_and_what_is_alike_go_on_too(client):
    for first in (
        told(client.get("/v1/search", params={"text": "lamp", "k": 5})),
        told(client.get("/v1/items/SKU-0001/similar", params={"k": 5})),
        listed(client, user_id="nobody", k=5),
    ):
        second = told(client.get(first["next"], params={"k": 7}))
        assert second["basis"] == first["basis"]
        assert len({*ids(first), *ids(second)}) == 12
    long = told(client.get("/v1/items/SKU-0001/similar", params={"k": 12}))
    both = told(client.get("/v1/items/SKU-0001/similar", params={"k": 5}))
    assert ids(both, told(client.get(both["next"], params={"k": 7}))) == ids(long)


def test_what_is_not_kept_is_not_found(client, trained):
    dry = listed(client, user_id=trained.user, dry_run=True)
    assert (dry["recommendation_id"], dry["next"]) == (None, None)
    assert len(dry["items"]) == 10
    for answer_id in ("x", "0" * 32, "a/b", new_id()):
        assert client.get(f"/v1/recommendations/{answer_id}").status_code == 404
        assert client.post(f"/v1/recommendations/{answer_id}/next", json={}).status_code == 404
    old = f"{int((time.time() - 3600) * 1000):012x}" + new_id()[12:]
    gone = client.get(f"/v1/recommendations/{old}")
    assert (gone.status_code, gone.json()["detail"]) == (410, "answers are kept for 30 minutes")
    ranking = told(client.post("/v1/rankings", json={"user_id": "u", "items": ["SKU-0001"]}))
    assert client.get(f"/v1/recommendations/{ranking['recommendation_id']}/next").status_code == 422


def test_a_browser_sees_what_it_would_have_been_told(trained, tmp_path):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    ring = Keyring(workspace)
    page = {"authorization": f"Bearer {ring.add('page', ['answer'], origins=['https://shop.example'])}"}
    page |= {"origin": "https://shop.example"}
    backend = {"authorization": f"Bearer {ring.add('backend', ['answer'])}"}
    events = {"authorization": f"Bearer {ring.add('events', ['events'])}"}
    with client_of(workspace) as client:
        first = client.post("/v1/recommendations", json={"user_id": trained.user}, headers=backend)
        path = f"/v1/recommendations/{first.json()['recommendation_id']}"
        assert first.json()["items"][0]["parts"]
        seen = client.get(path, headers=page).json()
        assert ids(seen) == ids(first.json())
        assert all(item["parts"] is None for item in seen["items"])
        assert all(item["parts"] is None for item in client.get(f"{path}/next", headers=page).json()["items"])
        assert client.get(path, headers=backend).content == first.content
        assert client.get(path, headers=events).status_code == 403
        assert client.get(path).status_code == 401


@pytest.fixture
def kept(tmp_path):
    opened = []

    def of(minutes=30.0):
        found = ShownAnswers(tmp_path, minutes)
        opened.append(found)
        found.start()
        return found

    yield of
    for one in opened:
        one.close()


def an_answer(n=0, size=100):
    question = RecommendationRequest(user_id=f"u{n}", placement="home")
    return Shown(new_id(), os.urandom(size), question, "g1", n, ["a", "b"], False, "home")


def until(found):
    end = time.monotonic() + 10
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_other_processes_find_what_one_wrote_and_it_outlives_them(kept, tmp_path):
    writer, reader = kept(), kept()
    some = [an_answer(n) for n in range(50)]
    for one in some:
        writer.keep(one)
        assert writer.find(one.answer_id) == one
    until(lambda: reader.find(some[-1].answer_id))
    assert [reader.find(one.answer_id) for one in some] == some
    for n in range(50):
        reader.keep(an_answer(n))
    writer.close()
    assert kept().find(some[0].answer_id) == some[0]
    file = tmp_path / "serving" / "answers.sqlite"
    assert file.stat().st_mode & 0o077 == 0
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT DISTINCT placement FROM answers").fetchall() == [("home",)]


@given(
    fields=st.dictionaries(
        st.text(), st.recursive(SIMPLE, lambda one: st.lists(one) | st.dictionaries(st.text(), one))
    ),
    score=st.floats() | st.integers(-(2**63), 2**63 - 1),
    arm=st.none() | st.just(InExperiment(name="e", arm="control")),
)
@settings(max_examples=10 * EXAMPLES, deadline=None)
def test_what_was_sent_comes_back_byte_by_byte(fields, score, arm):
    item = AnsweredItem(item_id="a", rank=1, title=None, score=score, parts={"x": score}, fields=fields)
    told = ListAnswer(
        recommendation_id=new_id(), generation="g", basis="aligned", known=None, items=[item, item], notes=["\u20ac"],
        shortfall=None, events=3, milliseconds={"all": 0.1}, experiment=arm,
    )  # fmt: skip
    one = Shown(told.recommendation_id, encode(told), None, "g", 3, ["a"], propensities={"a": 0.5}, told=told)
    assert unpacked(one.answer_id, packed(one)) == one


def test_a_file_that_is_removed_is_made_anew(kept, tmp_path):
    writer, reader = kept(), kept()
    for n in range(3):
        one = an_answer(n)
        writer.keep(one)
        until(lambda one=one: reader.find(one.answer_id))
        (tmp_path / "serving" / "answers.sqlite").unlink()
        assert reader.find(one.answer_id) is None
    assert writer.problem is None


def test_what_another_version_wrote_is_not_known(kept, tmp_path):
    writer, one, file = kept(), an_answer(), tmp_path / "serving" / "answers.sqlite"
    writer.keep(one)
    writer.close()
    about = "Other", {}, "g", 1, [], False, None, None, {}
    others = [msgspec.msgpack.encode((body, *about)) for body in (b"", [], [1, "a list of other fields"])]
    for content in (b"", b"?", zlib.compress(b"?"), *others):
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE answers SET content = ?", (content,))
        assert kept().find(one.answer_id) is None


def test_what_is_too_old_is_gone_from_the_disk(kept, tmp_path):
    found = kept(minutes=1 / 60)
    one = an_answer()
    found.keep(one)
    until(lambda: found.expired(one.answer_id))
    assert found.find(one.answer_id) is None
    found.close()
    again = kept(minutes=1 / 60)
    again.keep(an_answer(1))
    again.close()
    with sqlite3.connect(tmp_path / "serving" / "answers.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM answers WHERE id = ?", (one.answer_id,)).fetchone() == (0,)


@pytest.mark.parametrize("damage", ["folder", "bytes"])
def test_what_cannot_be_written_stays_in_memory_within_its_bound(kept, tmp_path, damage):
    place = tmp_path / "serving"
    if damage == "folder":
        place.write_text("no folder")
    else:
        place.mkdir()
        (place / "answers.sqlite").write_bytes(b"no database" * 1000)
    found = kept()
    one = an_answer()
    found.keep(one)
    until(lambda: found.problem is not None or damage == "bytes")
    assert found.find(one.answer_id) == one
    if damage == "folder":
        assert str(tmp_path) not in found.problem
        for n in range(40):
            found.keep(an_answer(n, 1 << 20))
        assert found.find(one.answer_id) is None
        assert found._size <= 32 << 20
    else:
        until(lambda: not (place / "answers.sqlite").exists())
        assert found.problem is not None


def test_where_nothing_is_kept_there_is_no_next_page(trained, tmp_path):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    (tmp_path / "molar.toml").write_text("[serve]\nresponse_ttl_minutes = 0\n")
    (workspace / "serving" / "answers.sqlite").unlink(missing_ok=True)
    with client_of(workspace) as client:
        first = listed(client, user_id=trained.user)
        assert first["recommendation_id"]
        assert first["next"] is None
        assert client.get(f"/v1/recommendations/{first['recommendation_id']}").status_code in (404, 410)
    assert not (workspace / "serving" / "answers.sqlite").exists()


def test_another_server_of_the_workspace_goes_on_with_a_list(client, workspace, trained):
    first = client.post("/v1/recommendations", json={"user_id": trained.user})
    with client_of(workspace) as other:
        path = f"/v1/recommendations/{first.json()['recommendation_id']}"
        assert other.get(path).content == first.content
        assert not {*ids(first.json())} & {*ids(told(other.get(f"{path}/next")))}


def test_a_list_goes_on_by_its_own_generation_while_that_is_there(trained, tmp_path):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    generations = workspace / "generations"
    own = (generations / "current").read_text().strip()

    def go_live(name):
        copy_workspace(generations / own, generations / name)
        (generations / "next").write_text(f"{name}\n")
        (generations / "next").rename(generations / "current")

    service = service_of(workspace)
    with TestClient(application(service), base_url="http://127.0.0.1") as client:
        until_ready(client)
        first = listed(client, user_id=trained.user)
        go_live("20990101-000000-00000001")
        until(lambda: listed(client, user_id=trained.user)["generation"] != own)
        second = told(client.get(first["next"]))
        assert (first["generation"], second["generation"], second["notes"]) == (own, own, [])
        third = told(client.get(second["next"]))
        assert len({*ids(first, second, third)}) == 30
        service.former.release(everything=True)
        shutil.rmtree(generations / own)
        second = told(client.get(first["next"]))
        assert second["generation"] == "20990101-000000-00000001"
        assert f"generation {own} is gone" in second["notes"][-1]
        assert len({*ids(first, second)}) == 20
        assert client.get(f"/v1/recommendations/{first['recommendation_id']}").status_code == 200


class Opened:
    def __init__(self):
        self.open = True

    def close(self):
        self.open = False


def test_former_generations_are_closed_when_nobody_asks(monkeypatch):
    opened = []

    def opening(name):
        if name == "gone":
            raise StaleArtefactError("it is gone", "ask again")
        opened.append(Opened())
        return opened[-1]

    former = FormerGenerations(opening)
    with former.lent("gone") as nothing:
        assert nothing is None
    for name in "abc":
        with former.lent(name) as one:
            assert one.open
    assert [one.open for one in opened] == [False, True, True]
    with former.lent("b") as one, former.lent("b") as same:
        assert one is same is opened[1]
        former.release(everything=True)
        assert [one.open for one in opened] == [False, True, False]
    monkeypatch.setattr("molar_serving.service._IDLE", 0.0)
    former.release()
    assert not opened[1].open
