"""The audit log: what it tells, whom it does not name, and what happens where it cannot be written."""

import asyncio
import hmac
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_retrieval.errors import DiskError
from molar_retrieval.workspace.activity_log import JsonLines
from molar_serving import app, audit
from molar_serving.app import ENDPOINTS
from molar_serving.auth import Keyring
from molar_serving.endpoint import Endpoint, Reply
from molar_serving.problems import ProblemError

PERSON = "somebody@shop.example"


async def forget(call):
    """Forget a person, or say why not."""
    call.audit |= {"removed": 3, "people": [call.path["user_id"], "another"]}
    if call.path["user_id"] == "refused":
        raise ProblemError(404, "there is nobody of this name")
    if call.path["user_id"] == "broken":
        raise RuntimeError("this is a bug")
    return Reply({"forgotten": True})


FORGET = Endpoint("DELETE", "/v1/test/{item_id}/users/{user_id}", "admin", "Forget", forget, changes=True)


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("audited") / ".molar")


@pytest.fixture(scope="module")
def keys(workspace):
    ring = Keyring(workspace)
    return {name: ring.add(name, [name]) for name in ("admin", "events")}


@pytest.fixture(scope="module")
def client(workspace, keys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "ENDPOINTS", (*ENDPOINTS, FORGET))
        patch.setattr(audit, "_EVERY", 0.2)
        with client_of(workspace) as client:
            yield client


@pytest.fixture
def told(workspace):
    file = workspace / "serving" / "audit.jsonl"
    before = len(file.read_text().splitlines())
    return lambda: [json.loads(line) for line in file.read_text().splitlines()[before:]]


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def test_keys_made_and_revoked_are_told(workspace, keys, told):
    ring = Keyring(workspace)
    secret = ring.add("passing", ["answer"], rate=3)
    ring.revoke("passing")
    made, revoked = told()
    assert (made["made"], made["scopes"], made["rate"]) == ("passing", ["answer"], 3)
    assert revoked["revoked"] == "passing"
    assert made["by"]
    assert secret.split("_", 2)[2] not in (workspace / "serving" / "audit.jsonl").read_text()
    assert (workspace / "serving" / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_a_change_has_a_line_before_and_one_after(workspace, client, keys, told):
    for person, status in ((PERSON, 200), ("refused", 404), ("broken", 500)):
        answer = client.delete(f"/v1/test/SKU-1/users/{person}", headers=bearer(keys["admin"]))
        assert answer.status_code == status
        begun, ended = told()[-2:]
        assert begun["request"] == ended["request"] == answer.headers["x-request-id"]
        assert (begun["state"], "status" in begun) == ("begun", False)
        assert (ended["status"], ended["removed"], ended["key"]) == (status, 3, "admin")
        assert ended["endpoint"] == f"DELETE {FORGET.path}"
        assert ended["item_id"] == "SKU-1"
    key = bytes.fromhex((workspace / "serving" / "pseudonyms.key").read_text())
    pseudonym = hmac.digest(key, PERSON.encode(), "sha256")[:16].hex()
    assert told()[0]["user_id"] == told()[1]["user_id"] == told()[1]["people"][0] == pseudonym
    assert PERSON not in (workspace / "serving" / "audit.jsonl").read_text()
    assert (workspace / "serving" / "pseudonyms.key").stat().st_mode & 0o077 == 0


def test_events_and_refusals_are_counted(client, keys, told):
    event = {"event": "view_item", "user_id": PERSON, "item_id": "SKU-0001"}
    for n in range(3):
        batch = [{**event, "event_id": f"{n}-{m}"} for m in range(4)] + [event | {"event_id": "0-0"}, {}]
        assert client.post("/v1/events", json=batch, headers=bearer(keys["events"])).status_code == 200
    assert client.post("/v1/events", json=event, headers=bearer("molar_events_wrong")).status_code == 401
    assert client.post("/v1/events", json=event, headers=bearer(keys["admin"])).status_code == 403
    assert client.post("/v1/events", content=b"{", headers=bearer(keys["events"])).status_code == 400
    assert told() == []
    client.portal.call(asyncio.sleep, 0.3)
    lines = told()
    (taken,) = [line for line in lines if line["status"] == 200]
    assert (taken["key"], taken["requests"], taken["accepted"]) == ("events", 3, 12)
    assert (taken["duplicates"], taken["rejected"]) == (3, 3)
    assert sorted((line["status"], line["requests"]) for line in lines) == [(200, 3), (400, 1), (401, 1), (403, 1)]
    assert [line["key"] for line in lines if line["status"] == 401] == [None]
    assert not any(PERSON in str(line) for line in lines)


def test_what_cannot_be_written_down_is_not_done(workspace, client, keys, monkeypatch, caplog):
    def full(*_, **__):
        raise DiskError("the disk is full of it", "make room")

    asked = []
    monkeypatch.setattr(JsonLines, "append", full)
    monkeypatch.setattr(app, "ENDPOINTS", (replace(FORGET, answer=lambda call: asked.append(call)), *ENDPOINTS))
    with client_of(workspace) as fresh:
        refused = fresh.delete("/v1/test/1/users/1", headers=bearer(keys["admin"]))
        assert (refused.status_code in (503, 507), asked) == (True, []), refused.text
        event = {"event": "view_item", "event_id": "in spite", "user_id": "u", "item_id": "SKU-0001"}
        assert fresh.post("/v1/events", json=event, headers=bearer(keys["events"])).json()["accepted"] == 1
    assert "the audit log misses {'requests': 1, 'accepted': 1" in caplog.text
    with pytest.raises(DiskError, match="full of it"):
        Keyring(workspace).add("unseen", ["answer"])
    assert "unseen" not in set(Keyring(workspace).keys())


def test_requests_are_told_where_it_is_asked_for(workspace, keys, tmp_path, monkeypatch, caplog):
    settings, file = tmp_path / "molar.toml", workspace / "serving" / "access.jsonl"
    settings.write_text("[serve]\naccess_log = true\n")
    with client_of(workspace, settings) as client:
        body = {"event": "view_item", "event_id": "told", "user_id": PERSON, "item_id": "SKU-0001"}
        answer = client.post("/v1/events?x=" + PERSON, json=body, headers=bearer(keys["events"]))
        client.get("/" + PERSON)
        taken, nowhere = (json.loads(line) for line in file.read_text().splitlines()[-2:])
        assert (taken["key"], taken["endpoint"], taken["status"]) == ("events", "/v1/events", 200)
        assert taken["request"] == answer.headers["x-request-id"]
        assert (nowhere["endpoint"], nowhere["key"], nowhere["status"]) == (None, None, 404)
        for secret in (PERSON, "testclient", keys["events"]):
            assert secret not in file.read_text()
        monkeypatch.setattr(os, "write", lambda *_: fails())
        for _ in range(3):
            assert client.get("/health/live").status_code == 200
        assert caplog.text.count("the access log cannot be written") == 1


def fails():
    raise OSError(28, "No space left on device")


def test_lines_of_many_are_whole_and_files_go_round(tmp_path):
    logs = [JsonLines(tmp_path / "log.jsonl", most=2_000, kept=100) for _ in range(3)]  # as of three processes

    def write(n):
        logs[n % 3].append({"n": n, "text": "x" * (n % 150)})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(600)))
    for log in logs:
        log.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 10
    assert all(file.stat().st_size <= 4_000 for file in files)
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert sorted(line["n"] for line in lines) == list(range(600))


def test_old_files_end_and_what_somebody_removed_begins_anew(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl", most=100, kept=2)
    for n in range(20):
        log.append({"n": n, "text": "x" * 40})
    files = sorted(tmp_path.glob("log.*.jsonl"))
    assert [json.loads(line)["n"] for file in files for line in file.read_text().splitlines()] == [17, 18]
    assert json.loads((tmp_path / "log.jsonl").read_text())["n"] == 19
    (tmp_path / "log.jsonl").unlink()
    log.append({"n": 20})
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"n": 20}
    log.append({"text": "x" * 500})
    log.close()


def test_a_line_that_did_not_fit_spoils_no_other(tmp_path, monkeypatch):
    log, write = JsonLines(tmp_path / "log.jsonl"), os.write
    log.append({"n": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, line: write(file, line[:5]))
        with pytest.raises(DiskError, match="no room"):
            log.append({"n": 2})
    log.append({"n": 3})
    log.close()
    assert (tmp_path / "log.jsonl").read_text().splitlines() == ['{"n":1}', '{"n":', '{"n":3}']
