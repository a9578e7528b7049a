"""Lists and events over HTTP: what comes in, what goes out, what is refused and how."""

import base64
import hashlib
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_indexes.recommender import Recommender

PEOPLE = ({"user_id": "u0004"}, {"user_id": "nobody"}, {"anonymous_id": "visitor"}, {"session": ["SKU-0001"]})


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("served") / ".molar")


@pytest.fixture(scope="module")
def client(workspace):
    with client_of(workspace) as client:
        yield client


def list_for(client, **body):
    answer = client.post("/v1/recommendations", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_known_user_gets_the_list_of_the_recommender(client, trained):
    told = list_for(client, user_id=trained.user, k=5, explain=True, fields=["price", "nothing"], explore=False)
    with Recommender.open(trained.workspace) as recommender:
        wanted = recommender.query(trained.user, k=5, explain=True, explore=False)
    assert [item["item_id"] for item in told["items"]] == [item.item_id for item in wanted.items]
    assert told["known"]
    assert told["notes"] == ["the catalogue has no field 'nothing', so it is null: name an attribute of the items"]
    assert told["generation"] == wanted.generation
    for item, other in zip(told["items"], wanted.items, strict=True):
        assert item["score"] == pytest.approx(sum(item["parts"].values()), abs=1e-6)
        assert item["reasons"] == list(other.reasons) != []
        assert item["fields"] == {"price": other.payload["price"], "nothing": None}


def test_who_is_not_known_gets_the_popular_list_and_a_note(client):
    told = list_for(client, user_id="somebody-new", k=3)
    assert not told["known"]
    assert told["basis"] == "popularity"
    assert len(told["items"]) == 3
    assert "nothing is known" in told["notes"][0]


def test_a_simple_address_asks_the_same(client, trained):
    by_address = client.get("/v1/recommendations", params={"user_id": trained.user, "k": 4}).json()
    by_body = list_for(client, user_id=trained.user, k=4)
    assert [one["item_id"] for one in by_address["items"]] == [one["item_id"] for one in by_body["items"]]
    assert by_address["recommendation_id"] != by_body["recommendation_id"]


def test_an_event_changes_the_next_list_of_its_sender(client):
    first = list_for(client, anonymous_id="visitor-1", k=3)
    bought = first["items"][0]["item_id"]
    event = {"event_id": "e1", "event": "purchase", "anonymous_id": "visitor-1", "items": [{"item_id": bought}]}
    taken = client.post("/v1/events", json=event).json()
    assert (taken["accepted"], taken["duplicates"], taken["rejected"]) == (1, 0, [])
    told = list_for(client, anonymous_id="visitor-1", k=10, wait_for=taken["seq"])
    assert told["known"]
    assert told["events"] >= taken["seq"]
    assert bought not in [item["item_id"] for item in told["items"]]
    assert client.post("/v1/events", json=event).json()["duplicates"] == 1


def test_one_bad_event_keeps_no_other_out(client, trained):
    late = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    good = {"event_id": "b1", "event": "view_item", "user_id": trained.user, "item_id": "SKU-0001"}
    batch = [good, {**good, "event_id": "b2", "event": "vieww"}, {**good, "event_id": "b3", "timestamp": late}]
    told = client.post("/v1/events", json={"events": batch})
    assert told.status_code == 200
    assert told.json()["accepted"] == 1
    assert [(one["index"], one["field"]) for one in told.json()["rejected"]] == [(1, "event"), (2, "timestamp")]
    assert "view" in told.json()["rejected"][0]["remedy"]
    lines = "\n".join(json.dumps({**good, "event_id": f"l{n}"}) for n in range(3))
    told = client.post("/v1/events", content=lines, headers={"content-type": "application/x-ndjson"}).json()
    assert told["accepted"] == 3
    lines = json.dumps({**good, "event_id": "m0"}).encode() + b'\n{"event_id": \n\xff\n' + lines.encode()
    told = client.post("/v1/events", content=lines, headers={"content-type": "application/x-ndjson"}).json()
    assert (told["accepted"], told["duplicates"]) == (1, 3)
    assert [(one["index"], one["field"]) for one in told["rejected"]] == [(1, "row"), (2, "row")]
    assert "is no JSON object" in told["rejected"][0]["problem"]
    assert client.post("/v1/events", json={"event": "view"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "field", "remedy"),
    [
        ({"user_id": "u", "kk": 3}, 422, "kk", "did you mean 'k'?"),
        ({"user_id": "u", "k": 0}, 422, "k", ""),
        ({"user_id": "u", "k": "3"}, 422, "k", ""),
        ({"user_id": "u", "where": "prise < 3"}, 422, None, "price"),
        ({"user_id": ["u"]}, 422, "user_id", ""),
        ({"user_id": "u", "fallback": "populer"}, 422, "fallback", "did you mean 'popular'?"),
        ({"user_id": "u", "objective": "soon"}, 422, "objective", "give one of future_items, next_item"),
        ({}, 422, "user_id", "give user_id, anonymous_id or session"),
        *(({**who, "explain": True, "language": "de-DE"}, 422, None, "did you mean 'de'?") for who in PEOPLE),
    ],
)
def test_what_is_wrong_is_a_problem_that_names_the_remedy(client, body, status, field, remedy):
    told = client.post("/v1/recommendations", json=body)
    assert (told.status_code, told.headers["content-type"]) == (status, "application/problem+json")
    assert told.json().get("field") == field
    assert remedy in told.json()["remedy"]
    assert told.json()["instance"] == told.headers["x-request-id"]


def test_what_is_no_json_or_too_long_or_nowhere_is_a_problem(client):
    assert client.post("/v1/recommendations", content=b"{").status_code == 400
    assert client.post("/v1/recommendations", content=b" " * (1 << 20) + b"{}").status_code == 413
    assert client.get("/v1/nothing").json()["type"] == "urn:molar:problem:404"
    assert client.delete("/v1/events").status_code == 405
    assert client.post("/v1/recommendations", json={"k": 1}, headers={"host": "shop.example"}).status_code == 403


def test_every_answer_says_how_a_browser_should_treat_it(client):
    for path in ("/health/live", "/openapi.json", "/v1/nothing"):
        found = client.get(path).headers
        assert found["x-content-type-options"] == "nosniff"
        assert found["content-security-policy"].startswith("default-src 'none'")


def test_the_openapi_page_tells_every_endpoint(client):
    page = client.get("/openapi.json").json()
    assert page["openapi"] == "3.1.0"
    assert page["paths"]["/v1/recommendations"].keys() == {"post", "get"}
    assert page["paths"]["/v1/events"]["post"]["x-scope"] == "events"
    assert page["components"]["schemas"]["RecommendationRequest"]["additionalProperties"] is False


def test_fields_are_attributes_and_photos_and_what_is_misspelt_is_told(client, trained):
    told = list_for(client, user_id=trained.user, k=100, fields=["title", "prise", "image", "colour"])
    assert "no field 'prise', so it is null: did you mean 'price'?" in told["notes"][0]
    for item in told["items"]:
        assert item["fields"]["title"] == item["title"]
        assert item["fields"]["prise"] is None
        assert item["fields"]["image"] in (None, f"images/{item['item_id']}.jpg")
    assert any(item["fields"]["image"] for item in told["items"])
    by_address = {"user_id": trained.user, "k": 3, "fields": "price, image"}
    simply = client.get("/v1/recommendations", params=by_address).json()
    assert simply["items"][0]["fields"].keys() == {"price", "image"}
    many = list_for(client, user_id=trained.user, fields=[f"x{number}" for number in range(100)])
    assert len(many["notes"]) == 3


@pytest.mark.parametrize("number", [2**70, 2**63, -1, 1e30])
def test_a_number_out_of_bounds_is_refused_by_its_field_and_harms_nothing(client, trained, number):
    asked = {"user_id": trained.user, "k": 2}
    answer = client.post("/v1/recommendations", json=asked | {"wait_for": number})
    assert (answer.status_code, answer.json()["field"]) == (422, "wait_for")
    answer = client.get("/v1/recommendations", params=asked | {"wait_for": number})
    assert (answer.status_code, answer.json()["field"]) == (422, "wait_for")
    if number >= 2**63:
        answer = client.post("/v1/recommendations", json={"user_id": int(number), "k": 2})
        assert (answer.status_code, answer.json()["field"]) == (422, "user_id")
    shown = list_for(client, **asked)
    time.sleep(0.3)  # by then it has left the memory
    assert client.post(shown["next"], json={"k": 2}).status_code == 200
    assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("alpha", 1e-320), ("alpha", 0.9), ("power", 1e-320), ("power", 1.0), ("share", 1e-320)),
        *(("treated", 5e-324), ("weeks", [0]), ("weeks", [10**9]), ("effects", [1e-320]), ("effects", [1e300])),
    ],
)
def test_a_plan_by_numbers_out_of_bounds_is_refused_by_its_field(client, field, value):
    answer = client.post("/v1/experiments/plan", json={field: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"].startswith(field)


def test_the_reference_of_the_api_is_a_page_that_loads_nothing(client):
    page = client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    document = client.get("/openapi.json").json()
    for path in document["paths"]:
        assert path in page.text
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in page.text
    assert "src=" not in page.text
    assert "<script" not in page.text
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.headers["content-security-policy"]


def test_the_root_says_what_this_is(client):
    told = client.get("/").json()
    assert told["name"] == "molar"
    for link in told["links"].values():
        assert client.get(link).status_code == 200, link
    page = client.get("/", headers={"accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert all(f'href="{link}"' in page.text for link in told["links"].values())
