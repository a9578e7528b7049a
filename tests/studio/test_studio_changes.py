"""The screen of changes: what the audit log tells, and that what was changed is put back, once more if need be."""

import pytest
from copies import copy_workspace
from studio_client import studio_of_roles, words_of

from molar.shop import Shop
from molar_serving.audit import changes
from molar_serving.auth import Keyring
from molar_serving.rules_file import RulesFile


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("changes") / ".molar")


@pytest.fixture(scope="module")
def people(workspace):
    with studio_of_roles(workspace) as people:
        yield people


@pytest.fixture(scope="module")
def over_http(people, workspace):
    key = Keyring(workspace).add("program", ["catalogue", "rules", "admin"])
    client = people["admin"].client

    def ask(method, path, **more):
        client.cookies.clear()
        return client.request(method, path, headers={"authorization": f"Bearer {key}"}, **more)

    return ask


def item_now(over_http, item):
    return over_http("GET", f"/v1/items/{item}").json()["attributes"]


def undo(people, workspace, role="merchandiser", newest=0, **fields):
    change = changes(workspace)[newest]
    return people[role].post(f"/studio/changes/{change.request}/undo", fields)


@pytest.fixture(scope="module")
def item(workspace, trained):
    return Shop(None, workspace).query(trained.user, k=1).items[0].item_id


def test_a_price_is_put_back_and_that_is_undone_as_well(people, workspace, over_http, item):
    before = item_now(over_http, item)
    assert over_http("PATCH", f"/v1/items/{item}", json={"attributes": {"price": 1.5}}).status_code == 200
    page = people["viewer"].get("/studio/changes")
    assert item in words_of(page)
    assert f"price: {before['price']}" in words_of(page)
    assert '<button class="second">Undo' not in page.text  # a viewer changes nothing
    assert undo(people, workspace, "viewer").status_code == 403
    assert undo(people, workspace).status_code == 303
    assert item_now(over_http, item)["price"] == before["price"]
    assert undo(people, workspace).status_code == 303  # of the undoing
    assert item_now(over_http, item)["price"] == 1.5
    assert "undone" in words_of(people["viewer"].get("/studio/changes"))


def test_what_was_withdrawn_comes_back_and_what_was_added_goes(people, workspace, over_http, item):
    assert over_http("DELETE", f"/v1/items/{item}").status_code == 200
    assert not over_http("GET", f"/v1/items/{item}").json()["shown"]
    assert undo(people, workspace).status_code == 303
    assert over_http("GET", f"/v1/items/{item}").json()["shown"]
    batch = [
        {"item_id": item, "attributes": {"price": 2}},
        {"item_id": "brand-new", "attributes": {"title": "<b>x</b>"}},
    ]
    assert over_http("POST", "/v1/items", json={"items": batch}).status_code == 200
    assert undo(people, workspace).status_code == 303
    assert item_now(over_http, item)["price"] != 2
    fact = changes(workspace)[1].undo
    assert [one["before"] is None for one in fact["items"]] == [False, True]


def test_what_was_changed_again_is_undone_only_by_who_is_sure(people, workspace, over_http, item):
    before = item_now(over_http, item)["price"]
    for price in (3, 4):
        over_http("PATCH", f"/v1/items/{item}", json={"attributes": {"price": price}})
    asked = undo(people, workspace, newest=1)
    assert asked.status_code == 409
    assert "changed again since" in words_of(asked)
    assert item_now(over_http, item)["price"] == 4
    assert changes(workspace)[0].status == 409
    assert undo(people, workspace, newest=2, sure="yes").status_code == 303
    assert item_now(over_http, item)["price"] == before


def test_rules_go_back_to_the_version_before(people, workspace, over_http, item):
    file, rule = RulesFile(Shop(None, workspace).opened()), '[[rule]]\nname = "off"\nban = ["{}"]\n'
    assert over_http("PUT", "/v1/rules", json={"toml": rule.format(item)}).status_code == 200
    first = file.text
    assert f'+ban = ["{item}"]' in words_of(people["viewer"].get("/studio/changes"))
    assert undo(people, workspace).status_code == 303
    assert file.text == ""
    assert undo(people, workspace).status_code == 303
    assert file.text == first
    assert undo(people, workspace, "viewer").status_code == 403
    assert over_http("PUT", "/v1/rules", json={"toml": first + "# once more\n"}).status_code == 200
    assert undo(people, workspace).status_code == 303
    assert file.text == first


def test_what_is_not_in_the_log_or_was_refused_cannot_be_undone(people, workspace, over_http):
    assert people["merchandiser"].post("/studio/changes/nothing/undo").status_code == 404
    assert over_http("PUT", "/v1/rules", json={"toml": "wrong"}).status_code == 422
    assert undo(people, workspace).status_code == 409
    for language in ("de", "ja"):
        people["viewer"].language = language
        assert people["viewer"].get("/studio/changes", begin=2).status_code == 200
    people["viewer"].language = "en"


def test_keys_that_were_made_and_revoked_are_told(people, workspace):
    Keyring(workspace).add("guest", ["answer"])
    Keyring(workspace).revoke("guest")
    assert [(one.endpoint, one.facts["name"], one.undo) for one in changes(workspace)[:2]] == [
        ("molar keys revoke", "guest", None),
        ("molar keys add", "guest", None),
    ]
    assert "Key revoked guest" in words_of(people["viewer"].get("/studio/changes"))


def test_the_log_is_read_from_its_end_over_all_of_its_files(tmp_path):
    folder = tmp_path / "serving"
    folder.mkdir()
    lines = [
        f'{{"time":"2026-01-01T00:00:{n:02}","request":"r{n}","key":"k","endpoint":"PUT /v1/rules"' for n in range(40)
    ]
    ended = [line + ',"status":200,"fill":"' + "x" * 5_000 + '"}' for line in lines]
    (folder / "audit.100.jsonl").write_text("\n".join([line + ',"state":"begun"}' for line in lines[:20]] + ended[:20]))
    (folder / "audit.jsonl").write_text("\n".join([*ended[20:39], lines[39] + ',"state":"begun"}', '{"torn"']))
    found = changes(tmp_path)
    assert [one.request for one in found] == [f"r{n}" for n in range(39, -1, -1)]
    assert [one.status for one in found] == [None] + [200] * 39
    assert [one.request for one in changes(tmp_path, 38, 5)] == ["r1", "r0"]
    assert changes(tmp_path / "nowhere") == []
