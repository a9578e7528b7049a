"""Segment's own client, told another host and write key; and what its pages send."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from copies import copy_workspace
from segment.analytics.client import Client
from segment.analytics.request import APIError
from web_server import address_of

from molar.shop import Shop
from molar_serving.auth import Keyring

PRODUCT = {"product_id": "SKU-0001", "sku": "X", "name": "Tee", "price": 10.5, "quantity": 2, "position": 3}


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("segment") / ".molar")


@pytest.fixture(scope="module")
def served(workspace):
    key = Keyring(workspace).add("segment", ["answer", "events"])
    with address_of(workspace) as address:
        yield f"{address}/compat/segment", key


@pytest.fixture
def client(served):
    host, key = served
    return Client(write_key=key, host=host, sync_mode=True, max_retries=0)


def lines(workspace, **who):
    table = Shop(None, workspace).events.table(**who)
    return [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]


def test_what_is_tracked_is_in_the_log_and_in_the_next_list(client, served, workspace):
    host, key = served
    moment = datetime.now(UTC) - timedelta(hours=2)
    client.track(anonymous_id="a-1", event="Product Viewed", properties=PRODUCT, timestamp=moment)
    client.track(
        "u-1",
        "Order Completed",
        {"order_id": "O-1", "total": 26, "products": [PRODUCT, {"sku": "SKU-0002", "price": 5}]},
        anonymous_id="a-1",
    )
    (seen,) = [row for row in lines(workspace, session_id="a-1") if row["event"] == "view"]
    assert (seen["item_id"], seen["value"], seen["position"]) == ("SKU-0001", 21.0, 3)
    assert abs(seen["timestamp"] - moment) < timedelta(seconds=2)
    bought = lines(workspace, user_id="u-1")
    assert [(row["item_id"], row["transaction_id"]) for row in bought] == [("SKU-0001", "O-1"), ("SKU-0002", "O-1")]
    asked = {"user_id": "u-1", "k": 50}
    address = host.removesuffix("/compat/segment")
    told = httpx.post(f"{address}/v1/recommendations", json=asked, headers={"authorization": f"Bearer {key}"}).json()
    assert told["known"]
    assert not {"SKU-0001", "SKU-0002"} & {item["item_id"] for item in told["items"]}


def test_the_queue_of_the_client_sends_batches_and_a_message_counts_once(served, workspace):
    host, key = served
    failed = []
    client = Client(
        write_key=key, host=host, upload_interval=0.05, max_retries=0, on_error=lambda *told: failed.append(told)
    )
    for _ in range(2):
        client.track("u-2", "Product Clicked", PRODUCT, message_id="m-1")
    client.identify("u-2", {"name": "Somebody"})
    client.page("u-2", "Docs", "Home")
    client.shutdown()
    assert failed == []
    assert [row["event"] for row in lines(workspace, user_id="u-2")] == ["click"]


def test_who_is_identified_has_what_they_did_before(client, served, workspace):
    host, key = served
    client.track(anonymous_id="a-6", event="Product Viewed", properties=PRODUCT)
    client.identify(user_id="u-6", anonymous_id="a-6", traits={"name": "Somebody"})
    client.identify(user_id="u-6", anonymous_id="a-6")
    client.identify(user_id="u-6")
    assert [row["session_id"] for row in lines(workspace, user_id="u-6")] == ["a-6"]
    client.track(anonymous_id="a-6", event="Product Viewed", properties={"product_id": "SKU-0002"})
    address, headers = host.removesuffix("/compat/segment"), {"authorization": f"Bearer {key}"}
    lists = [
        httpx.post(f"{address}/v1/recommendations", json={**who, "k": 50}, headers=headers).json()
        for who in ({"user_id": "u-6"}, {"anonymous_id": "a-6"})
    ]
    of_user, of_session = ([item["item_id"] for item in told["items"]] for told in lists)
    assert of_user == of_session
    assert not {"SKU-0001", "SKU-0002"} & set(of_user)


def test_an_anonymous_id_stays_who_it_was_first_and_the_rest_of_a_batch_is_kept(client, served, workspace):
    host, key = served
    client.identify(user_id="u-7", anonymous_id="a-7")
    with pytest.raises(APIError, match="another user") as told:
        client.identify(user_id="u-8", anonymous_id="a-7")
    assert (told.value.status, "u-7" in str(told.value)) == (409, False)
    batch = [
        {"type": "identify", "userId": "u-9", "anonymousId": "a-7"},
        {"type": "identify", "userId": "u-9", "anonymousId": "a-9"},
        {"type": "identify", "userId": "u-8", "anonymousId": "a-9"},
        {"event": "Product Clicked", "userId": "u-9", "properties": PRODUCT, "messageId": "m-9"},
    ]
    answer = httpx.post(f"{host}/v1/batch", json={"batch": batch, "writeKey": key})
    assert (answer.status_code, "another user" in answer.json()["message"]) == (409, True)
    assert sorted(row["event"] for row in lines(workspace, user_id="u-9")) == ["click", "identify"]
    assert lines(workspace, user_id="u-8") == []


def test_a_page_is_not_believed_who_somebody_is(served, workspace):
    host, _ = served
    origin = "https://shop.example"
    key = Keyring(workspace).add("page", ["events"], origins=[origin])
    message = {"userId": "u-10", "anonymousId": "a-10", "writeKey": key}
    answer = httpx.post(f"{host}/v1/i", json=message, headers={"content-type": "text/plain", "origin": origin})
    assert answer.json() == {"success": True}
    assert lines(workspace, user_id="u-10") == []
    message["writeKey"] = served[1]
    httpx.post(f"{host}/v1/i", json=message, headers={"content-type": "text/plain"})
    assert [row["event"] for row in lines(workspace, user_id="u-10")] == ["identify"]


def test_each_event_of_the_specification_is_kept_as_ours(client, workspace):
    names = {
        "Product List Viewed": "impression",
        "Product Clicked": "click",
        "Product Added": "add_to_cart",
        "Product Removed": "remove_from_cart",
        "Order Refunded": "return",
    }
    for name in names:
        client.track("u-3", name, {"order_id": "O-2", "list_id": "l", "products": [PRODUCT]})
    client.track("u-3", "Products Searched", {"query": "cup"})
    client.track("u-3", "Some Event of Theirs", {"anything": 1})
    assert sorted(row["event"] for row in lines(workspace, user_id="u-3")) == sorted([*names.values(), "search"])


def test_pages_send_their_key_in_the_body(served, workspace):
    host, key = served
    message = {"type": "track", "event": "product_viewed", "anonymousId": "a-4", "properties": PRODUCT, "writeKey": key}
    for path in ("/v1/t", "/v1/track"):
        answer = httpx.post(host + path, json={**message, "messageId": path}, headers={"content-type": "text/plain"})
        assert answer.json() == {"success": True}
    assert len(lines(workspace, session_id="a-4")) == 2


def test_what_is_wrong_or_not_supported_is_said_in_a_sentence(client, served):
    host, _ = served
    with pytest.raises(APIError, match="no item"):
        client.track("u-5", "Product Viewed", {"name": "Tee"})
    with pytest.raises(APIError, match="writeKey") as told:
        Client(write_key="molar_segment_wrong", host=host, sync_mode=True, max_retries=0).track("u-5", "Product Viewed")
    assert told.value.status == 401
    with pytest.raises(APIError, match="compressed") as told:
        Client(write_key=client.write_key, host=host, sync_mode=True, max_retries=0, gzip=True).track("u-5", "A")
    assert told.value.status == 415
    answer = httpx.get(host + "/v1/projects")
    assert (answer.status_code, "compat.md" in answer.json()["message"]) == (501, True)
