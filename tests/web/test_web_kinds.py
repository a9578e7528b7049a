"""Which kinds of events a key may send: pages say what people do, not what items are, nor who is who."""

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_serving.auth import Keyring

PAGE = "https://shop.example"


@pytest.fixture(scope="module")
def served(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("kinds") / ".molar")
    ring = Keyring(workspace)
    keys = {
        "page": ring.add("page", ["answer", "events"], origins=[PAGE]),
        "feed": ring.add("feed", ["events"]),
        "backend": ring.add("backend", ["events", "catalogue"]),
    }
    with client_of(workspace) as client:
        yield client, keys


@pytest.mark.parametrize(
    ("who", "taken"),
    [
        ("page", ["view"]),
        ("feed", ["view", "identify"]),
        ("backend", ["view", "identify", "item_upsert", "item_withdraw"]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_key_sends_the_kinds_that_it_may(served, who, taken, nested):
    client, keys = served
    headers = {"authorization": f"Bearer {keys[who]}"} | ({"origin": PAGE} if who == "page" else {})
    events = [
        {"event": kind, "user_id": "u", "session_id": "s", "item_id": "SKU-0001", "data": {"price": 3}}
        for kind in ("view", "identify", "item_upsert", "item_withdraw")
    ]
    sent = [{"event_id": f"{who}{nested}{n}", **({"params": one} if nested else one)} for n, one in enumerate(events)]
    told = client.post("/v1/events", json=sent, headers=headers).json()
    kinds = [one["event"] for one in events]
    rejected = [kinds[one["index"]] for one in told["rejected"]]
    assert rejected == [kind for kind in kinds if kind not in taken], told
    assert told["accepted"] == len(taken)
    assert all(one["field"] == "event" and one["remedy"] for one in told["rejected"])
