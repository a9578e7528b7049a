"""Deadlines and overload: what is left out, in which order, who is told to come later, and how long the others wait."""

import asyncio
import os
import threading
import time
from collections import Counter

import pytest
from web_load import Outcome, ask, load
from web_server import client_of

from molar.shop import Shop
from molar_serving import lists
from molar_serving.app import application
from molar_serving.overload import Effort, LateError, Working
from molar_serving.problems import ProblemError
from molar_serving.service import Service

SECONDS = float(os.environ.get("MOLAR_TEST_OVERLOAD", "1.5"))
"""How long each load lasts; 600 for ten minutes."""


@pytest.fixture(scope="module")
def client(trained):
    with client_of(trained.workspace) as client:
        yield client


def test_a_list_that_would_be_late_is_the_popular_one_of_the_same_filter(client, trained):
    body = {"user_id": trained.user, "k": 4, "where": "price < 40", "fields": ["price"]}
    in_time = client.post("/v1/recommendations", json=body, headers={"prefer": "wait=5"}).json()
    assert in_time["basis"] == "aligned"
    told = client.post("/v1/recommendations", json=body, headers={"prefer": "wait=0ms"}).json()
    assert told["basis"] == "popularity"
    assert len(told["items"]) == 4
    assert max(item["fields"]["price"] for item in told["items"]) < 40
    (note,) = told["notes"]
    assert "would not be there in time" in note
    gone = [item["item_id"] for item in told["items"]]
    more = {**body, "exclude": gone[:2]}
    told = client.post("/v1/recommendations", json=more, headers={"prefer": "wait=0ms"}).json()
    assert not {item["item_id"] for item in told["items"]} & set(gone[:2])


def test_the_popular_list_leaves_out_what_its_person_had_where_there_is_time(client, trained, monkeypatch):
    def late(**body):
        told = client.post("/v1/recommendations", json=body).json()
        assert told["basis"] == "popularity"
        return [item["item_id"] for item in told["items"]]

    done = Working.do

    async def popular_alone(working, do, by=None):
        if by is not None:
            raise LateError(503, "it is late")
        return await done(working, do)

    everybody = late(user_id="somebody-new", k=100)
    monkeypatch.setattr(Working, "do", popular_alone)
    left = late(user_id=trained.user, k=100)
    assert left == [item for item in everybody if item in left] != everybody
    assert late(user_id=trained.user, k=100, filter_seen=False) == everybody
    assert late(session=everybody[:2], k=3) == everybody[2:5]
    monkeypatch.setattr(lists, "_can_wait", lambda call: False)
    assert late(user_id=trained.user, k=100) == everybody


class Blocked:
    """Threads that are kept busy until they are let go."""

    def __init__(self, threads: int, waiting: int, **more: object) -> None:
        self.working, self._go, self._tasks = Working(threads, waiting, **more), threading.Event(), []

    async def add(self, count: int) -> None:
        self._tasks += [asyncio.create_task(self.working.do(self._go.wait)) for _ in range(count)]
        await asyncio.sleep(0)

    async def release(self) -> list[bool]:
        self._go.set()
        return await asyncio.gather(*self._tasks)


@pytest.mark.alone
def test_first_the_reasons_go_then_the_second_stage_then_requests():
    async def run() -> None:
        refusals = []
        blocked = Blocked(2, 16, refusing=lambda: refusals.append(1))
        working = blocked.working
        efforts = []
        for _ in range(18):
            efforts.append(working.effort)
            await blocked.add(1)
        assert efforts == sorted(efforts, reverse=True)
        assert [efforts.count(one) for one in (Effort.FULL, Effort.WITHOUT_REASONS, Effort.FIRST_STAGE)] == [6, 4, 8]
        with pytest.raises(ProblemError, match="more is asked") as refused:
            await working.do(lambda: None)
        assert (refused.value.status, refusals) == (503, [1])
        assert int(refused.value.headers["Retry-After"]) >= 1
        assert working.overloaded
        assert await blocked.release() == [True] * 18
        assert await working.do(lambda: 7) == 7  # nobody waits: it is taken, with little effort as yet
        assert working.effort is Effort.FIRST_STAGE
        working.close()

    asyncio.run(run())


@pytest.mark.alone
def test_a_queue_that_stands_is_an_overload_but_not_of_those_who_are_patient(monkeypatch):
    monkeypatch.setattr("molar_serving.overload._STANDING", 0.02)

    async def run(patient: bool) -> list[str]:
        blocked = Blocked(1, 16, patient=patient)
        await blocked.add(3)
        await asyncio.sleep(0.03)
        told = []
        try:
            await asyncio.wait_for(blocked.working.do(lambda: None), 0.05)
        except ProblemError as error:
            told = [error.detail]
        except TimeoutError:
            told = ["it waits"]
        await blocked.release()
        blocked.working.close()
        return told

    assert asyncio.run(run(False)) == ["more is asked than can be answered"]
    assert asyncio.run(run(True)) == ["it waits"]


@pytest.mark.alone
def test_who_cannot_be_answered_in_time_hears_it_in_time():
    async def run() -> None:
        blocked = Blocked(1, 16)
        await blocked.add(1)
        began, computed = time.perf_counter(), []
        with pytest.raises(LateError):
            await blocked.working.do(lambda: computed.append(1), began + 0.05)
        assert 0.04 < time.perf_counter() - began < 1
        blocked.working.seconds = 10.0  # now it is known beforehand
        began = time.perf_counter()
        with pytest.raises(LateError):
            await blocked.working.do(lambda: computed.append(1), began + 5)
        assert time.perf_counter() - began < 1
        await blocked.release()
        blocked.working.close()
        assert computed == []

    asyncio.run(run())


def without_reasons(told: dict) -> bool:
    return any("reasons are left out" in note for note in told["notes"])


@pytest.mark.alone
def test_ten_times_what_can_be_answered(trained, record_property):
    """Those that are taken wait for one other at most; the others hear so at once, and nobody gets an error."""
    service = Service(Shop(None, trained.workspace))
    app = application(service)
    body, queues = {"user_id": trained.user, "explain": True}, Counter()

    def watched(_: int) -> dict[str, object]:
        queues[service.answers.queue] += 1
        return body

    async def run() -> None:
        async with app.router.lifespan_context(app):
            while (await ask(app, "/v1/recommendations", body))[0] != 200:
                await asyncio.sleep(0.02)
            alone = await load(app, lambda _: body, 20, SECONDS)
            capacity, began = 0, time.perf_counter()
            while time.perf_counter() - began < 1:
                capacity += (await ask(app, "/v1/recommendations", body))[0] == 200
            for _ in range(20):  # it takes a moment until an overload is known as one
                if (await load(app, lambda _: body, 10 * capacity, 0.5)).count(503):
                    break
            for _ in range(5):  # what others do on the machine may end after the capacity was measured, or begin
                queues.clear()
                loaded = await load(app, watched, 10 * capacity, SECONDS, outcome=Outcome(kept=without_reasons))
                if loaded.count(503) > 3 * loaded.count(200):
                    break
        assert loaded.seconds.keys() == {200, 503}
        assert loaded.count(503) > loaded.count(200) > 0
        assert 2 * sum(loaded.bodies) > len(loaded.bodies)
        ratio, threads = loaded.quantile(0.99) / alone.quantile(0.99), service.settings.serve.threads
        standing = sum(times for queue, times in queues.items() if queue > threads) / queues.total()
        words = f"{loaded.count(200)} accepted, {loaded.count(503)} shed; p99 {1e3 * loaded.quantile(0.99):.2f} ms"
        words += f", {1e3 * alone.quantile(0.99):.2f} ms idle: {ratio:.2f} times; the longest queue was {max(queues)}"
        words += f", more than {threads} at {100 * standing:.3f} % of the requests"
        record_property("measured", words)
        print(words)  # noqa: T201 - `pytest -s` shows it
        # What a few seconds on a busy machine can tell.
        assert max(queues) <= threads, words
        assert SECONDS < 60 or ratio <= 2, words

    asyncio.run(run())
