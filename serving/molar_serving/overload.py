"""Answers are computed in threads, a bounded number of them; what comes beyond that is told to come later.

A queue is welcome as long as it is a burst. The longer it is, or the longer it stands, the less goes into an answer.
Where it stands all the same, more is asked than can be answered, and a queue would only make everybody late: then
those are taken for whom a thread is free, and the others hear so at once, until nobody had to be refused for a second
(the controlled delay of Nichols and Jacobson, ACM Queue 2012, as Maurer has it for servers: "Fail at Scale", ACM Queue
2015).

Threads that an event loop hands work to, one piece each; who worked last works next, as its caches are still warm.

`concurrent.futures` and `asyncio` have the same: there a piece of work takes some ten objects and five locks, and idle
threads take turns.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any, Generic, TypeVar

from molar_retrieval.workspace.threads import BackgroundThread
from molar_serving.problems import ProblemError

Done = TypeVar("Done")
_log = logging.getLogger("molar.serving")
Answered = TypeVar("Answered")
_WEIGHT = 0.05  # of the last one, in the mean time of an answer
_STANDING = 0.3  # seconds for which a queue may stand
_REASONS, _SECOND_STAGE = 0.25, 0.5  # of what a queue may be: what is left out from there on
_OVER = 1.0  # seconds without a refusal after which an overload is over
TOO_MUCH = "more is asked than can be answered", "ask again later"
"""What somebody is told who has to come later, and the remedy."""
Found = TypeVar("Found")
_busy = threading.Lock()


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


class Effort(IntEnum):
    """How much goes into an answer."""

    FULL = 2
    WITHOUT_REASONS = 1
    FIRST_STAGE = 0


class LateError(ProblemError):
    """There is no answer in time."""


class Working:
    """Threads that compute, and who waits for them; asked by one event loop.

    Args:
        threads: How many.
        waiting: How many wait for them at most.
        patient: Whether all of these may wait however long it takes, because what they bring must not be lost.
        refusing: Called for each that is told to come later.

    Attributes:
        seconds: Mean time of an answer, the latest ones counting most.
    """

    def __init__(
        self, threads: int, waiting: int, *, patient: bool = False, refusing: Callable[[], None] = lambda: None
    ) -> None:
        self._threads, self._most, self._patient = threads, threads + waiting, patient
        self._pool = Threads(threads, "answer", self._through)
        self._empty = time.perf_counter()  # when nobody waited for the last time
        self._refused_at = float("-inf")
        self.seconds = 0.002
        self._refusing = refusing

    @property
    def under_way(self) -> int:
        """How many are computed or wait."""
        return self._pool.under_way

    @property
    def queue(self) -> int:
        """How many wait."""
        return max(0, self.under_way - self._threads)

    @property
    def overloaded(self) -> bool:
        """Whether more is asked than can be answered."""
        return not self._patient and time.perf_counter() - self._refused_at < _OVER

    @property
    def load(self) -> float:
        """How full it is: 0 where nobody waits, 1 where nobody else may."""
        if self.overloaded:
            return 1.0
        if not (queue := self.queue):
            return 0.0
        stood = 0.0 if self._patient else time.perf_counter() - self._empty
        return min(1.0, max(queue / (self._most - self._threads), stood / _STANDING))

    @property
    def effort(self) -> Effort:
        """How much should go into the next answer."""
        load = self.load
        return Effort((load < _REASONS) + (load < _SECOND_STAGE))

    def wait(self) -> float:
        """Seconds that the next one will wait, about."""
        return max(0, self.under_way - self._threads + 1) * self.seconds / self._threads

    def full(self) -> bool:
        """Whether the next one has to be told to come later, which counts as told."""
        full = self.under_way >= self._threads and self.load >= 1
        if full:
            self._refused_at = time.perf_counter()
            self._refusing()
        return full

    async def do(self, work: Callable[[], Answered], by: float | None = None) -> Answered:
        """The outcome of a function, computed in a thread.

        Args:
            work: The function.
            by: The moment on the clock of ``time.perf_counter`` at which the outcome is of no use any more; None:
                there is none.

        Raises:
            LateError: If there is no outcome in time, which may be known at once.
            ProblemError: If too many wait already.
        """
        if by is not None and time.perf_counter() + self.wait() >= by:
            raise _too_late()
        if self.full():
            raise ProblemError(503, *TOO_MUCH, headers={"Retry-After": str(max(1, math.ceil(self.wait())))})
        task = HandedOver(work)
        late = None if by is None else task.loop.call_later(by - time.perf_counter(), self._late, task)
        self._pool.submit(task)
        try:
            return await task.outcome
        except asyncio.CancelledError:  # nobody waits for it any more
            self._pool.withdraw(task)
            raise
        finally:
            if late is not None:
                late.cancel()

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.close()

    def _late(self, task: HandedOver[Answered]) -> None:
        if not task.outcome.done():
            self._pool.withdraw(task)  # unless it has begun, nobody computes it
            task.outcome.set_exception(_too_late())

    def _through(self, seconds: float | None) -> None:
        if seconds is not None:
            self.seconds += _WEIGHT * (seconds - self.seconds)
        if self.under_way <= self._threads:
            self._empty = time.perf_counter()


def _too_late() -> LateError:
    return LateError(
        503, "there is no answer in time", "allow for more time, or ask later", headers={"Retry-After": "1"}
    )


async def alone(work: Callable[[], Found], *, wait: float = 0.0) -> Found:
    """The outcome of a function in a thread of its own; a ProblemError if another one is at work so long."""
    free = await asyncio.to_thread(_busy.acquire, timeout=wait) if wait else _busy.acquire(blocking=False)
    if not free:
        raise ProblemError(
            503, "lists are being compared already", "ask again in a few seconds", headers={"Retry-After": "3"}
        )

    def released() -> Found:
        try:
            return work()
        finally:
            _busy.release()

    return await asyncio.to_thread(released)
