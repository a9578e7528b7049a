"""Threads that an event loop hands work to, and background threads that are started again."""

import asyncio
import threading
import time

import pytest

from molar_retrieval.workspace.threads import BackgroundThread, on_death, threads_down
from molar_serving.overload import HandedOver, Threads


def computed(most, use):
    """What comes of using some threads, and what they told of each task."""

    async def run():
        told = []
        threads = Threads(most, "one", told.append)
        try:
            return await asyncio.wait_for(use(threads), 30), told
        finally:
            threads.close()

    return asyncio.run(run())


def submitted(threads, work):
    task = HandedOver(work)
    threads.submit(task)
    return task


def test_values_and_errors_come_back_and_who_worked_last_works_next():
    async def use(threads):
        go = threading.Event()
        both = [submitted(threads, lambda: go.wait() and threading.current_thread().name) for _ in range(2)]
        go.set()
        names = {await one.outcome for one in both}
        last = await submitted(threads, lambda: threading.current_thread().name).outcome
        again = [await submitted(threads, lambda: threading.current_thread().name).outcome for _ in range(20)]
        with pytest.raises(ZeroDivisionError):
            await submitted(threads, lambda: 1 / 0).outcome
        return names, last, set(again), threads.under_way

    (names, last, again, under_way), told = computed(2, use)
    assert names == {"one-0", "one-1"}
    assert again == {last}
    assert (under_way, len(told)) == (0, 24)
    assert all(seconds >= 0 for seconds in told)


def test_what_waits_comes_in_order_unless_it_is_withdrawn():
    async def use(threads):
        go, order = threading.Event(), []
        first = submitted(threads, go.wait)
        tasks = [submitted(threads, lambda n=n: order.append(n)) for n in range(4)]
        assert threads.under_way == 5
        threads.withdraw(tasks[1])
        threads.withdraw(first)  # it has begun
        assert threads.under_way == 4
        go.set()
        assert await first.outcome
        await tasks[3].outcome
        return order

    order, told = computed(1, use)
    assert order == [0, 2, 3]
    assert told.count(None) == 1
    assert len(told) == 5


def test_closing_waits_for_what_is_computed_and_cancels_what_waits():
    async def use(threads):
        go, done = threading.Event(), []
        submitted(threads, lambda: done.append(go.wait()))
        waits = submitted(threads, lambda: done.append("never"))
        closing = asyncio.create_task(asyncio.to_thread(threads.close))
        with pytest.raises(asyncio.CancelledError):
            await waits.outcome
        go.set()
        await closing
        with pytest.raises(RuntimeError):
            threads.submit(HandedOver(lambda: None))
        return done, threads.under_way

    (done, under_way), _ = computed(1, use)
    assert (done, under_way) == ([True], 0)


def test_a_background_thread_that_dies_is_named_counted_and_started_again():
    died, worked, end = [], [], threading.Event()

    def work():
        worked.append(threads_down())
        if len(worked) == 1:
            raise SystemExit("gone")
        end.wait(30)

    stop = on_death(died.append)
    thread = BackgroundThread("one of the test", work)
    thread.start()
    try:
        limit = time.monotonic() + 30
        down = []
        while len(worked) < 2 and time.monotonic() < limit:
            down += threads_down()
            time.sleep(0.01)
        assert "one of the test" in down
        assert (died, worked, thread.alive) == (["one of the test"], [[], []], True)
    finally:
        end.set()
        thread.join()
        stop()
    assert not thread.alive
    assert threads_down() == []
