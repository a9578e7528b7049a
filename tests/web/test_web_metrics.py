"""/metrics: what Prometheus reads, of one process and of several."""

import re
import shutil
import threading
import time

import pytest
from copies import copy_workspace
from web_server import client_of, program

from molar_serving.auth import Keyring
from molar_serving.response_store import ShownAnswers


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    target = tmp_path_factory.mktemp("metrics") / ".molar"
    return copy_workspace(
        trained.workspace, target, shutil.ignore_patterns("serving")
    )  # other tests may have served it


def samples(client, **headers: str) -> dict[str, float]:
    """Samples by name and labels."""
    page = client.get("/metrics", headers=headers)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/plain")
    lines = [line.rpartition(" ") for line in page.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_requests_events_and_generation_are_told(workspace, trained):
    with client_of(workspace) as client:
        before = samples(client)
        asked = {"user_id": trained.user}
        for _ in range(3):
            client.post("/v1/recommendations", json=asked)
        client.post("/v1/recommendations", json=asked, headers={"prefer": "wait=0ms"})
        client.post("/v1/recommendations", json={"kk": 1})
        client.get("/v1/nothing")
        good = {"event_id": "m1", "event": "view_item", "user_id": trained.user, "item_id": "SKU-0001"}
        taken = client.post("/v1/events", json=[good, good, {"event": "view_item"}]).json()
        client.post("/v1/recommendations", json=asked)
        after = samples(client)
    lists = 'endpoint="/v1/recommendations",method="POST",status='
    assert after[f'molar_requests_total{{{lists}"200"}}'] == 5
    assert after[f'molar_requests_total{{{lists}"422"}}'] == 1
    assert after['molar_requests_total{endpoint="none",method="none",status="404"}'] == 1
    assert after['molar_request_seconds_count{endpoint="/v1/recommendations"}'] == 6
    assert after['molar_request_seconds_bucket{endpoint="/v1/recommendations",le="+Inf"}'] == 6
    assert after['molar_shed_total{what="list"}'] == 1
    assert after['molar_shed_total{what="request"}'] == 0
    outcomes = [after[f'molar_events_total{{outcome="{one}"}}'] for one in ("accepted", "duplicate", "rejected")]
    assert outcomes == [1, 1, 1]
    assert after["molar_log_seq"] == after["molar_answered_seq"] == taken["seq"]
    assert before["molar_generation_age_seconds"] <= after["molar_generation_age_seconds"]
    assert after["molar_generation_refused"] == 0


def test_with_keys_it_takes_one_for_who_runs_the_server(trained, tmp_path):
    own = copy_workspace(trained.workspace, tmp_path / ".molar")
    ring = Keyring(own)
    answers, admin = ring.add("shop", ["answer"]), ring.add("prometheus", ["admin"])
    with client_of(own) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"authorization": f"Bearer {answers}"}).status_code == 403
        assert samples(client, authorization=f"Bearer {admin}")["molar_workers"] == 1


def test_workers_add_up_whichever_is_asked(workspace, trained):
    with program(workspace, "--workers", "2") as server:
        for _ in range(12):
            with server.client() as client:  # another connection, maybe another worker
                assert client.get("/v1/recommendations", params={"user_id": trained.user}).status_code in (200, 503)
        told = []
        for _ in range(4):
            with server.client() as client:
                told.append(samples(client))
    pattern = re.compile(r'molar_requests_total\{endpoint="/v1/recommendations",method="GET",status="(200|503)"\}')
    counts = {sum(value for name, value in one.items() if pattern.fullmatch(name)) for one in told}
    assert counts == {12}
    assert {one["molar_workers"] for one in told} == {2}


def test_a_background_thread_that_dies_makes_the_server_unready_until_it_is_started_again(
    workspace, trained, monkeypatch
):
    store, broken = ShownAnswers._store, threading.Event()

    def breaking(self, *, prune):
        if broken.is_set():
            broken.clear()
            raise OverflowError("a fault of the test")
        store(self, prune=prune)

    monkeypatch.setattr(ShownAnswers, "_store", breaking)
    with client_of(workspace) as client:
        broken.set()
        first = client.post("/v1/recommendations", json={"user_id": trained.user, "k": 2}).json()
        reasons, end = [], time.monotonic() + 30
        while not reasons and time.monotonic() < end:
            answer = client.get("/health/ready")
            reasons += [answer.json()["reason"]] if answer.status_code == 503 else []
        assert reasons
        assert "thread shown" in reasons[0]
        while client.get("/health/ready").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert samples(client)['molar_thread_restarts_total{thread="shown"}'] == 1
        assert client.get("/health/live").status_code == 200
        assert client.post(first["next"], json={"k": 2}).status_code == 200
