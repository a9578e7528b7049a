"""Payloads of Google Analytics 4's Measurement Protocol, as Google documents them."""

import time

import pytest
from copies import copy_workspace
from web_server import client_of

from molar.shop import Shop
from molar_serving.auth import Keyring

ITEMS = [
    {"item_id": "SKU-0001", "item_name": "Tee", "index": 0, "price": 10.01, "quantity": 3, "item_list_id": "related"},
    {"item_id": "SKU-0002", "item_name": "Cup", "index": 1, "price": 5, "quantity": 1, "coupon": "SUMMER"},
]


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("ga4") / ".molar")


@pytest.fixture(scope="module")
def send(workspace, tmp_path_factory):
    key = Keyring(workspace).add("ga4", ["answer", "events"])
    settings = tmp_path_factory.mktemp("settings") / "molar.toml"
    settings.write_text('[serve]\nevent_aliases = {reorder = "purchase"}\n')
    with client_of(workspace, settings) as client:

        def send(path="/mp/collect", secret=key, **payload):
            parameters = {"measurement_id": "G-1", "api_secret": secret}
            return client.post(f"/compat/ga4{path}", params=parameters, json=payload)

        send.list = lambda who: client.post(
            "/v1/recommendations", json={"anonymous_id": who, "k": 50}, headers={"authorization": f"Bearer {key}"}
        ).json()
        yield send


def lines(workspace, who):
    table = Shop(None, workspace).events.table(session_id=who)
    return [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]


def event(name, **params):
    return {"name": name, "params": {"session_id": "123", "engagement_time_msec": 100, "currency": "USD", **params}}


def test_a_purchase_is_in_the_log_and_in_the_next_list(send, workspace):
    micros = time.time_ns() // 1_000 - 60_000_000
    payload = {"client_id": "1.2", "user_id": "u9", "timestamp_micros": str(micros), "non_personalized_ads": False}
    bought = event("purchase", transaction_id="T_1", value=35.03, tax=1.11, items=ITEMS)
    for _ in range(2):
        answer = send(**payload, events=[bought])
        assert (answer.status_code, answer.content) == (204, b"")
    first, second = lines(workspace, "1.2")
    assert (first["event"], first["user_id"], first["item_id"]) == ("purchase", "u9", "SKU-0001")
    assert (first["quantity"], first["transaction_id"], first["list_id"]) == (3, "T_1", "related")
    assert (first["value"], second["value"]) == pytest.approx((30.03, 5.0))
    assert int(first["timestamp"].timestamp() * 1e6) == pytest.approx(micros, abs=1)


def test_a_browser_without_a_user_has_a_list_after_its_first_look(send):
    assert not send.list("3.4")["known"]
    send(client_id="3.4", events=[event("view_item", items=ITEMS[:1]), event("page_view"), event("scroll")])
    told = send.list("3.4")
    assert told["known"]
    assert "SKU-0001" not in [item["item_id"] for item in told["items"]]


def test_each_kind_is_kept_as_ours(send, workspace):
    names = ("view_item_list", "select_item", "view_item", "add_to_cart", "add_to_wishlist", "remove_from_cart")
    events = [event(name, items=ITEMS[n % 2 :][:1], recommendation_id="r-1") for n, name in enumerate(names)]
    events += [event("refund", transaction_id="T_1"), event("view_search_results", search_term="cup")]
    assert send(client_id="5.6", events=events).status_code == 204
    kept = lines(workspace, "5.6")
    assert sorted(row["event"] for row in kept) == sorted(
        ("impression", "click", "view", "add_to_cart", "add_to_cart", "remove_from_cart", "return", "search")
    )
    assert {row.get("request_id") for row in kept if row["event"] == "click"} == {"r-1"}


def test_a_shops_own_names_mean_what_the_settings_say(send, workspace):
    assert send(client_id="9.9", events=[event("Reorder", items=ITEMS[:1])]).status_code == 204
    assert [row["event"] for row in lines(workspace, "9.9")] == ["purchase"]


def test_validation_tells_what_would_not_be_kept_and_keeps_nothing(send, workspace):
    events = [event("view_item", items=ITEMS), event("page_view"), event("add_to_cart"), event("view_item", items=[{}])]
    told = send("/debug/mp/collect", client_id="7.8", events=events)
    assert told.status_code == 200
    found = [(one["fieldPath"], one["validationCode"]) for one in told.json()["validationMessages"]]
    assert found == [
        ("events[1].name", "NAME_INVALID"),
        ("events[2].item_id", "VALUE_INVALID"),
        ("events[3].item_id", "VALUE_INVALID"),
    ]
    told = send("/debug/mp/collect", events=events[:1]).json()["validationMessages"]
    assert "user_id" in told[0]["fieldPath"]
    assert lines(workspace, "7.8") == []


def test_what_is_wrong_or_not_supported_is_said_in_a_sentence(send):
    for answer, status, words in (
        (send(secret="molar_ga4_wrong", client_id="1", events=[]), 401, "api_secret"),
        (send(client_id="1", events="none"), 400, "events"),
        (send("/g/collect", client_id="1"), 501, "compat.md"),
    ):
        (message,) = answer.json()["validationMessages"]
        assert (answer.status_code, words in message["description"]) == (status, True), message
