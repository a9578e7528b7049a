"""Over HTTP with the items on a Qdrant server: the same lists, and what comes where that server dies."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from copies import copy_workspace
from qdrant_cluster import address_of, fake_cluster
from qdrant_fake import FakeQdrant, Fault, fake_qdrant
from starlette.testclient import TestClient
from web_server import client_of

import molar
from molar_retrieval.ranking import candidates

LIST = "/v1/recommendations"
DEADLINE = 3.0
SLOWEST = 10.0  # seconds of a request to the fake, whose machine may be busy


@pytest.fixture(autouse=True)
def searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small catalogues are scanned from the item store; here the index is asked."""
    monkeypatch.setattr(candidates, "MOST_SCANNED", 0)


def _pushed(trained: Any, folder: Path, fake: FakeQdrant | str, fallback: str, patched: pytest.MonkeyPatch) -> Path:
    """A shop whose items are on the server, or at an address; its settings name that."""
    url = fake if isinstance(fake, str) else fake.url
    workspace = copy_workspace(trained.workspace, folder / ".molar")
    settings = folder / "molar.toml"
    settings.write_text(
        f'[index]\nfallback = "{fallback}"\ntimeout = {SLOWEST}\n[serve]\ndeadline = {DEADLINE}\n', "utf-8"
    )
    patched.setenv("MOLAR_INDEX_URL", url)
    molar.Shop(None, workspace, settings).push()
    return workspace


def _ids(client: TestClient, user: str) -> tuple[httpx.Response, list[str]]:
    asked = {"user_id": user, "k": 5, "explore": False, "where": "price < 500", "explain": True}
    reply = client.post(LIST, json=asked)
    return reply, [item["item_id"] for item in reply.json().get("items", [])]


def _noted(reply: httpx.Response) -> bool:
    return any("the workspace's own index answers instead" in note for note in reply.json()["notes"])


def _down(fake: FakeQdrant, *, delay: float = 0.0) -> None:
    fake.faults.append(Fault(".", times=1_000_000, status=500, delay=delay))


def test_a_dead_server_is_not_felt_and_asked_again_by_and_by(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molar_indexes.server.opening._AGAIN", 0.3)
    with fake_qdrant() as fake:
        with client_of(trained.workspace) as own:
            _, expected = _ids(own, trained.user)
        workspace = _pushed(trained, tmp_path, fake, "local", monkeypatch)
        with client_of(workspace, tmp_path / "molar.toml") as client:
            before = len(fake.asked)
            reply, listed = _ids(client, trained.user)
            assert (reply.status_code, listed, _noted(reply)) == (200, expected, False)
            assert len(fake.asked) > before
            _down(fake)
            began = time.monotonic()
            reply, listed = _ids(client, trained.user)
            assert (reply.status_code, listed, _noted(reply)) == (200, expected, True)
            assert time.monotonic() - began < DEADLINE
            assert client.get("/health/ready").status_code == 200
            fake.faults.clear()
            time.sleep(0.3)
            before = len(fake.asked)
            reply, listed = _ids(client, trained.user)
            assert (reply.status_code, listed, _noted(reply)) == (200, expected, False)
            assert len(fake.asked) > before


def test_a_server_that_hangs_leaves_time_for_the_workspace(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_qdrant() as fake:
        workspace = _pushed(trained, tmp_path, fake, "local", monkeypatch)
        with client_of(workspace, tmp_path / "molar.toml") as client:
            _, expected = _ids(client, trained.user)
            _down(fake, delay=DEADLINE)
            for _ in range(2):
                began = time.monotonic()
                reply, listed = _ids(client, trained.user)
                assert (reply.status_code, listed, _noted(reply)) == (200, expected, True)
                assert time.monotonic() - began < DEADLINE


def test_without_a_fallback_it_says_so_and_answers_again_once_the_server_does(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_qdrant() as fake:
        workspace = _pushed(trained, tmp_path, fake, "none", monkeypatch)
        with client_of(workspace, tmp_path / "molar.toml") as client:
            _, expected = _ids(client, trained.user)
            _down(fake)
            reply, _ = _ids(client, trained.user)
            assert (reply.status_code, reply.json()["type"]) == (503, "urn:molar:problem:503")
            assert fake.url in reply.json()["detail"]
            fake.faults.clear()
            reply, listed = _ids(client, trained.user)
            assert (reply.status_code, listed) == (200, expected)


def test_a_dead_node_is_not_felt(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cluster(2) as cluster:
        workspace = _pushed(trained, tmp_path, address_of(cluster), "none", monkeypatch)
        with client_of(workspace, tmp_path / "molar.toml") as client:
            _, expected = _ids(client, trained.user)
            cluster[0].kill()
            reply, listed = _ids(client, trained.user)
            assert (reply.status_code, listed, reply.json()["notes"]) == (200, expected, [])
            assert cluster[1].fake.asked
