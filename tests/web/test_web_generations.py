"""Generations over HTTP: listed, compared, made live, gone back from; what is going on."""

import json
import time

import pytest
from typer.testing import CliRunner
from updates import Days
from web_server import client_of

from molar_cli.app import app
from molar_indexes.comparison import STANDINGS, compared, lists_of, sample, standing_by
from molar_indexes.recommender import Recommender
from molar_serving.endpoints.status import shown_settings


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    """A shop with two generations: three people bought what they had not, and prices fell."""
    days = Days(trained, tmp_path_factory.mktemp("generations"))
    with days.shop.recommender() as recommender:
        users = [user.user_id for user in recommender.generation.users.between(0, 3)]
        bought = [(user, recommender.query(user, k=1).items[0].item_id) for user in users]
    days.shop.events.append(
        {"event_id": f"b{user}", "event": "purchase", "user_id": user, "item_id": item, "timestamp": time.time()}
        for user, item in bought
    )
    days.shop.update()
    return days


@pytest.fixture(scope="module")
def client(days):
    with client_of(days.shop.workspace, days.folder.parent / "molar.toml") as client:
        yield client


@pytest.fixture
def names(client):
    """The older generation and the newer one, which is live before and after each test."""
    told = client.get("/v1/generations").json()
    names = [one["generation"] for one in told["generations"]]
    assert told["live"] == names[-1]
    yield names
    assert client.post(f"/v1/generations/{names[-1]}/activate").status_code == 200


def answering(client):
    return client.post("/v1/recommendations", json={"anonymous_id": "nobody"}).json()["generation"]


def test_generations_are_listed_with_what_they_are_made_from(client, days, names):
    told = client.get("/v1/generations").json()
    assert [one["live"] for one in told["generations"]] == [False, True]
    for one in told["generations"]:
        folder = days.shop.workspace / "generations" / one["generation"]
        taken = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
        assert one["bytes"] == taken > 100_000
        assert one["age"] >= 0
        assert {"catalogue", "interactions", "alignment"} <= one["inputs"].keys()
    assert [one["events"] for one in told["generations"]] == [0, 3]
    assert told["collections"] is None


def test_a_generation_goes_live_within_a_second_and_answers_the_next_question(client, names):
    for name in names:  # all of their files are read the first time
        client.post(f"/v1/generations/{name}/activate")
    began = time.process_time()  # other processes take theirs
    told = client.post(f"/v1/generations/{names[0]}/activate")
    assert time.process_time() - began < 1
    assert told.json() == {"generation": names[0], "collection": None, "here": True}
    assert answering(client) == names[0]
    assert client.post(f"/v1/generations/{names[0]}/activate").status_code == 200
    refused = client.post("/v1/rollback")
    assert (refused.status_code, refused.json()["remedy"]) == (409, "run `molar index list` to see which there are")
    client.post(f"/v1/generations/{names[1]}/activate")
    assert answering(client) == names[1]
    assert client.post("/v1/rollback").json()["generation"] == names[0]
    assert answering(client) == names[0]


def test_what_is_not_there_or_damaged_does_not_go_live(client, days, names):
    missing = client.post("/v1/generations/nothing/activate")
    assert missing.status_code == 404
    assert names[0] in missing.json()["remedy"]
    users = days.shop.workspace / "generations" / names[0] / "users.sqlite"
    whole = users.read_bytes()
    users.write_bytes(whole[:1000])
    try:
        assert client.post(f"/v1/generations/{names[0]}/activate").status_code == 409
        assert client.get("/v1/generations/diff").status_code == 409
    finally:
        users.write_bytes(whole)
    assert answering(client) == names[1]


def test_a_diff_tells_whose_lists_change_and_which_items_gain(client, days, names):
    told = client.get("/v1/generations/diff", params={"users": 60}).json()
    assert [told["a"], told["b"]] == names
    lists = told["lists"]
    assert lists["users"] == 60
    with (
        Recommender.open(days.shop.workspace, names[0]) as old,
        Recommender.open(days.shop.workspace, names[1]) as new,
    ):
        keys = sample(old.generation.users, 60)
        for one in keys[:5]:
            asked = new.query(one, explore=False, fallback="popular")
            assert [i.item_id for i in lists_of(new, [one])[one].items] == [i.item_id for i in asked.items]
        before, after = ({key: [i.item_id for i in answer.items] for key, answer in lists_of(one, keys).items()}
                         for one in (old, new))  # fmt: skip
    assert lists["changed"] == sum(before[key] != after[key] for key in keys) > 0
    gone = sum(len(set(before[key]) - set(after[key])) for key in keys)
    assert lists["exchanged"] == pytest.approx(gone / 600, abs=1e-4)
    for one in lists["gained"] + lists["lost"]:
        assert one["before"] == sum(one["item_id"] in before[key] for key in keys)
        assert one["after"] == sum(one["item_id"] in after[key] for key in keys)
    assert all(one["after"] > one["before"] for one in lists["gained"])
    assert all(one["after"] < one["before"] for one in lists["lost"])
    for one in lists["examples"]:
        assert (one["before"], one["after"]) == (before[one["user_id"]], after[one["user_id"]])
    same = client.get("/v1/generations/diff", params={"a": names[1], "b": names[1], "users": 20}).json()["lists"]
    assert (same["changed"], same["exchanged"], same["moved"], same["gained"]) == (0, 0, 0, [])


def test_what_the_parts_of_the_score_did_adds_up(client, days, names):
    found = days.shop.diff(users=60).lists
    wanted, total, places = {}, 0.0, 0
    with (
        Recommender.open(days.shop.workspace, names[0]) as old,
        Recommender.open(days.shop.workspace, names[1]) as new,
    ):
        for key in sample(new.generation.users, 60):
            lists = [one.query(key, k=100, explore=False).items for one in (old, new)]  # 100: all items that may come
            first = [{item.item_id for item in one[:10]} for one in lists]
            parts = [{item.item_id: item.parts for item in one} for one in lists]
            scores = [{item.item_id: item.score for item in one} for one in lists]
            entered, left = sorted(first[1] - first[0]), sorted(first[0] - first[1])
            places += len(entered)
            for sign, items in ((1, entered), (-1, left)):
                for item in items:
                    total += sign * (scores[1][item] - scores[0][item])
                    for name in {*parts[0][item], *parts[1][item]}:
                        change = parts[1][item].get(name, 0) - parts[0][item].get(name, 0)
                        wanted[name] = wanted.get(name, 0) + sign * change
    told = found.causes
    assert (told.exchanges, told.absent, told.untold) == (places, 0, 0)
    assert {one.part: one.change for one in told.parts} == pytest.approx(wanted, abs=1e-5)
    assert sum(one.change for one in told.parts) == pytest.approx(total, abs=1e-5)
    assert total > 0
    assert sum(one.share for one in told.parts) == pytest.approx(1)
    causes = client.get("/v1/generations/diff", params={"users": 60}).json()["lists"]["causes"]
    assert [one["part"] for one in causes["parts"]] == [one.part for one in told.parts]
    assert causes["exchanges"] == places > 0


def test_lists_are_compared_by_what_is_known_of_people(days):
    found = days.shop.diff(users=60).lists
    own = [one for one in found.groups if one.dimension == "history"]
    assert [one.value for one in own] == [name for name in STANDINGS if name in {one.value for one in own}]
    assert sum(one.people for one in own) == found.people
    assert sum(one.changed for one in own) == found.changed
    assert [standing_by(length) for length in (0, 2, 3, 9, 10)] == ["new", "new", "occasional", "occasional", "regular"]


@pytest.mark.parametrize(
    ("query", "status"), [({"a": "nothing"}, 404), ({"users": 0}, 422), ({"users": 100_000}, 422), ({"c": 1}, 422)]
)
def test_a_diff_of_nothing_or_of_too_many_is_refused(client, query, status):
    assert client.get("/v1/generations/diff", params=query).status_code == status


def test_the_command_line_tells_the_same(client, days, names):
    found = days.shop.diff(users=60)
    lists = client.get("/v1/generations/diff", params={"users": 60}).json()["lists"]
    assert [found.before, found.after] == names
    assert (found.lists.changed, round(found.lists.moved, 4)) == (lists["changed"], lists["moved"])
    assert json.loads(json.dumps(found.to_dict()))["people"] == 60
    assert days.shop.diff(names[0]).after == names[1]
    assert days.shop.diff(after=names[0], users=5).before == names[1]


def test_a_comparison_counts_places_by_hand():
    def answer(*ids):
        class _Item:
            def __init__(self, item_id):
                self.item_id, self.payload = item_id, {"title": item_id.upper()}

        return type("Answered", (), {"items": [_Item(one) for one in ids]})()

    before = {"u": answer("a", "b", "c"), "@session:s": answer("a"), "v": answer("a", "b")}
    after = {"u": answer("b", "a", "d"), "@session:s": answer("a", "d"), "v": answer("a", "b")}
    found = compared(before, after)
    assert (found.people, found.changed) == (3, 2)
    assert found.exchanged == pytest.approx(2 / 7)
    assert found.moved == pytest.approx(4 / 7)
    assert [(one.item_id, one.before, one.after) for one in found.gained] == [("d", 0, 2)]
    assert [(one.item_id, one.before, one.after, one.title) for one in found.lost] == [("c", 1, 0, "C")]
    assert [(one.person, one.session) for one in found.examples] == [("u", False), ("s", True)]


def test_the_status_tells_what_is_going_on_without_secrets(client, names):
    told = client.get("/v1/status").json()
    assert told["generation"] == names[1]
    assert told["unavailable"] is None
    assert told["events"] - told["events_since"] == 3
    assert told["disk_free"] > 0
    assert told["versions"]["numpy"]
    assert told["settings"]["serve"]["port"] == 8080
    assert isinstance(told["training"], list)


def test_addresses_of_settings_are_told_without_logins():
    told = shown_settings({"index": {"url": "https://somebody:word@host:6333/?key=abc", "ef": 10}, "l": ["s://a:b@c"]})
    assert told == {"index": {"url": "https://…@host:6333/?…", "ef": 10}, "l": ["s://…@c"]}


def test_which_is_better_is_told_by_what_people_took_after_both_were_made(client, days, names):
    told = client.get("/v1/generations/diff", params={"users": 60}).json()["quality"]
    assert (told["events"], told["users"], told["groups"][0]["outcome"]) == (3, 0, "too_few")
    with Recommender.open(days.shop.workspace, names[1]) as new:
        keys = [user.user_id for user in new.generation.users.between(20, 60)]
        best = {key: new.query(key, k=1, explore=False).items[0].item_id for key in keys}
        had = new.generation.index.fetch([int(new.generation.users.keyed(keys[0]).history[-1])])[0].item_id
    bought = [*best.items(), (keys[0], had), (keys[0], "strange"), ("somebody new", best[keys[0]])]
    days.shop.events.append(
        {"event_id": f"s{n}", "event": "purchase", "user_id": user, "item_id": item, "timestamp": time.time()}
        for n, (user, item) in enumerate(bought)
    )
    told = client.get("/v1/generations/diff", params={"users": 60}).json()["quality"]
    assert (told["events"], told["users"], told["taken"]) == (3, 41, 41)  # neither what was there nor what none has
    everybody, *groups = told["groups"]
    assert everybody["outcome"] in ("better", "open")
    hits = {one["name"]: one for one in everybody["metrics"]}["hit_rate@10"]
    assert 40 / 41 <= round(hits["after"], 9) <= 1  # whoever is new may get what most people take
    assert hits["low"] <= hits["after"] - hits["before"] <= hits["high"]
    assert sum(one["users"] for one in groups if one["dimension"] == "history") == 41
    few = days.shop.diff(users=10).quality
    assert (few.people, few.groups[0].outcome) == (10, "too_few")
    command = ["index", "diff", "--users", "60", "--workspace", str(days.shop.workspace)]
    assert "by what 41 people took" in CliRunner().invoke(app, command).output
