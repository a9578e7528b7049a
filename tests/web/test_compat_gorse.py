"""gorse's own client, told another address and key."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from copies import copy_workspace
from gorse import Gorse, GorseException
from web_server import address_of

from molar_indexes.recommender import Recommender
from molar_serving.auth import Keyring


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("gorse") / ".molar")


@pytest.fixture(scope="module")
def served(workspace, tmp_path_factory):
    key = Keyring(workspace).add("shop", ["answer", "events", "catalogue"])
    settings = tmp_path_factory.mktemp("settings") / "molar.toml"
    settings.write_text('[serve]\nevent_aliases = {reorder = "purchase", recommend = "rating"}\n')
    with address_of(workspace, settings) as address:
        yield f"{address}/compat/gorse", key


@pytest.fixture(scope="module")
def client(served):
    return Gorse(*served, timeout=30)


def at(days):
    return (datetime.now(UTC) - timedelta(days)).isoformat(timespec="seconds")


def ids(scores):
    return [one.id for one in scores]


def test_a_users_list_is_that_of_the_recommender(client, trained):
    with Recommender.open(trained.workspace) as recommender:
        wanted = recommender.query(trained.user, k=6).items
    told = client.get_recommend(trained.user, n=6)
    assert ids(told) == [item.item_id for item in wanted]
    assert told[0].score == pytest.approx(wanted[0].score, rel=1e-6)
    assert ids(client.get_recommend(trained.user, n=4, offset=2)) == ids(told)[2:]
    assert len(client.get_recommend("somebody-new", n=3)) == 3


def test_a_category_limits_the_list(client, trained):
    category = client.get_item(client.get_recommend(trained.user, n=1)[0].id)["Categories"][0]
    told = client.get_recommend(trained.user, category, n=3)
    assert [client.get_item(item_id)["Categories"] for item_id in ids(told)] == [[category]] * len(told) != []


def test_feedback_counts_in_the_next_list_and_once(client):
    first = ids(client.get_recommend("visitor", n=3))
    sent = {"FeedbackType": "like", "UserId": "visitor", "ItemId": first[0], "Timestamp": at(2)}
    assert client.insert_feedbacks([sent, sent]) == {"RowAffected": 2}
    assert client.insert_feedback("read", "visitor", first[1], at(1)) == {"RowAffected": 1}
    assert not {first[0], first[1]} & set(ids(client.get_recommend("visitor", n=50)))


def test_a_shops_own_feedback_types_mean_what_the_settings_say(client):
    for place, name in enumerate(("Reorder", "recommend")):
        item = ids(client.get_recommend("own", n=2))[place]
        assert client.insert_feedback(name, "own", item, at(1)) == {"RowAffected": 1}
        assert item not in ids(client.get_recommend("own", n=50))


def test_a_key_that_may_only_ask_writes_nothing_back(client, workspace):
    asking = Gorse(client.entry_point, Keyring(workspace).add("asking", ["answer"]))
    assert len(asking.get_recommend("somebody", n=3)) == 3
    with pytest.raises(GorseException, match="no scope events"):
        asking.get_recommend("somebody", n=3, write_back_type="read")
    with pytest.raises(GorseException, match="no scope events"):
        asking.insert_feedback("read", "somebody", "SKU-0001", at(1))


def test_what_is_written_back_does_not_come_again(client):
    first = ids(client.get_recommend("scroller", n=3, write_back_type="read"))
    assert not set(first) & set(ids(client.get_recommend("scroller", n=30)))


def test_sessions_and_neighbours(client, trained):
    item = client.get_recommend(trained.user, n=1)[0].id
    told = client.get_neighbors(item, n=4)
    assert len(told) == 4
    assert item not in [one["Id"] for one in told]
    assert len(client.get_neighbors("no-such-item", n=4)) == 4
    done = [{"FeedbackType": "read", "UserId": "", "ItemId": item, "Timestamp": at(2)}]
    assert item not in [one["Id"] for one in client.session_recommend(done, n=4)]
    assert len(client.session_recommend([{**done[0], "ItemId": "no-such-item"}], n=4)) == 4


def test_words_find_items(client):
    item = client.get_item("SKU-0001")
    found = {one["ItemId"]: one for one in client.search_items(item["Comment"], n=5)}
    assert found["SKU-0001"]["Comment"] == item["Comment"]
    assert found["SKU-0001"]["Labels"].items() <= item["Labels"].items()


def test_addresses_as_clients_of_other_languages_write_them(served):
    address, key = served
    for path in ("/popular", "/popular/", "/popular/Bags", "/item/SKU-0001/neighbors/", "/non-personalized/top"):
        told = httpx.get(f"{address}/api{path}?n=3", headers={"X-API-Key": key})
        assert (told.status_code, len(told.json())) == (200, 3), path
    for path in ("/latest", "/latest/"):
        assert "non-personalized" in httpx.get(f"{address}/api{path}", headers={"X-API-Key": key}).text


def test_items_are_written_hidden_and_shown_again(client, trained):
    item = client.get_recommend(trained.user, n=1)[0].id
    assert client.delete_item(item) == {"RowAffected": 1}
    assert item not in ids(client.get_recommend(trained.user, n=50))
    assert client.get_item(item)["IsHidden"]
    client.update_item(item, is_hidden=False, labels={"price": 1.5})
    assert client.get_item(item)["Labels"]["price"] == 1.5
    assert item in ids(client.get_recommend(trained.user, n=50))
    assert client.insert_item({"ItemId": "fresh", "Labels": {"price": 3}, "Comment": "Fresh"}) == {"RowAffected": 1}
    assert client.insert_user({"UserId": "visitor"}) == {"RowAffected": 0}


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        (lambda client: client.insert_feedback("nonsense", "u", "i", ""), 400, "nonsense"),
        (lambda client: client.insert_feedback("read", "u", "i", "yesterday"), 400, "ISO 8601"),
        (lambda client: client.get_item("no-such-item"), 404, "no-such-item"),
        (lambda client: client.get_users(10), 501, "molar events export"),
        (lambda client: client.get_items(10), 501, "search by q"),
        (lambda client: client.delete_feedback("u", "i"), 501, "return"),
        (lambda client: client.get_recommend("u", write_back_type="read", write_back_delay="10m"), 501, "leave it out"),
        (lambda client: client.get_recommend("u", n=0), 400, "n: "),
        (lambda client: Gorse(client.entry_point, "molar_shop_wrong").get_recommend("u"), 401, "X-API-Key"),
        (lambda client: Gorse(client.entry_point + "/api", client.api_key).get_recommend("u"), 501, "compat.md"),
    ],
)
def test_what_is_wrong_or_not_supported_is_said_in_a_sentence(client, asked, status, words):
    with pytest.raises(GorseException) as told:
        asked(client)
    assert (told.value.status_code, words in told.value.message) == (status, True), told.value.message
