"""People over HTTP: what is known of somebody, as the next answer reads them."""

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_indexes.generations import open_generation
from molar_retrieval.workspace.artefacts import Workspace


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("users") / ".molar")


@pytest.fixture(scope="module")
def client(workspace):
    with client_of(workspace) as client:
        yield client


def send(client, number, **event):
    told = client.post("/v1/events", json={"event_id": f"e{number}", "event": "purchase", **event})
    assert told.json()["accepted"] == 1, told.text
    return told.json()["seq"]


def test_the_history_of_somebody_is_told_with_what_came_since(client, trained, workspace):
    with open_generation(Workspace(workspace)) as generation:
        record = generation.users.get(trained.user)
        ids = {item.row: item.item_id for item in generation.index.fetch(range(len(generation.index)))}
    before = client.get(f"/v1/users/{trained.user}").json()
    assert [one["item_id"] for one in before["history"]] == [ids[row] for row in record.history]
    assert (before["known"], before["in_generation"], before["log"]) == (True, True, [])
    assert before["interactions"] == len(record.history)
    seq = send(client, 1, user_id=trained.user, item_id="SKU-0003", timestamp="2026-11-26T20:13:05Z")
    after = client.get(f"/v1/users/{trained.user}").json()
    assert after["events"] == seq
    assert after["history"][-1] == {"item_id": "SKU-0003", "time": "2026-11-26T20:13:05Z"}
    assert after["log"] == [{"seq": seq, "event": "purchase", "item_id": "SKU-0003", "time": "2026-11-26T20:13:05Z"}]


def test_somebody_anonymous_is_another_person_than_a_user_of_the_same_name(client):
    send(client, 2, anonymous_id="visitor", item_id="SKU-0004")
    known = client.get("/v1/users/visitor", params={"anonymous": True}).json()
    assert (known["known"], known["in_generation"], known["interactions"]) == (True, False, 1)
    assert not client.get("/v1/users/visitor").json()["known"]


def ten(client, **who):
    body = {"k": 10, "explore": False, **who}
    return [item["item_id"] for item in client.post("/v1/recommendations", json=body).json()["items"]]


def test_what_a_visitor_did_is_the_users_once_it_is_told_who_it_is(client, workspace):
    def history(name, **more):
        return [one["item_id"] for one in client.get(f"/v1/users/{name}", params=more).json()["history"]]

    send(client, 10, anonymous_id="cookie", item_id="SKU-0005")
    send(client, 11, user_id="newly", item_id="SKU-0006")
    assert (history("newly"), history("cookie", anonymous=True)) == (["SKU-0006"], ["SKU-0005"])
    told = client.post("/v1/users/merge", json={"anonymous_id": "cookie", "user_id": "newly"})
    assert (told.status_code, told.json()["repeated"]) == (200, False), told.text
    send(client, 12, anonymous_id="cookie", item_id="SKU-0008")
    whole = ["SKU-0005", "SKU-0006", "SKU-0008"]
    assert history("newly") == history("cookie", anonymous=True) == whole
    listed = ten(client, user_id="newly")
    assert listed == ten(client, anonymous_id="cookie")
    assert not set(listed) & set(whole)
    assert client.post("/v1/users/merge", json={"anonymous_id": "cookie", "user_id": "newly"}).json()["repeated"]
    other = client.post("/v1/users/merge", json={"anonymous_id": "cookie", "user_id": "another"})
    assert (other.status_code, "newly" in other.text) == (409, False)
    assert client.post("/v1/users/merge", json={"anonymous_id": "cookie"}).status_code == 422
    assert history("another") == []
    lines = (workspace / "serving" / "audit.jsonl").read_text("utf-8")
    assert "users/merge" in lines
    assert not {"newly", "cookie"} & set(lines.replace('"', " ").split())
