"""Items of a caller's own, in order: each comes once, what nothing ranks last."""

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_indexes.recommender import Recommender

RULES = """
[[rule]]
name = "no lamps"
ban = 'category == "Lamps"'
"""


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("served") / ".molar")


@pytest.fixture(scope="module")
def client(workspace):
    with client_of(workspace) as client:
        yield client


@pytest.fixture(scope="module")
def every(trained):
    return [f"SKU-{number:04d}" for number in range(1, trained.items + 1)]


def ranked(client, **body):
    answer = client.post("/v1/rankings", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(told):
    return [item["item_id"] for item in told["items"]]


def test_every_known_item_comes_once_in_the_order_of_a_list(client, trained, every):
    told = ranked(client, user_id=trained.user, items=[*every, *every[:3], "gone"])
    assert sorted(ids(told)) == sorted([*every, "gone"])
    assert [item["rank"] for item in told["items"]] == list(range(1, len(every) + 2))
    with Recommender.open(trained.workspace) as recommender:
        wanted = recommender.query(trained.user, k=len(every), filter_seen=False, explore=False)
    shown = [item.item_id for item in wanted.items]
    assert ids(told)[: len(shown)] == shown
    for item in told["items"][: len(shown)]:
        assert item["score"] == pytest.approx(sum(item["parts"].values()), abs=1e-6)


def test_what_nothing_ranks_comes_last_with_a_note(client, trained, every):
    told = ranked(client, user_id=trained.user, items=["gone", *every[:5], "lost"])
    assert ids(told)[-2:] == ["gone", "lost"]
    assert [item["score"] for item in told["items"][-2:]] == [None, None]
    assert "these are unknown: 'gone', 'lost'" in told["notes"][0]
    assert told["notes"][-1].startswith("the last 2 of the items")


def test_what_may_not_be_shown_is_not_lost(client, every):
    event = {"event_id": "w1", "event": "item_withdraw", "item_id": every[0]}
    assert client.post("/v1/events", json=event).json()["accepted"] == 1
    told = ranked(client, session=[every[7]], items=every[:5])
    assert sorted(ids(told)) == every[:5]
    assert (ids(told)[-1], told["items"][-1]["score"]) == (every[0], None)


def test_who_is_not_known_gets_the_order_of_most_people(client, every):
    for who in ({"user_id": "nobody"}, {"anonymous_id": "nobody"}, {"session": ["gone"]}):
        told = ranked(client, items=every[3:20], **who)
        assert (told["known"], sorted(ids(told))) == (False, every[3:20])
        scores = [item["score"] for item in told["items"] if item["score"] is not None]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": ["SKU-0001"]}, "user_id"),
        ({"items": [], "user_id": "u"}, "items"),
        ({"items": [f"i{number}" for number in range(1_001)], "user_id": "u"}, "items"),
        ({"user_id": "u"}, None),
    ],
)
def test_what_cannot_be_ranked_is_named(client, body, field):
    told = client.post("/v1/rankings", json=body)
    assert (told.status_code, told.json().get("field")) == (422, field)


def test_rules_move_what_they_ban_to_the_end(trained, tmp_path, every):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    (tmp_path / "rules.toml").write_text(RULES)
    with client_of(workspace) as client:
        told = ranked(client, user_id=trained.user, items=every, fields=["category"])
        free = ranked(client, user_id=trained.user, items=every, fields=["category"], rules=False)
    lamps = {item["item_id"] for item in free["items"] if item["fields"].get("category") == "Lamps"}
    assert lamps
    assert sorted(ids(told)) == every
    unranked = {item["item_id"] for item in told["items"] if item["score"] is None}
    assert lamps <= unranked
    assert set(ids(told)[-len(unranked) :]) == unranked
