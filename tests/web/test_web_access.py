"""Keys: made, asked for, revoked; without them this machine alone is answered."""

import json
import signal

import pytest
from copies import copy_workspace
from web_server import client_of, program

from molar.shop import Shop
from molar_retrieval.errors import RequestError, SettingsError
from molar_serving.auth import Keyring
from molar_serving.server import serve


@pytest.fixture
def workspace(trained, tmp_path):
    return copy_workspace(trained.workspace, tmp_path / ".molar")


def test_a_key_allows_its_scopes_until_it_is_revoked(workspace, trained):
    ring = Keyring(workspace)
    key = ring.add("shop", ["answer"])
    other = ring.add("other", ["events"])
    assert key not in ring.path.read_text()
    assert key.split("_", 2)[2] not in ring.path.read_text()
    assert ring.path.stat().st_mode & 0o077 == 0
    with client_of(workspace) as client:

        def asked(sent):
            headers = {} if sent is None else {"authorization": f"Bearer {sent}"}
            return client.post("/v1/recommendations", json={"user_id": trained.user}, headers=headers).status_code

        assert asked(None) == asked("molar_shop_wrong") == asked("molar_nobody_x") == 401
        assert asked(other) == 403
        assert asked(key) == 200
        ring.revoke("shop")
        assert asked(key) == 401
        assert client.get("/health/live").status_code == 200
        ring.revoke("other")
        assert asked(None) == asked(other) == 401  # without the last key nobody is answered, not everybody


def test_browsers_get_little(workspace, trained):
    ring = Keyring(workspace)
    with pytest.raises(RequestError, match="cannot have the scope catalogue"):
        ring.add("page", ["answer", "catalogue"], origins=["https://shop.example"])
    key = ring.add("page", ["answer", "events"], origins=["https://shop.example"])
    with client_of(workspace) as client:
        headers = {"authorization": f"Bearer {key}", "origin": "https://shop.example"}
        told = client.post("/v1/recommendations", json={"user_id": trained.user}, headers=headers).json()
    assert all(item["parts"] is None for item in told["items"])


def test_a_damaged_file_of_keys_lets_nobody_in(workspace, trained):
    ring = Keyring(workspace)
    ring.add("shop", ["answer"])
    ring.path.write_text("{")
    with client_of_damaged(workspace) as client:
        assert client.post("/v1/recommendations", json={"user_id": trained.user}).status_code == 500


def client_of_damaged(workspace):
    from starlette.testclient import TestClient

    from molar_serving.app import application
    from molar_serving.service import Service

    return TestClient(application(Service(Shop(None, workspace))), base_url="http://127.0.0.1")


def test_without_keys_it_listens_to_this_machine_alone(workspace):
    with pytest.raises(SettingsError, match="there are no keys"):
        serve(Shop(None, workspace), print, host="0.0.0.0", port=0)


def test_the_program_says_where_it_listens_and_ends_by_sigterm(workspace, trained):
    with program(workspace) as server, server.client() as client:
        told = client.get("/v1/recommendations", params={"user_id": trained.user}).json()
        assert told["known"]
        assert server.end(signal.SIGTERM) == 0


def test_keys_on_the_command_line(workspace):
    from typer.testing import CliRunner

    from molar_cli.app import app

    def run(*words):
        return CliRunner().invoke(app, ["keys", *words, "--workspace", str(workspace), "--json"])

    made = json.loads(run("add", "backend", "--scopes", "answer, rules").stdout)
    assert made["key"].startswith("molar_backend_")
    assert "signing_token" not in made
    signed = json.loads(run("add", "signs", "--signing").stdout)
    (kept,) = [key for key in json.loads((workspace / "serving" / "keys.json").read_text())["keys"] if key["signing"]]
    assert (kept["name"], kept["signing"]) == ("signs", signed["signing_token"])
    assert signed["key"].rpartition("_")[2] not in kept.values()
    assert [key["signing"] for key in json.loads(run("list").stdout)["keys"]] == [False, True]
    assert run("revoke", "signs").exit_code == 0
    assert json.loads(run("list").stdout)["keys"][0]["scopes"] == ["answer", "rules"]
    assert run("add", "backend").exit_code == 1
    assert run("revoke", "backend").exit_code == 0
    assert json.loads(run("list").stdout)["keys"] == []
