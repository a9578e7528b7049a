"""Threads that an event loop hands work to, one piece each; who worked last works next, as its caches are still warm.

`concurrent.futures` and `asyncio` have the same: there a piece of work takes some ten objects and five locks, and idle
threads take turns.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from molar_retrieval.workspace.threads import BackgroundThread

Done = TypeVar("Done")
_log = logging.getLogger("molar.serving")


class HandedOver(Generic[Done]):
    """A function on its way through a thread, for the event loop that makes this and waits for its ``outcome``."""

    __slots__ = ("loop", "outcome", "work")

    def __init__(self, work: Callable[[], Done]) -> None:
        self.work, self.loop = work, asyncio.get_running_loop()
        self.outcome: asyncio.Future[Done] = self.loop.create_future()

    def tell(self, settle: Callable[..., object], value: object = None) -> None:
        """Settle the outcome, from another thread: by one of its methods, unless nobody waits any more."""
        with suppress(RuntimeError):  # the loop was closed
            self.loop.call_soon_threadsafe(self._settle, settle, value)

    def _settle(self, settle: Callable[..., object], value: object) -> None:
        if not self.outcome.done():
            settle(value)


class _Thread:
    __slots__ = ("given", "thread", "wake")

    def __init__(self, work: Callable[["_Thread"], None], name: str) -> None:
        self.given: HandedOver[Any] | None = None  # what it is woken for; None: to end
        self.wake = threading.Lock()
        self.wake.acquire()
        self.thread = BackgroundThread(name, lambda: work(self))
        self.thread.start()


class Threads:
    """A bounded number of threads, each started when it is needed for the first time; open until :meth:`close`.

    Args:
        most: How many.
        name: What they are called.
        through: Told of each task that is through, before whoever waits for it: the seconds that it took, or None where
            it was withdrawn.

    Attributes:
        under_way: Tasks that are computed or wait.
    """

    def __init__(self, most: int, name: str, through: Callable[[float | None], None] = lambda seconds: None) -> None:
        self._most, self._name, self._through = most, name, through
        self._lock = threading.Lock()
        self._all: list[_Thread] = []
        self._idle: list[_Thread] = []
        self._waiting: deque[HandedOver[Any]] = deque()
        self._closed = False
        self.under_way = 0

    def submit(self, task: HandedOver[Any]) -> None:
        """Have a task computed, after those that wait."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads have ended")
            self.under_way += 1
            if self._idle:
                one = self._idle.pop()
            elif len(self._all) < self._most:
                one = _Thread(self._work, f"{self._name}-{len(self._all)}")
                self._all.append(one)
            else:
                self._waiting.append(task)
                return
            one.given = task
        one.wake.release()

    def withdraw(self, task: HandedOver[Any]) -> None:
        """Leave a task that waits uncomputed; one that is being computed comes to its end."""
        with self._lock:
            if task not in self._waiting:
                return
            self._waiting.remove(task)
            self.under_way -= 1
        self._through(None)

    def close(self) -> None:
        """Wait for what is computed; what waits is cancelled."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            waiting, self._waiting = self._waiting, deque()
            self.under_way -= len(waiting)
        for task in waiting:
            task.tell(task.outcome.cancel)
        for one in idle:
            one.wake.release()
        for one in self._all:
            one.thread.join()

    def _work(self, one: _Thread) -> None:
        while True:
            one.wake.acquire()
            task, one.given = one.given, None
            if task is None:
                return
            while task is not None:
                task = self._compute(one, task)

    def _compute(self, one: _Thread, task: HandedOver[Any]) -> HandedOver[Any] | None:
        """Compute a task; the next one, or None where none waits."""
        began, settle, value = time.perf_counter(), task.outcome.set_result, None
        try:
            value = task.work()
        except BaseException as error:  # whatever it is, it is for who waits
            settle, value = task.outcome.set_exception, error
        seconds = time.perf_counter() - began
        with self._lock:
            self.under_way -= 1
            following = self._waiting.popleft() if self._waiting else None
            if self._closed:
                one.wake.release()  # to end
            elif following is None:
                self._idle.append(one)
        try:
            self._through(seconds)
        except Exception:  # who waits is told nevertheless
            _log.exception("the end of a task could not be counted")
        task.tell(settle, value)
        return following
