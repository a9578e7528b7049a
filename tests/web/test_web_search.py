"""Searches over HTTP: by words, by a photo that is sent, by another item; nothing unknown is an error."""

import struct
import zlib
from base64 import b64encode
from pathlib import Path

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_indexes.recommender import Recommender
from molar_retrieval import limits


@pytest.fixture(scope="module")
def client(trained, tmp_path_factory):
    with client_of(copy_workspace(trained.workspace, tmp_path_factory.mktemp("served") / ".molar")) as client:
        yield client


@pytest.fixture(scope="module")
def recommender(trained):
    with Recommender.open(trained.workspace) as opened:
        yield opened


def found(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(told):
    return [item["item_id"] for item in told["items"]]


def wanted(answer):
    return [item.item_id for item in answer.items]


def test_words_find_what_the_recommender_finds(client, recommender):
    title = recommender.query("nobody", k=1, fallback="popular").items[0].title
    told = found(client.post("/v1/search", json={"text": title, "k": 4, "fields": ["price"]}))
    assert ids(told) == wanted(recommender.search(title, k=4))
    assert told["basis"] == "search"
    assert told["items"][0]["similarity"] == 1
    assert told["items"][0]["fields"]["price"] > 0
    simply = found(client.get("/v1/search", params={"text": title, "k": 4, "fields": "price, brand"}))
    assert ids(simply) == ids(told)
    assert simply["items"][0]["fields"].keys() == {"price", "brand"}


def test_words_that_nothing_is_like_say_so(client):
    told = found(client.get("/v1/search", params={"text": "quantum chromodynamics lecture"}))
    assert "nothing here is clearly like" in told["notes"][0]


def test_somebody_gets_what_suits_them_first_and_anybody_unknown_what_anybody_gets(client, recommender, trained):
    told = found(client.post("/v1/search", json={"text": "lamp", "user_id": trained.user, "filter_seen": True}))
    assert ids(told) == wanted(recommender.search("lamp", user_id=trained.user, filter_seen=True))
    assert told["known"]
    anybody = found(client.post("/v1/search", json={"text": "lamp"}))
    for who in ({"user_id": "nobody"}, {"anonymous_id": "a-1"}):
        unknown = found(client.post("/v1/search", json={"text": "lamp", "filter_seen": True, **who}))
        assert (unknown["known"], ids(unknown)) == (False, ids(anybody))
        assert "nothing is known of who asks" in unknown["notes"][-1]


def test_a_session_is_known_by_its_events(client):
    event = {"event_id": "s1", "event": "purchase", "anonymous_id": "a-2", "item_id": "SKU-0003"}
    assert client.post("/v1/events", json=event).json()["accepted"] == 1
    told = found(client.post("/v1/search", json={"text": "lamp", "anonymous_id": "a-2"}))
    assert told["known"]
    assert "personal" in told["items"][0]["parts"]


def test_a_photo_finds_its_item_however_it_is_sent(client, trained):
    photo = next(iter(sorted((Path(trained.shop) / "images").glob("*.jpg"))))
    told = found(client.post("/v1/search", json={"image": b64encode(photo.read_bytes()).decode(), "k": 3}))
    assert ids(told)[0] == photo.stem
    raw = {"content": photo.read_bytes(), "headers": {"content-type": "image/jpeg"}, "params": {"k": 3}}
    assert ids(found(client.post("/v1/search/photo", **raw))) == ids(told)


def bomb():
    """A PNG that says it has 10^10 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("content", [b"no photo", b"http://127.0.0.1/photo.jpg", b"%!PS-Adobe", bomb()])
def test_what_is_no_photo_is_refused_by_name(client, content):
    answers = [
        client.post("/v1/search/photo", content=content, headers={"content-type": "image/png"}),
        client.post("/v1/search", json={"image": b64encode(content).decode()}),
    ]
    for told in answers:
        assert (told.status_code, told.json()["field"]) == (422, "image")
        assert "is no photo to search by" in told.json()["detail"]


def test_photos_have_a_bound(client):
    assert client.post("/v1/search/photo", content=bytes(limits.PHOTO + 1)).status_code == 413
    assert client.post("/v1/search/photo").status_code == 422
    image = b64encode(bytes(limits.PHOTO + 1)).decode()
    assert client.post("/v1/search", json={"image": image}).status_code == 422
    assert client.post("/v1/search", json={"image": "/etc/passwd."}).json()["field"] == "image"


def test_what_is_like_an_item(client, recommender):
    told = found(client.get("/v1/items/SKU-0001/similar", params={"k": 5, "where": "price < 90"}))
    assert ids(told) == wanted(recommender.similar("SKU-0001", k=5, where="price < 90"))
    assert ids(found(client.post("/v1/search", json={"similar_to": "SKU-0001", "k": 5, "where": "price < 90"}))) == ids(
        told
    )


@pytest.mark.parametrize("item_id", ["gone", "a/b", "%2e%2e", "é 商品"])
def test_an_unknown_item_gets_the_popular_list_and_a_note(client, recommender, item_id):
    told = found(client.get(f"/v1/items/{item_id}/similar"))
    assert (told["known"], told["basis"]) == (False, "popularity")
    assert ids(told) == wanted(recommender.query("nobody", fallback="popular"))
    assert "is unknown" in told["notes"][0]
    assert ids(found(client.post("/v1/search", json={"similar_to": "gone"}))) == ids(told)
    beside = found(client.post("/v1/search", json={"similar_to": "gone", "text": "lamp"}))
    assert ids(beside) == ids(found(client.post("/v1/search", json={"text": "lamp"})))


def test_text_without_words_gets_the_popular_list(client):
    told = found(client.get("/v1/search", params={"text": "!!!"}))
    assert told["basis"] == "popularity"
    assert told["notes"][0] == "there are no words in '!!!'"


def test_a_session_or_a_selection_of_unknown_items_is_no_error(client):
    told = found(client.post("/v1/recommendations", json={"session": ["gone"]}))
    assert told["basis"] == "popularity"
    assert "left out, as they are unknown: 'gone'" in told["notes"][0]
    told = found(client.post("/v1/recommendations", json={"user_id": "u", "candidates": ["gone", "SKU-0001"]}))
    assert set(ids(told)) <= {"SKU-0001"}
    assert told["notes"][0] == "of the items that may come these are unknown: 'gone'"


def test_a_search_for_nothing_says_what_can_be_asked(client):
    told = client.post("/v1/search", json={"k": 3})
    assert (told.status_code, told.json()["field"]) == (422, "text")
