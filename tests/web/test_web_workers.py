"""Processes that answer: several on one socket, replaced when they die, ended in order, and never left behind."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from copies import copy_workspace
from web_server import Program, program

from molar.shop import Shop
from molar_retrieval.errors import SettingsError
from molar_serving.server import serve

KILLS = int(os.environ.get("MOLAR_TEST_ORPHANS", "1"))
"""How often a server with workers is killed; 200 for the full strength."""
PROCESSES = Path("/proc")
pytestmark = pytest.mark.skipif(not (PROCESSES / "self/stat").exists(), reason="processes are found in /proc")


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("workers") / ".molar")


def below(parent: int) -> set[int]:
    """The workers of a process."""
    found = set()
    for entry in PROCESSES.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z" and b"spawn_main" in words:
                found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def asked(server: Program, user: str, **more: object) -> dict:
    """A list, by a connection of its own, so that any worker may answer."""
    with server.client() as client:
        told = client.post("/v1/recommendations", json={"user_id": user, "k": 5, **more})
    assert told.status_code == 200, told.text
    return told.json()


def test_workers_share_generation_and_log_and_are_replaced(workspace, trained):
    with program(workspace, "--workers", "2") as server:
        until(lambda: len(below(server.process.pid)) == 2)
        first = asked(server, trained.user, explore=False)
        bought = first["items"][0]["item_id"]
        with server.client() as client:
            event = {"event_id": "w1", "event": "purchase", "user_id": trained.user, "item_id": bought}
            seq = client.post("/v1/events", json=event).json()["seq"]
            assert client.post("/v1/events", json=event).json()["duplicates"] == 1
        victim, other = sorted(below(server.process.pid))
        for pid in (victim, other):  # each of them alone knows it
            os.kill(other if pid == victim else victim, signal.SIGSTOP)
            try:
                told = asked(server, trained.user, wait_for=seq)
            finally:
                os.kill(other if pid == victim else victim, signal.SIGCONT)
            assert told["generation"] == first["generation"]
            assert told["events"] >= seq
            assert bought not in [item["item_id"] for item in told["items"]]
        os.kill(victim, signal.SIGKILL)
        until(lambda: not alive(victim))
        for _ in range(5):
            asked(server, trained.user)
        until(lambda: len(below(server.process.pid)) == 2 and victim not in below(server.process.pid))
        workers = below(server.process.pid)
        assert other in workers
        until(lambda: all(answers(server) for _ in range(4)))
        assert server.end(signal.SIGTERM) == 0
        assert not any(map(alive, workers))


def answers(server: Program) -> bool:
    with server.client() as client:
        return client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("turn", range(KILLS))
def test_a_server_that_is_killed_leaves_no_worker_behind(workspace, turn):
    server = Program(workspace, "--workers", "2")
    try:
        until(lambda: len(below(server.process.pid)) == 2)
        workers = below(server.process.pid)
        time.sleep(0.05 * (turn % 40))
    finally:
        server.end(signal.SIGKILL)
    until(lambda: not any(map(alive, workers)), 10)
    until(lambda: refuses(server), 10)  # the last thread of a process closes its socket after the first one is gone
    assert not below(server.process.pid)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.address}/health/live")


def refuses(server: Program) -> bool:
    """Whether nobody listens; who is reset came when somebody did."""
    try:
        httpx.get(f"{server.address}/health/live")
    except httpx.TransportError as error:
        return isinstance(error, httpx.ConnectError)
    return False


def half_asked(server: Program) -> tuple[socket.socket, bytes]:
    """A connection with a request that the server waits for the end of, and that end."""
    body = b'{"anonymous_id": "somebody", "k": 2}'
    head = b"POST /v1/recommendations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n" % len(body)
    url = httpx.URL(server.address)
    connection = socket.create_connection((url.host, url.port), 60)
    connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
    assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"  # said by whoever begins to read the body
    connection.sendall(body[:5])
    return connection, body[5:]


def test_sigterm_answers_what_is_under_way_and_takes_nothing_new(workspace):
    with program(workspace) as server:
        connection, rest = half_asked(server)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not answered(server))
        assert server.process.poll() is None
        connection.sendall(rest)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.close()
        assert server.process.wait(15) == 0


def answered(server: Program) -> bool:
    """Whether it answers: what workers no longer accept waits in vain."""
    try:
        return httpx.get(f"{server.address}/health/live", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.alone
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_second_sigterm_ends_it_at_once(workspace, workers):
    with program(workspace, "--workers", workers) as server:
        children = below(server.process.pid)
        connection, _ = half_asked(server)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not answered(server))
        began = time.monotonic()
        assert server.end(signal.SIGTERM, 5) == 143
        assert time.monotonic() - began < 3
        until(lambda: not any(map(alive, children)), 5)
        connection.close()


def test_where_it_cannot_listen_it_says_so(workspace, monkeypatch):
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(SettingsError, match="cannot be listened on"):
        serve(Shop(None, workspace), print, port=taken.getsockname()[1])
    monkeypatch.setenv("MOLAR_SERVE_CERTIFICATE", "none.pem")
    monkeypatch.setenv("MOLAR_SERVE_PRIVATE_KEY", "none.key")
    with pytest.raises(SettingsError, match=r"none\.pem"):
        serve(Shop(None, workspace), print, port=0)
