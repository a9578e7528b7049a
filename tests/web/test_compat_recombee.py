"""Recombee's own client, told another address, database and token; by https, as it sends batches by nothing else."""

import hmac
import json
import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import httpx
import pytest
from copies import copy_workspace
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from recombee_api_client.api_client import RecombeeClient
from recombee_api_client.api_requests import (
    AddBookmark,
    AddCartAddition,
    AddDetailView,
    AddItem,
    AddItemProperty,
    AddPurchase,
    AddRating,
    AddUser,
    Batch,
    DeleteItem,
    DeletePurchase,
    GetItemValues,
    ListItems,
    RecommendItemsToItem,
    RecommendItemsToUser,
    RecommendNextItems,
    RecommendUsersToUser,
    ResetDatabase,
    SearchItems,
    SetItemValues,
    SetViewPortion,
)
from recombee_api_client.exceptions import ResponseException
from web_server import address_of, client_of

from molar.shop import Shop
from molar_indexes.recommender import Recommender
from molar_serving.auth import Keyring, signing_token


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("recombee") / ".molar")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The file of a certificate of this machine and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now, names = datetime.now(UTC), x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    made = made.add_extension(names, critical=False).add_extension(x509.BasicConstraints(True, 0), critical=True)
    path = tmp_path_factory.mktemp("certificate") / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.sign(key, SHA256()).public_bytes(Encoding.PEM) + private)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(path))
        yield path


@pytest.fixture(scope="module")
def served(workspace, certificate):
    ring = Keyring(workspace)
    keys = {"shop": ["answer", "events", "catalogue"], "feed": ["events"]}
    tokens = {name: signing_token(ring.add(name, scopes, signing=True)) for name, scopes in keys.items()}
    tokens["unsigned"] = signing_token(ring.add("unsigned", ["answer"]))
    with address_of(workspace, certificate=certificate) as address:
        yield address.removeprefix("https://"), tokens


def client_for(served, name, token=None):
    address, tokens = served
    options = {"base_uri": f"{address}/compat/recombee"}
    return RecombeeClient(name, token or tokens[name], protocol="https", options=options)


@pytest.fixture(scope="module")
def client(served):
    return client_for(served, "shop")


def ids(told):
    return [one["id"] for one in told["recomms"]]


def test_a_users_list_is_that_of_the_recommender(client, trained):
    with Recommender.open(trained.workspace) as recommender:
        wanted = recommender.query(trained.user, k=6).items
    told = client.send(RecommendItemsToUser(trained.user, 6, scenario="home", cascade_create=True))
    assert ids(told) == [item.item_id for item in wanted]
    assert told["recommId"]
    assert len(ids(client.send(RecommendItemsToUser("somebody-new", 3)))) == 3


def test_filters_and_properties(client, trained):
    wishes = {"filter": "'price' < 40 and not 'category' in {\"Books\"}", "return_properties": True}
    told = client.send(RecommendItemsToUser(trained.user, 5, included_properties=["price"], **wishes))
    assert [one["values"].keys() for one in told["recomms"]] == [{"price"}] * 5
    assert all(one["values"]["price"] < 40 for one in told["recomms"])
    told = client.send(RecommendItemsToItem(ids(told)[0], trained.user, 4, **wishes))
    assert all({"price", "title"} <= one["values"].keys() for one in told["recomms"])
    assert len(ids(client.send(RecommendItemsToItem("no-such-item", trained.user, 4)))) == 4


def test_next_items_go_on_with_the_same_list(client, trained):
    first = client.send(RecommendItemsToUser(trained.user, 4, return_properties=True, included_properties=["price"]))
    pages = [client.send(RecommendNextItems(first["recommId"], 3)) for _ in range(2)]
    assert [page["numberNextRecommsCalls"] for page in pages] == [1, 2]
    assert {page["recommId"] for page in pages} == {first["recommId"]}
    assert "price" in pages[1]["recomms"][0]["values"]
    every = [*ids(first), *ids(pages[0]), *ids(pages[1])]
    assert len(every) == len(set(every)) == 10
    assert every == ids(client.send(RecommendItemsToUser(trained.user, 10)))


def test_several_processes_do_not_know_which_page_is_next(trained, tmp_path):
    settings = tmp_path / "molar.toml"
    settings.write_text("[serve]\nworkers = 2\n")
    with client_of(copy_workspace(trained.workspace, tmp_path / ".molar"), settings) as client:
        told = client.post("/compat/recombee/shop/recomms/next/items/some-list", json={"count": 3})
    assert (told.status_code, "one process" in told.json()["message"]) == (501, True)


def test_words_find_items(client, trained):
    title = client.send(GetItemValues("SKU-0001"))["title"]
    for user in (trained.user, "somebody-new"):
        asked = SearchItems(user, title, 5, return_properties=True)
        asked.timeout = 60_000  # the first search reads the encoder
        assert title in [one["values"]["title"] for one in client.send(asked)["recomms"]]


def test_interactions_count_in_the_next_list(client):
    first = client.send(RecommendItemsToUser("visitor", 7))
    moment = datetime.now(UTC) - timedelta(days=1)
    shared = {"timestamp": moment, "recomm_id": first["recommId"], "cascade_create": True}
    seen, bought, rated, put, marked, watched, shown = ids(first)
    for request in (
        AddDetailView("visitor", seen, **shared),
        AddPurchase("visitor", bought, amount=2, price=9.5, **shared),
        AddRating("visitor", rated, 0.5, **shared),
        AddCartAddition("visitor", put, **shared),
        AddBookmark("visitor", marked, **shared),
        SetViewPortion("visitor", watched, 0.7, **shared),
        AddDetailView("visitor", shown, auto_presented=True, **shared),
    ):
        assert client.send(request) == "ok"
    left = ids(client.send(RecommendItemsToUser("visitor", 100)))
    assert not {seen, bought, rated, put, marked, watched} & set(left)
    assert shown in left
    client.send(DeletePurchase("visitor", bought, timestamp=moment.timestamp()))
    assert bought in ids(client.send(RecommendItemsToUser("visitor", 100)))


def test_items_are_written(client, trained):
    item = ids(client.send(RecommendItemsToUser(trained.user, 1)))[0]
    assert client.send(AddItemProperty("price", "double")) == "ok"
    assert client.send(AddItem(item)) == client.send(AddUser("visitor")) == "ok"
    assert client.send(SetItemValues(item, {"price": 2.5}, cascade_create=True)) == "ok"
    assert client.send(GetItemValues(item))["price"] == 2.5
    assert client.send(DeleteItem(item)) == "ok"
    assert item not in ids(client.send(RecommendItemsToUser(trained.user, 100)))
    assert client.send(SetItemValues(item, {"active": True})) == "ok"


def test_a_batch_is_answered_in_order(client, workspace, trained):
    item = ids(client.send(RecommendItemsToUser("batcher", 1)))[0]
    told = client.send(
        Batch(
            [
                AddPurchase("batcher", item),
                AddPurchase("batcher", item, timestamp="yesterday"),
                AddDetailView("batcher", "waits-for-the-catalogue"),
                RecommendItemsToUser("batcher", 100),
                RecommendUsersToUser("batcher", 5),
                RecommendItemsToUser("batcher", 5, filter="'nothing' == 1"),
            ]
        )
    )
    assert [one["code"] for one in told] == [200, 400, 200, 200, 501, 400]
    assert "ISO 8601" in told[1]["json"]["message"]
    assert item not in ids(told[3]["json"])
    asked = RecommendItemsToUser(trained.user, 4)
    one, other, _ = client.send(Batch([asked, asked, SetItemValues("SKU-0004", {"price": 3})], distinct_recomms=True))
    assert not set(ids(one["json"])) & set(ids(other["json"]))
    assert json.loads(Shop(None, workspace).events.tail(1).to_pylist()[0]["data"]) == {"price": 3}
    with pytest.raises(ResponseException, match="at most 100"):
        client.send(Batch([asked] * 101))


def test_the_audit_log_names_items_that_a_batch_changed(served, client, workspace):
    client.send(Batch([SetItemValues("SKU-0003", {"price": 4.5}), AddDetailView("batcher", "SKU-0003")]))
    lines = [json.loads(line) for line in (workspace / "serving" / "audit.jsonl").read_text().splitlines()]
    begun, ended = [line for line in lines if line.get("endpoint", "").endswith("/batch/")][-2:]
    assert (begun["state"], begun["request"]) == ("begun", ended["request"])
    assert (ended["items"], ended["requests"], ended["status"]) == (["SKU-0003"], 2, 200)


def test_a_key_of_a_batch_does_what_it_may_alone(served, trained):
    feed = client_for(served, "feed")
    told = feed.send(Batch([AddDetailView(trained.user, "SKU-0001"), RecommendItemsToUser(trained.user, 1)]))
    assert [one["code"] for one in told] == [200, 403]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (RecommendItemsToUser("u", 3, booster="if 'price' < 3 then 2 else 1"), 501, "rule"),
        (RecommendItemsToUser("u", 3, filter="'price' < context_user[\"limit\"]"), 501, "ReQL"),
        (RecommendItemsToUser("u", 3, logic="recombee:ultra"), 501, "personal"),
        (RecommendItemsToUser("u", 3, rotation_rate=0.5), 501, "exclude"),
        (RecommendItemsToUser("u", 0), 400, "count: "),
        (RecommendUsersToUser("u", 3), 501, "compat.md"),
        (RecommendNextItems("no-such-list", 3), 404, "no answer"),
        (AddItemProperty("no-such-column", "string"), 501, "items file"),
        (GetItemValues("no-such-item"), 404, "no-such-item"),
        (ListItems(), 501, "the shop's own"),
        (ResetDatabase(), 501, "not supported"),
        (AddRating("u", "i", "five"), 400, "rating"),
    ],
)
def test_what_is_wrong_or_not_supported_is_said_in_a_sentence(client, request_, status, words):
    with pytest.raises(ResponseException) as told:
        client.send(request_)
    assert (told.value.status_code, words in told.value.description) == (status, True), told.value.description


def test_only_a_signature_of_now_by_the_token_is_accepted(served, certificate):
    for name, token in (("shop", "wrong"), ("unsigned", None), ("nobody", "x")):
        with pytest.raises(ResponseException, match="401"):
            client_for(served, name, token).send(RecommendItemsToUser("u", 3))
    address, tokens = served
    trusted = ssl.create_default_context(cafile=certificate)

    def get(path):
        return httpx.get(f"https://{address}/compat/recombee{path}", verify=trusted).status_code

    def asked(seconds_ago, name="shop", more="", kind="hmac"):
        path = f"/{name}/recomms/users/u/items/?{kind}_timestamp={int(time.time()) - seconds_ago}"
        sign = hmac.new(tokens.get(name, "").encode(), path.encode(), "sha1").hexdigest()
        return get(f"{path}&{kind}_sign={sign}{more}")

    assert asked(0) == asked(0, kind="frontend") == 200
    assert asked(3_600) == asked(-3_600) == asked(0, more="&count=3") == 401
    tokens["unsigned"] = ""
    assert asked(0, "unsigned") == 401
    assert get("/shop/recomms/users/u/items/") == 401
