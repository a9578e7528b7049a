"""Generations go live and back under load: no errors, no list of two, nothing left open; damaged ones never answer."""

import asyncio
import os
import threading
import time
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient
from test_indexes_generations import release
from web_load import Outcome, ask, load
from web_server import client_of

from molar.shop import Shop
from molar_indexes.generations import list_generations, rollback
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.app import application
from molar_serving.service import Service

TURNS = int(os.environ.get("MOLAR_TEST_TURNS", "8"))
"""Publications and rollbacks under load; 50 for the full strength."""
RATE = 200 if "MOLAR_TEST_TURNS" in os.environ else 50
FILES = Path("/proc/self/fd")
BODY = {"user_id": "user 7", "k": 5, "fields": ["mark"]}


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "shop").mkdir()
    found = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    release(found, 1, "exact").close()
    return found


def damage(workspace: Workspace) -> None:
    """Change one byte, and no size."""
    folder, _ = workspace["generations"].require()
    with (folder / "table.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def until(what) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def answering(client: httpx.Client) -> str:
    return client.post("/v1/recommendations", json=BODY).json()["generation"]


def test_a_damaged_generation_never_answers_and_the_former_goes_on(workspace):
    with client_of(workspace.root) as client:
        first = answering(client)
        release(workspace, 2, "exact").close()
        damage(workspace)
        until(lambda: client.get("/v1/status").json()["refused"])
        told = client.post("/v1/recommendations", json=BODY).json()
        assert told["generation"] == first
        assert "is damaged: table.safetensors was changed" in told["notes"][0]
        with release(workspace, 3, "exact") as third:
            until(lambda: answering(client) == third.name)
        assert client.get("/v1/status").json()["refused"] is None


def test_it_is_ready_only_once_every_byte_was_read(workspace, monkeypatch):
    """It lives meanwhile; a generation that is damaged is never ready, and one that is published then is."""
    reading, go = threading.Event(), threading.Event()
    read = Service._whole

    def slowly(self: Service, generation) -> None:
        reading.set()
        assert go.wait(30)
        read(self, generation)

    monkeypatch.setattr(Service, "_whole", slowly)
    monkeypatch.setattr("molar_serving.service._AGAIN_DAMAGED", 0.05)
    damage(workspace)
    app = application(Service(Shop(None, workspace.root)))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert reading.wait(30)
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
        go.set()
        until(lambda: "table.safetensors was changed" in client.get("/health/ready").json()["reason"])
        assert client.post("/v1/recommendations", json=BODY).status_code == 503
        release(workspace, 2, "exact").close()
        until(lambda: client.get("/health/ready").status_code == 200)


@pytest.mark.alone
def test_publications_and_rollbacks_under_load(workspace, record_property):
    """Every answer is of one generation, none is an error, and files and memory stay what they were."""
    service = Service(Shop(None, workspace.root))
    app = application(service)

    def turn(number: int, publishing: bool = True) -> tuple[str, float]:
        """Something else goes live; its name, and the seconds until it answers."""
        if number % 2 or not publishing:
            live = workspace["generations"].pointer
            other = next(one.name for one in reversed(list_generations(workspace)) if one.name != live)
            name, began = rollback(workspace, other).name, time.perf_counter()
        else:
            with release(workspace, number + 2, "exact") as published:
                name, began = published.name, time.perf_counter()
        until(lambda: service.recommender.generation.name == name)
        return name, time.perf_counter() - began

    async def run() -> tuple[Outcome, list[Outcome], list[tuple[str, float]], list[tuple[int, int]]]:
        turns, sizes = [], []
        async with app.router.lifespan_context(app):
            while (await ask(app, "/v1/recommendations", BODY))[0] != 200:
                await asyncio.sleep(0.02)
            for _ in range(2):  # what is read at first use
                turns.append(await asyncio.to_thread(turn, len(turns)))

            async def switch(publishing: bool) -> None:
                for _ in range(TURNS):
                    turns.append(await asyncio.to_thread(turn, len(turns), publishing))
                    await asyncio.sleep(0.1)
                    sizes.append((len(list(FILES.iterdir())), resident()))

            alone, outcomes = await load(app, lambda _: BODY, RATE, 1), []
            for publishing in (True, False):
                outcome, switching = Outcome(kept=mark_of), asyncio.create_task(switch(publishing))
                while not switching.done():
                    await load(app, lambda _: BODY, RATE, 0.5, outcome=outcome)
                await switching
                outcomes.append(outcome)
        return alone, outcomes, turns, sizes

    alone, outcomes, turns, sizes = asyncio.run(run())
    assert {status for outcome in outcomes for status in outcome.seconds} == {200}
    marks: dict[str, set[int]] = {}
    for generation, own in [one for outcome in outcomes for one in outcome.bodies]:
        assert len(own) == 1
        marks.setdefault(generation, set()).update(own)
    assert all(len(own) == 1 for own in marks.values())
    assert len(marks) >= TURNS // 2
    files, memory = [count for count, _ in sizes], [size for _, size in sizes]
    assert max(files[len(files) // 2 :]) <= max(files[: len(files) // 2])
    assert max(memory) - memory[0] < 30 << 20
    slowest = max(seconds for _, seconds in turns[TURNS + 2 :])
    p99 = [f"{1e3 * one.quantile(0.99):.1f}" for one in (alone, *outcomes)]
    record_property(
        "measured",
        f"{sum(one.count(200) for one in outcomes)} answers, {len(turns)} turns, back in {slowest:.2f} s at most, "
        f"{(max(memory) - memory[0]) / 1e6:.0f} MB more; p99 {p99[0]} ms, {p99[1]} while this process publishes, "
        f"{p99[2]} while it only switches",
    )
    assert RATE < 200 or slowest <= 1


def mark_of(told: dict) -> tuple[str, frozenset[int]]:
    """The generation that a list says it is of, and those that its items are of."""
    return told["generation"], frozenset(item["fields"]["mark"] for item in told["items"])


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_servers_that_start_while_generations_are_published_answer_from_one_of_them(workspace):
    """Each is ready in the end, from a whole generation, and follows to the last one."""
    done, names, seen, started = threading.Event(), [workspace["generations"].pointer], set(), 0

    def publishing() -> None:
        for mark in range(2, 200):
            if done.is_set():
                return
            with release(workspace, mark, "exact", keep=1) as made:
                names.append(made.name)

    thread = threading.Thread(target=publishing)
    thread.start()
    try:
        while started < 4 or (len(names) <= 4 and thread.is_alive()):
            with client_of(workspace.root) as client:
                told = client.post("/v1/recommendations", json=BODY).json()
                started += 1
                seen.add(told["generation"])
                assert len({item["fields"]["mark"] for item in told["items"]}) == 1
                assert not any("damaged" in note for note in told["notes"])
    finally:
        done.set()
        thread.join()
    assert seen <= set(names)
    assert len(names) > 4
    with client_of(workspace.root) as client:
        assert answering(client) == names[-1]
