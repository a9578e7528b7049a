"""People over HTTP: what is known of somebody, as the next answer reads them."""

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_indexes.generations import open_generation
from molar_retrieval.workspace import Workspace


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


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/v1/users/u"), ("DELETE", "/v1/users/u"), ("POST", "/v1/users/merge")]
)
def test_what_is_not_supported_says_so_and_what_to_do(client, method, path):
    told = client.request(method, path, json={"anonymous_id": "a", "user_id": "u"} if method == "POST" else None)
    assert told.status_code == 501
    assert told.json()["remedy"]
