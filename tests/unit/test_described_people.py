"""What events say of people: in the next answer, in the next generation, and gone with who is forgotten."""

import shutil
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from web_server import client_of

from molar_indexes.generations import open_generation
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import publish_generation, segments_of
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.live_events import apply_attributes
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings
from molar_serving.auth import Keyring

SEGMENTS = IndexSettings(segments=("country", "age"))
KINDS = {"country": "keyword", "age": "integer", "spent": "float", "member": "bool"}


def test_only_kept_columns_and_values_of_their_kind_are_laid_over():
    said = [
        '{"country": "JP", "age": 31.5, "secret": "x"}',
        '{"age": 32, "spent": 3, "member": true}',
        '{"country": null}',
    ]
    assert apply_attributes({"country": "DE", "age": 30}, said[:1], KINDS) == {"country": "JP", "age": 30}
    assert apply_attributes({"country": "DE"}, said, KINDS) == {"age": 32, "spent": 3, "member": True}
    assert apply_attributes({}, ['{"country": 7, "member": 1, "spent": true, "age": 1e3}'], KINDS) == {}


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    """A workspace of which everybody is 30 and from Germany, and who they are."""
    root = tmp_path_factory.mktemp("described")
    shutil.copytree(trained.shop, root / "shop")
    copy_workspace(trained.workspace, root / ".molar", ignore=shutil.ignore_patterns("workspace.json"))
    with Recommender.open(trained.workspace) as recommender:
        users = [user.user_id for batch in recommender.generation.users.batches() for user in batch]
    for old in (root / "shop").glob("users.*"):
        old.unlink()
    table = {"user_id": users, "country": ["DE"] * len(users), "age": [30] * len(users)}
    pq.write_table(pa.table(table), root / "shop" / "users.parquet")
    publish_generation(Workspace.for_catalogue(root / ".molar", root / "shop"), SEGMENTS).close()
    return root / ".molar", users


@pytest.fixture
def shop(made, tmp_path):
    """A copy of it, with a rule for those of Japan."""
    (tmp_path / "rules.toml").write_text("[[rule]]\nrequire = 'category = Shoes'\nfor = 'country = JP'\n", "utf-8")
    return Workspace(copy_workspace(made[0], tmp_path / ".molar")), made[1]


def says(client, who, method="PATCH", **attributes):
    told = client.request(method, f"/v1/users/{who}", json={"attributes": attributes})
    assert told.status_code == 200, told.text
    assert told.json()["attributes"] == client.get(f"/v1/users/{who}").json()["attributes"]
    return told.json()["attributes"]


def shoes_alone(client, who):
    told = client.post("/v1/recommendations", json={"user_id": who, "k": 5, "fields": ["category"]}).json()
    return {item["fields"]["category"] for item in told["items"]} == {"Shoes"}


def test_the_next_answer_and_the_next_generation_know_it(shop):
    workspace, users = shop
    one, other, new = users[0], users[1], "somebody-new"
    with client_of(workspace.root) as client:
        assert not shoes_alone(client, one)
        assert says(client, one, country="JP") == {"country": "JP", "age": 30}
        assert shoes_alone(client, one)
        assert not shoes_alone(client, other)
        assert says(client, other, "PUT", age=41) == {"age": 41}
        assert says(client, new, country="JP") == {"country": "JP"}
        event = {"event_id": "bought", "event": "purchase", "user_id": new, "item_id": "SKU-0001"}
        assert client.post("/v1/events", json=event).json()["accepted"] == 1
        assert shoes_alone(client, new)
        with closing(EventLog(workspace)) as log:
            log.compact(today=100_000)
        assert shoes_alone(client, one)
    before = segments_of(workspace, SEGMENTS)
    publish_generation(workspace, SEGMENTS).close()
    with open_generation(workspace) as generation:
        known = [generation.users.get(user).attributes for user in users[:3]]
    assert known == [{"country": "JP", "age": 30}, {"age": 41}, {"country": "DE", "age": 30}]
    with client_of(workspace.root) as client:
        assert shoes_alone(client, one)
        assert says(client, one, country=None) == {"age": 30}
        assert not shoes_alone(client, one)
    assert segments_of(workspace, SEGMENTS).digest != before.digest


def test_who_is_forgotten_is_nothing_any_more(shop):
    workspace, users = shop
    with client_of(workspace.root) as client:
        says(client, users[0], country="JP")
        assert client.delete(f"/v1/users/{users[0]}").json()["failed"] == {}
        assert client.get(f"/v1/users/{users[0]}").json()["attributes"] == {}
    with closing(EventLog(workspace)) as log:
        assert len(log.table()) == 0
    assert segments_of(workspace, SEGMENTS).of.get(users[0], {}) == {}


@pytest.mark.parametrize(
    ("attributes", "field", "remedy"),
    [
        ({"countri": "JP"}, "attributes.countri", "did you mean 'country'?"),
        ({"age": "thirty"}, "attributes.age", "give a whole number"),
        ({"country": 7}, "attributes.country", "give a text"),
        ({}, "attributes", "name attributes"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(shop, attributes, field, remedy):
    workspace, users = shop
    with client_of(workspace.root) as client:
        told = client.patch(f"/v1/users/{users[0]}", json={"attributes": attributes})
        assert (told.status_code, told.json()["field"]) == (422, field)
        assert remedy in told.json()["remedy"]
        assert client.get(f"/v1/users/{users[0]}").json()["attributes"] == {"country": "DE", "age": 30}


def test_who_says_what_people_are_has_the_scope_for_it(shop):
    workspace, users = shop
    keys = {
        name: {"authorization": f"Bearer {Keyring(workspace.root).add(name, scopes)}"}
        for name, scopes in {"events": ["answer", "events", "catalogue"], "all": ["events", "admin"]}.items()
    }
    said = {"event": "user_upsert", "user_id": users[0], "data": {"country": "JP"}}
    with client_of(workspace.root) as client:
        for name, taken in (("events", 0), ("all", 1)):
            told = client.post("/v1/events", json={"event_id": name, **said}, headers=keys[name])
            assert told.json()["accepted"] == taken
        asked = {"json": {"attributes": {"age": 5}}, "headers": keys["events"]}
        assert client.patch(f"/v1/users/{users[0]}", **asked).status_code == 403
        asked["headers"] = keys["all"]
        assert client.patch(f"/v1/users/{users[0]}", **asked).json()["attributes"] == {"country": "JP", "age": 5}
    lines = (workspace.root / "serving" / "audit.jsonl").read_text("utf-8")
    assert "/v1/users/{user_id:path}" in lines
    assert f'"{users[0]}"' not in lines
