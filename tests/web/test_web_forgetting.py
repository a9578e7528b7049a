"""Who is forgotten or objects, in a server that runs: by another process, and over HTTP."""

import json
import signal
import subprocess
import sys
import time

import httpx
import pytest
from copies import copy_workspace
from web_server import Program, client_of, program

from molar_indexes.generations import open_generation
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.response_store import ShownAnswers

AT_ONCE = 5.0  # seconds
MOLAR = [sys.executable, "-c", "from molar_cli.app import main; main()"]


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("forgetting")
    copy_workspace(trained.shop, folder / "shop")
    return copy_workspace(trained.workspace, folder / ".molar")


@pytest.fixture(scope="module")
def people(workspace):
    with open_generation(Workspace(workspace)) as generation:
        return [user.user_id for user in generation.users.between(100, 110)]


@pytest.fixture(scope="module")
def client(workspace, people):
    server = Program(workspace)
    try:
        with httpx.Client(base_url=server.address, timeout=60) as client:
            end = time.monotonic() + 60
            while client.get("/health/ready").status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.05)
            yield client
    finally:
        server.process.terminate()
        server.process.wait(30)


def listed(client, who):
    body = {"user_id": who, "k": 5}
    return client.post("/v1/recommendations", json=body).json()


def personal(client, who):
    return listed(client, who)["basis"] != "popularity"


def test_a_command_ends_personal_answers_of_a_server_that_runs(client, workspace, people):
    gone, other = people[:2]
    kept = f"/v1/recommendations/{listed(client, gone)['recommendation_id']}"
    assert client.get(kept).status_code == 200
    assert personal(client, gone)
    command = [sys.executable, "-c", "from molar_cli.app import main; main()", "privacy", "forget", "-", "--later"]
    run = subprocess.Popen([*command, "--workspace", str(workspace)], stdin=subprocess.PIPE, text=True)
    began = time.monotonic()
    run.stdin.write(f"{gone}\n")
    run.stdin.close()
    while personal(client, gone):
        assert time.monotonic() < began + 60
        time.sleep(0.01)
    took = time.monotonic() - began
    assert run.wait(60) == 0
    assert personal(client, other)
    assert took < 12 * AT_ONCE  # on a busy machine; `bench/forgetting.py` measures it
    assert client.get(kept).status_code in (404, 410)


def test_somebody_is_forgotten_over_http(client, people):
    gone = people[2]
    told = client.delete(f"/v1/users/{gone}")
    assert told.status_code == 200, told.text
    assert not personal(client, gone)
    assert told.json()["known"] is True
    assert told.json()["failed"] == {}
    assert told.json()["pending"] == ["rebuilt", "purged"]
    assert not client.get(f"/v1/users/{gone}").json()["in_generation"]
    assert client.delete(f"/v1/users/{gone}").json()["removed"]["users"] == 0
    assert client.delete("/v1/users/nobody-at-all").json()["known"] is False


def test_an_anonymous_visitor_is_forgotten_over_http(client, workspace):
    session, other = "cookie-4711", "cookie-4712"
    events = [
        {"event_id": f"{one}-{n}", "event": "view", "anonymous_id": one, "item_id": f"SKU-000{n}"}
        for one in (session, other)
        for n in (1, 2, 3)
    ]
    seq = client.post("/v1/events", json={"events": events}).json()["seq"]
    body = {"anonymous_id": session, "k": 5, "wait_for": seq}
    listed = client.post("/v1/recommendations", json=body).json()
    assert listed["basis"] != "popularity"
    assert client.get(f"/v1/users/{session}?anonymous=true").json()["known"]
    while (workspace / "serving" / "answers.sqlite").exists() is False:
        time.sleep(0.05)
    told = client.delete(f"/v1/users/{session}?anonymous=true").json()
    assert (told["known"], told["identified"], told["failed"]) == (True, False, {})
    assert told["removed"]["events"] == 3
    assert not client.get(f"/v1/users/{session}?anonymous=true").json()["known"]
    assert client.get(f"/v1/users/{other}?anonymous=true").json()["known"]
    assert client.post("/v1/recommendations", json=body | {"k": 4}).json()["basis"] == "popularity"
    end = time.monotonic() + 20
    while session.encode() in (workspace / "serving" / "answers.sqlite").read_bytes():
        client.delete(f"/v1/users/{session}?anonymous=true")  # an answer is written up to a second after it was given
        assert time.monotonic() < end
        time.sleep(0.5)
    told = client.delete("/v1/users/no-such-session?anonymous=true").json()
    assert (told["known"], told["removed"]["events"]) == (False, 0)


def test_an_objection_holds_until_it_is_withdrawn(client, workspace, people):
    who = people[3]
    assert client.post("/v1/users/object", json={"user_id": who, "reason": "a letter"}).status_code == 200
    answer = client.post("/v1/recommendations", json={"user_id": who, "k": 3}).json()
    assert answer["basis"] == "popularity"
    assert any("objects" in note for note in answer["notes"])
    event = {"event_id": "o1", "event": "purchase", "user_id": who, "item_id": "SKU-0003"}
    assert client.post("/v1/events", json=event).json()["accepted"] == 1
    assert client.get(f"/v1/users/{who}").json()["interactions"] == 0
    ended = client.post("/v1/users/object", json={"user_id": who, "withdraw": True})
    assert ended.json() == {"kind": "objected", "people": 1, "at": None, "withdrawn": True, "known": True} | {
        "identified": False, "removed": {}, "failed": {}, "pending": [], "source_rows": {},
    }  # fmt: skip
    again = client.post("/v1/users/object", json={"user_id": who, "withdraw": True})
    assert again.status_code in (400, 404, 409, 422)
    audit = (workspace / "serving" / "audit.jsonl").read_text("utf-8")
    assert "users/object" in audit
    assert who not in audit


def forgotten(workspace, who):
    """What `molar privacy forget` says, and its exit code."""
    command = [*MOLAR, "privacy", "forget", who, "--later", "--json", "--workspace", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout)


def test_a_server_whose_memory_cannot_be_reached_fails_the_command(trained, tmp_path, people):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    with program(workspace) as server, server.client() as client:
        gone = people[4]
        kept = f"/v1/recommendations/{listed(client, gone)['recommendation_id']}"
        server.process.send_signal(signal.SIGSTOP)
        try:
            code, told = forgotten(workspace, gone)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert (code, list(told["failed"])) == (1, ["answers"])
        assert str(server.process.pid) in told["failed"]["answers"]
        assert client.get(kept).status_code in (404, 410)
        code, told = forgotten(workspace, gone)
        assert (code, told["failed"]) == (0, {})
    code, told = forgotten(workspace, people[5])  # no server runs any more
    assert (code, told["failed"]) == (0, {})


def test_a_request_to_forget_fails_where_answers_in_memory_stay(trained, tmp_path, people, monkeypatch):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    with client_of(workspace) as client:
        kept = listed(client, people[4])
        with monkeypatch.context() as broken:
            broken.setattr(ShownAnswers, "_heed", lambda self: None)
            told = client.delete(f"/v1/users/{people[4]}")
        assert (told.status_code, "answers" in told.json()["detail"]) == (503, True), told.text
        assert client.get(f"/v1/recommendations/{kept['recommendation_id']}").status_code in (404, 410)
        assert client.post(kept["next"], json={"k": 2}).status_code in (404, 410)
        assert client.delete(f"/v1/users/{people[4]}").status_code == 200


def test_an_answer_that_was_just_given_is_forgotten_too(client, people):
    kept = listed(client, people[6])
    assert client.delete(f"/v1/users/{people[6]}").status_code == 200
    assert client.post(kept["next"], json={"k": 2}).status_code in (404, 410)
