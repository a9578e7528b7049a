"""Amazon's own client of Personalize, told another endpoint and credentials."""

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from copies import copy_workspace
from web_server import address_of

from molar.shop import Shop
from molar_indexes.recommender import Recommender
from molar_serving.auth import Keyring, signing_token
from molar_serving.compat import signatures

CAMPAIGN = "arn:aws:personalize:eu-west-1:000000000000:campaign/home"
DATASET = "arn:aws:personalize:eu-west-1:000000000000:dataset/shop/ITEMS"


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("personalize") / ".molar")


@pytest.fixture(scope="module")
def served(workspace):
    ring = Keyring(workspace)
    tokens = {"shop": signing_token(ring.add("shop", ["answer", "events", "catalogue"], signing=True))}
    tokens["feed"] = signing_token(ring.add("feed", ["events"], signing=True))
    tokens["unsigned"] = signing_token(ring.add("unsigned", ["answer"]))
    with address_of(workspace) as address:
        yield f"{address}/compat/personalize", tokens


def client_for(served, service, name="shop", token=None):
    address, tokens = served
    return boto3.client(
        f"personalize-{service}",
        endpoint_url=address,
        region_name="eu-west-1",
        aws_access_key_id=name,
        aws_secret_access_key=token or tokens[name],
        config=Config(retries={"max_attempts": 0}),
    )


@pytest.fixture(scope="module")
def runtime(served):
    return client_for(served, "runtime")


@pytest.fixture(scope="module")
def events(served):
    return client_for(served, "events")


def ids(told, name="itemList"):
    return [one["itemId"] for one in told[name]]


def list_of(runtime, user, k=50, **more):
    return runtime.get_recommendations(campaignArn=CAMPAIGN, userId=user, numResults=k, **more)


def test_a_users_list_is_that_of_the_recommender(runtime, trained):
    with Recommender.open(trained.workspace) as recommender:
        wanted = recommender.query(trained.user, k=6).items
    told = list_of(runtime, trained.user, 6, metadataColumns={"ITEMS": ["price", "CATEGORY"]})
    assert ids(told) == [item.item_id for item in wanted]
    assert told["recommendationId"]
    assert told["itemList"][0]["metadata"] == {
        "price": str(wanted[0].payload["price"]),
        "CATEGORY": wanted[0].payload["category"],
    }
    unknown = list_of(runtime, "somebody-new", 3)["itemList"]
    assert [one["reason"] for one in unknown] == [["Popular item"]] * 3


def test_items_like_one(runtime):
    told = ids(runtime.get_recommendations(campaignArn=CAMPAIGN, itemId="SKU-0001", numResults=4))
    assert len(told) == 4
    assert "SKU-0001" not in told
    assert len(ids(runtime.get_recommendations(campaignArn=CAMPAIGN, itemId="no-such-item", numResults=4))) == 4


def test_the_callers_items_are_ranked(runtime, trained):
    best = ids(list_of(runtime, trained.user, 20))
    told = runtime.get_personalized_ranking(
        campaignArn=CAMPAIGN, userId=trained.user, inputList=["no-such-item", *reversed(best[:8])]
    )
    ranked = ids(told, "personalizedRanking")
    assert sorted(ranked) == sorted([*best[:8], "no-such-item"])
    assert ranked[-1] == "no-such-item"
    scores = [one["score"] for one in told["personalizedRanking"][:-1]]
    assert scores == sorted(scores, reverse=True)


def test_events_count_in_the_next_list_and_once(runtime, events, workspace):
    told = list_of(runtime, "s-1")
    first, second = ids(told)[:2]
    sent = {"sentAt": datetime.now(UTC) - timedelta(minutes=5), "recommendationId": told["recommendationId"]}
    bought = {
        "eventType": "Purchase",
        "eventId": "e-1",
        "itemId": first,
        "eventValue": 9.5,
        "impression": [first, second],
        **sent,
    }
    looked = {"eventType": "click", "itemId": second, "properties": '{"price": "5.5", "numberOfRatings": "12"}', **sent}
    for _ in range(2):
        events.put_events(trackingId="t", sessionId="s-1", eventList=[bought, looked])
    assert not {first, second} & set(ids(list_of(runtime, "s-1")))
    kept = Shop(None, workspace).events.table(session_id="s-1").to_pylist()
    assert sorted((row["event"], row["item_id"]) for row in kept) == sorted(
        [("purchase", first), ("click", second), ("impression", first), ("impression", second)]
    )
    assert {row["request_id"] for row in kept} == {told["recommendationId"]}
    assert [row["value"] for row in kept if row["event"] != "impression"] == [9.5, 5.5]


def test_items_are_written(runtime, events, trained):
    item = ids(list_of(runtime, trained.user, 1))[0]
    events.put_items(datasetArn=DATASET, items=[{"itemId": item, "properties": '{"price": 1.5, "noSuchColumn": "x"}'}])
    told = list_of(runtime, trained.user, 1, metadataColumns={"ITEMS": ["PRICE"]})
    assert told["itemList"][0]["metadata"] == {"PRICE": "1.5"}


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (lambda runtime, events: list_of(runtime, "u", filterArn=CAMPAIGN), "NotImplementedException", "rule"),
        (lambda runtime, events: runtime.get_recommendations(campaignArn=CAMPAIGN), "InvalidInputException", "userId"),
        (lambda runtime, events: list_of(runtime, "u", 0), "InvalidInputException", "numResults: "),
        (lambda runtime, events: runtime.get_action_recommendations(), "NotImplementedException", "compat.md"),
        (
            lambda runtime, events: events.put_users(datasetArn=DATASET, users=[{"userId": "u"}]),
            "NotImplementedException",
            "users file",
        ),
        (
            lambda runtime, events: events.put_events(
                trackingId="t", sessionId="s", eventList=[{"eventType": "nonsense", "sentAt": 1.0, "itemId": "i"}]
            ),
            "InvalidInputException",
            "nonsense",
        ),
    ],
)
def test_what_is_wrong_or_not_supported_is_said_in_a_sentence(runtime, events, asked, code, words):
    with pytest.raises(ClientError) as told:
        asked(runtime, events)
    error = told.value.response["Error"]
    assert (error["Code"], words in error["Message"]) == (code, True), error


def test_one_bad_event_keeps_no_other_out_and_is_named(events, workspace):
    good = {"eventType": "view", "sentAt": datetime.now(UTC), "itemId": "SKU-0001"}
    with pytest.raises(ClientError, match="1 of 2 events are not taken, 1 are kept"):
        events.put_events(trackingId="t", sessionId="s-2", eventList=[{"eventType": "view", "sentAt": 1.0}, good])
    assert len(Shop(None, workspace).events.table(session_id="s-2")) == 1


def test_only_a_signature_of_now_by_the_token_is_accepted(served):
    for name, token in (("shop", "wrong"), ("unsigned", None), ("nobody", "x")):
        with pytest.raises(ClientError, match="UnrecognizedClientException"):
            list_of(client_for(served, "runtime", name, token), "u")
    with pytest.raises(ClientError, match="AccessDeniedException"):
        list_of(client_for(served, "runtime", "feed"), "u")


def test_the_signature_covers_time_headers_and_body(served, monkeypatch):
    address, tokens = served

    def asked(body=b'{"userId": "u"}', sent=None, seconds=0, query="", **headers):
        monkeypatch.setattr(signatures, "time", SimpleNamespace(time=lambda: time.time() + seconds))
        request = AWSRequest("POST", f"{address}/recommendations", {"x-amz-thing": "a   b"}, body)
        SigV4Auth(Credentials("shop", tokens["shop"]), "personalize", "eu-west-1").add_auth(request)
        signed = {**dict(request.headers.items()), **headers}
        return httpx.post(f"{address}/recommendations{query}", content=sent or body, headers=signed).status_code

    assert asked() == 200
    assert asked(sent=b'{"userId": "v"}') == asked(query="?a=b") == asked(**{"x-amz-thing": "c"}) == 401
    assert asked(seconds=600) == asked(seconds=-600) == asked(Authorization="AWS4-HMAC-SHA256 nonsense") == 401
