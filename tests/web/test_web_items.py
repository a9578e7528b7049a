"""Items over HTTP: put, changed, withdrawn, why one is not shown; what the next update makes of them."""

import time

import pytest
from updates import Days
from web_server import client_of


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    days = Days(trained, tmp_path_factory.mktemp("items"))
    (days.folder.parent / "rules.toml").write_text('[[rule]]\nname = "no lamps"\nban = ["SKU-0007"]\n', "utf-8")
    return days


@pytest.fixture(scope="module")
def client(days):
    with client_of(days.shop.workspace, days.folder.parent / "molar.toml") as client:
        yield client


@pytest.fixture(scope="module")
def items(client):
    """Some items of the popular list."""
    return [item["item_id"] for item in listed(client, k=12)]


def listed(client, **more):
    return client.post("/v1/recommendations", json={"anonymous_id": "nobody", **more}).json()["items"]


def ids(client):
    return [item["item_id"] for item in listed(client, k=100)]


def test_a_price_acts_at_once_and_words_say_that_they_act_later(client, items):
    told = client.patch(f"/v1/items/{items[0]}", json={"attributes": {"price": 1234.5, "title": "Anew"}})
    assert told.status_code == 200, told.text
    assert told.json() | {"seq": 0} == {
        "item_id": items[0], "state": "known", "later": ["title"], "repeated": False, "seq": 0
    }  # fmt: skip
    dear = listed(client, k=100, where="price > 1234", fields=["price"])
    assert [(one["item_id"], one["title"], one["fields"]) for one in dear] == [(items[0], "Anew", {"price": 1234.5})]
    found = client.get(f"/v1/items/{items[0]}").json()
    assert (found["attributes"]["price"], found["attributes"]["title"]) == (1234.5, "Anew")
    assert (found["shown"], found["obstacles"], found["cold_start"]) == (True, [], False)
    assert found["events"] == told.json()["seq"]


def test_why_an_item_is_not_shown_is_told(client, items):
    def kinds():
        found = client.get(f"/v1/items/{items[1]}").json()
        assert found["shown"] == (not found["obstacles"]) == (items[1] in ids(client))
        return [one["kind"] for one in found["obstacles"]]

    path = f"/v1/items/{items[1]}"
    assert kinds() == []
    client.patch(path, json={"attributes": {"stock": 0}})
    assert kinds() == ["sold_out"]
    assert client.delete(path).json()["state"] == "known"
    assert kinds() == ["withdrawn", "sold_out"]
    client.patch(path, json={"attributes": {"stock": 5, "active": True, "available_from": "2999-01-01"}})
    assert kinds() == ["not_yet"]
    client.patch(path, json={"attributes": {"available_from": None}})
    assert kinds() == []
    banned = client.get("/v1/items/SKU-0007").json()
    assert [(one["kind"], one["segment"]) for one in banned["obstacles"]] == [("rule", None)]
    assert "'no lamps'" in banned["obstacles"][0]["problem"]
    assert not banned["shown"]


def test_an_item_put_whole_has_nothing_else_and_is_for_sale_again(client, items):
    path = f"/v1/items/{items[2]}"
    before = client.get(path).json()["attributes"]
    assert len(before) > 3
    client.delete(path)
    assert not client.get(path).json()["shown"]
    told = client.put(path, json={"attributes": {"title": "Only this", "price": 3}}).json()
    assert told["state"] == "known"
    found = client.get(path).json()
    assert found["shown"]
    rest = {name: value for name, value in found["attributes"].items() if value != ""}
    assert (rest.pop("title"), rest.pop("price"), rest.pop("active", True)) == ("Only this", 3, True)
    assert rest == {}


def test_the_same_key_changes_once(client, items):
    path, header = f"/v1/items/{items[3]}", {"Idempotency-Key": "k-1"}
    first = client.patch(path, json={"attributes": {"price": 7}}, headers=header).json()
    client.patch(path, json={"attributes": {"price": 8}})
    again = client.patch(path, json={"attributes": {"price": 7}}, headers=header).json()
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert client.get(path).json()["attributes"]["price"] == 8
    client.patch(path, json={"attributes": {"price": 7}})
    assert client.get(path).json()["attributes"]["price"] == 7


@pytest.mark.parametrize(
    ("method", "item", "body", "status", "field", "remedy"),
    [
        ("patch", "SKU-0001", {"attributes": {"prise": 3}}, 422, "attributes.prise", "did you mean 'price'?"),
        ("patch", "SKU-0001", {"attributes": {"price": "dear"}}, 422, "attributes.price", "give a number"),
        ("patch", "SKU-0001", {"attributes": {"price": 2**70}}, 422, "attributes.price", "at most"),
        ("patch", "SKU-0001", {"attributes": {"title": {"en": "x"}}}, 422, "attributes.title", "give a text"),
        ("patch", "SKU-0001", {"attributes": {"item_id": "SKU-2"}}, 422, "attributes.item_id", "leave it out"),
        ("patch", "SKU-0001", {"attributes": {}}, 422, "attributes", "name attributes"),
        ("patch", "SKU-0001", {"attributes": {"description": "x" * 70_000}}, 422, "data", "65,536"),
        ("patch", "SKU-0001", {"image": "abc"}, 422, "image", "leave it out"),
        ("patch", "nothing", {"attributes": {"price": 3}}, 404, None, "PUT"),
        ("delete", "nothing", None, 404, None, "check the id"),
        ("put", "SKU-0001", {}, 422, None, ""),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(client, method, item, body, status, field, remedy):
    before = client.get("/v1/status").json()["events"]
    told = client.request(method, f"/v1/items/{item}", json=body)
    assert (told.status_code, told.json().get("field")) == (status, field), told.text
    assert remedy in told.json()["remedy"]
    assert client.get("/v1/status").json()["events"] == before


def test_a_photo_is_brought_into_the_folder(client):
    told = client.patch("/v1/items/SKU-0001", json={"attributes": {"image": "https://shop.example/a.jpg"}})
    assert told.status_code == 422
    assert "folder" in told.json()["remedy"]


def test_a_batch_takes_what_it_can(client, items):
    batch = [
        {"item_id": items[4], "attributes": {"price": 11}, "event_id": "batch-1"},
        {"item_id": items[5], "attributes": {"prise": 11}},
        {"item_id": items[5], "withdrawn": True},
        {"item_id": "nothing", "withdrawn": True},
        {"item_id": "NEW-1", "attributes": {"title": "A new lamp", "price": 12}},
        {"item_id": items[6]},
    ]
    told = client.post("/v1/items", json={"items": batch}).json()
    assert (told["accepted"], told["repeated"]) == (3, 0)
    assert [(one["item_id"], one["state"]) for one in told["items"]] == [
        (items[4], "known"), (items[5], "known"), ("NEW-1", "queued")
    ]  # fmt: skip
    assert [(one["index"], one["field"]) for one in told["rejected"]] == [
        (1, "prise"), (3, "item_id"), (5, "attributes")
    ]  # fmt: skip
    assert client.post("/v1/items", json={"items": batch[:1]}).json()["repeated"] == 1
    assert items[5] not in ids(client)
    assert client.post("/v1/items", json={"items": [{"item_id": "x"}] * 1001}).status_code == 422
    assert client.post("/v1/items", json={"items": batch[3:4]}).status_code == 422


def test_a_new_item_waits_for_the_update_and_is_found_after_it(client, days):
    told = client.put("/v1/items/NEW-2", json={"attributes": {"title": "Zyzzyva beetle lamp", "price": 5}}).json()
    assert told["state"] == "queued"
    waiting = client.get("/v1/items/NEW-2").json()
    assert [one["kind"] for one in waiting["obstacles"]] == ["queued"]
    assert (waiting["shown"], waiting["attributes"]["price"]) == (False, 5)
    assert client.patch("/v1/items/NEW-2", json={"attributes": {"price": 6}}).json()["state"] == "queued"
    assert client.get("/v1/items/nothing").status_code == 404
    before = client.get("/v1/items/SKU-0001").json()["attributes"]
    days.shop.update()
    end = time.monotonic() + 30
    while (found := client.get("/v1/items/NEW-2").json())["state"] == "queued" and time.monotonic() < end:
        listed(client)  # the new generation answers once it is open and warm
        time.sleep(0.05)
    assert (found["state"], found["attributes"]["price"], found["cold_start"]) == ("known", 6, True)
    assert found["shown"]
    best = client.post("/v1/search", json={"text": "zyzzyva beetle", "k": 1}).json()["items"]
    assert best[0]["item_id"] == "NEW-2"
    assert client.get("/v1/items/SKU-0001").json()["attributes"] == before
