"""Rules over HTTP: read, replaced, refused, tried before they hold."""

import tomllib

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_indexes.recommender import Recommender
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import parse_toml, toml_of
from molar_serving.rules_file import RulesFile

BAN = '# the lamps are back\n[[rule]]\nname = "no first"\nban = ["{item}"]\n'


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("rules") / ".molar")


@pytest.fixture(scope="module")
def client(workspace):
    with client_of(workspace) as client:
        yield client


@pytest.fixture(autouse=True)
def _without_rules(client):
    yield
    assert client.put("/v1/rules", json={"toml": ""}).status_code == 200


def ten(client, user):
    body = {"user_id": user, "k": 10, "explore": False}
    return [item["item_id"] for item in client.post("/v1/recommendations", json=body).json()["items"]]


def test_rules_hold_from_the_next_answer_on_and_former_ones_are_kept(client, trained, workspace):
    first = ten(client, trained.user)[0]
    text = BAN.format(item=first)
    told = client.put("/v1/rules", json={"toml": text})
    assert told.status_code == 200, told.text
    assert told.json()["warnings"] == []
    assert (workspace.parent / "rules.toml").read_text("utf-8") == text
    assert first not in ten(client, trained.user)
    read = client.get("/v1/rules")
    assert read.json()["toml"] == text
    assert read.json()["rules"] == [{"name": "no first", "ban": [first]}]
    assert read.headers["etag"] == f'"{read.json()["etag"]}"' == told.headers["etag"]
    assert client.put("/v1/rules", json={"rules": []}).status_code == 200
    assert ten(client, trained.user)[0] == first
    (version, *_) = client.get("/v1/rules").json()["versions"]
    assert client.get("/v1/rules", params={"version": version}).json()["toml"] == text
    assert client.get("/v1/rules", params={"version": "../../keys"}).status_code == 404


def test_a_text_comes_back_as_it_was_sent(client):
    text = "# first\r\n\r\n# 名\n"
    put = client.put("/v1/rules", json={"toml": text})
    read = client.get("/v1/rules")
    assert (read.json()["toml"], read.headers["etag"]) == (text, put.headers["etag"])
    broken = client.put("/v1/rules", content=b'{"toml": "# \\ud800"}')
    assert broken.status_code in (400, 422)


def test_rules_that_were_changed_meanwhile_are_not_replaced(client):
    old = client.get("/v1/rules").headers["etag"]
    assert client.put("/v1/rules", json={"toml": "# one"}, headers={"If-Match": old}).status_code == 200
    late = client.put("/v1/rules", json={"toml": "# two"}, headers={"If-Match": old})
    assert (late.status_code, client.get("/v1/rules").json()["toml"]) == (412, "# one")
    assert client.put("/v1/rules", json={"toml": "# two"}, headers={"If-Match": f'"x", {old}'}).status_code == 412
    now = client.get("/v1/rules").headers["etag"]
    assert client.put("/v1/rules", json={"toml": "# two"}, headers={"If-Match": f'"x", {now}'}).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"toml": "[[rule]]\nboost = 'categry = Lamps'"}, ["categry", "category"]),
        ({"toml": "[[rule]]\nbanana = 'x'"}, ["banana"]),
        ({"toml": "[[rule"}, ["TOML"]),
        ({"toml": "[[rule]]\npin = ['1']\n[[rule]]\nban = ['1']"}, ["pinned and banned"]),
        ({"rules": [{"boost": "price < 3", "for": "country = JP"}]}, ["part of the users"]),
        ({"rules": [{"boost": {"a": 1}}]}, ["boost"]),
        ({"rules": [], "toml": ""}, ["text or as tables"]),
        ({}, ["text or as tables"]),
        ({"toml": "a=" + "[" * 5000 + "]" * 5000}, ["deeply"]),
    ],
)
def test_wrong_rules_are_refused_and_those_of_before_hold(client, body, words):
    for method, path in (("PUT", "/v1/rules"), ("POST", "/v1/rules/preview")):
        told = client.request(method, path, json=body)
        assert (told.status_code, told.json()["field"]) == (422, "rules"), told.text
        for word in words:
            assert word in told.json()["detail"] + told.json()["remedy"]
    assert client.get("/v1/rules").json()["toml"] == ""


def test_a_preview_tells_before_and_after_and_changes_nothing(client, trained, workspace):
    text = '[[rule]]\nban = "price > 60"\n[[rule]]\npin = ["NOTHING"]\n[[rule]]\nboost = "price > 1000000"\n'
    body = {"toml": text, "sample": 40, "field": "category"}
    told = client.post("/v1/rules/preview", json=body)
    assert told.status_code == 200, told.text
    found = told.json()
    lists = found["lists"]
    assert (lists["users"], client.get("/v1/rules").json()["toml"]) == (40, "")
    assert 0 < lists["changed"] <= 40
    assert [("NOTHING" in one, "of which there is none" in one) for one in found["warnings"]] == [
        (True, False), (False, True)
    ]  # fmt: skip
    assert sum(one["before"] for one in found["exposure"]) == pytest.approx(1, abs=0.01)
    assert sum(one["after"] for one in found["exposure"]) == pytest.approx(1, abs=0.01)
    client.put("/v1/rules", json={"toml": text})
    for one in lists["examples"]:
        assert ten(client, one["user_id"]) == one["after"] != one["before"]
    same = client.post("/v1/rules/preview", json=body).json()["lists"]
    assert (same["changed"], same["gained"]) == (0, [])
    back = client.post("/v1/rules/preview", json={"rules": [], "users": [trained.user]}).json()["lists"]
    assert (back["users"], back["changed"]) == (1, 1)
    with Recommender.open(workspace) as recommender:
        wanted = recommender.query(trained.user, explore=False, rules=False)
    assert back["examples"][0]["after"] == [item.item_id for item in wanted.items]


@pytest.mark.parametrize("body", [{"sample": 501}, {"sample": 0}, {"users": ["u"] * 501}, {"field": "categry"}])
def test_a_preview_has_bounds(client, body):
    told = client.post("/v1/rules/preview", json={"toml": "", **body})
    assert told.status_code == 422


def test_rules_that_were_broken_by_hand_are_told(client, workspace):
    file = workspace.parent / "rules.toml"
    file.write_text("[[rule]]\nboots = 'x'", "utf-8")
    assert client.get("/v1/rules").json()["rules"] == [{"boots": "x"}]
    told = client.post("/v1/rules/preview", json={"toml": ""})
    assert (told.status_code, "boots" in told.json()["detail"]) == (409, True)
    file.write_text("[[rule", "utf-8")
    assert "TOML" in client.get("/v1/rules").json()["warnings"][0]
    assert client.put("/v1/rules", json={"toml": ""}).status_code == 200


def test_tables_are_written_as_toml_that_says_the_same():
    tables = [
        {"name": 'a "b" \\ \n\t\x01\x7f ü 名', "ban": ["x", "y'"], "by": 0.5, "at": 3, "far": 1e300, "on": True},
        {"a.b": "dotted", "": "none", "名": "key"},
    ]
    text = toml_of("rule", tables)
    assert parse_toml(text, "here")["rule"] == tomllib.loads(text)["rule"] == tables
    assert toml_of("rule", []) == ""
    for wrong in (None, float("nan")):
        with pytest.raises(SettingsError):
            toml_of("rule", [{"a": wrong}])


def test_who_wrote_the_rules_is_kept_beside_former_versions(client, workspace):
    file = RulesFile(Workspace.open(workspace))
    for text in ("# one", "# two"):
        file.replace(text, lambda _: None, author="anna")
    (workspace.parent / "rules.toml").write_text("# by hand", "utf-8")
    file.replace("# one", lambda _: None, author="ben")
    told = [(one.text, one.author, one.at is not None, one.replaced is not None) for one in file.history()[:4]]
    first, by_hand = ("# one", "anna", True, True), ("# by hand", None, False, True)
    assert told[:3] == [("# one", "ben", True, False), by_hand, first]
