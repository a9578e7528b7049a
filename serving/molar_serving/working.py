"""Answers are computed in threads, a bounded number of them; what comes beyond that is told to come later.

A queue is welcome as long as it is a burst. The longer it is, or the longer it stands, the less goes into an answer.
Where it stands all the same, more is asked than can be answered, and a queue would only make everybody late: then
those are taken for whom a thread is free, and the others hear so at once, until nobody had to be refused for a second
(the controlled delay of Nichols and Jacobson, ACM Queue 2012, as Maurer has it for servers: "Fail at Scale", ACM Queue
2015).
"""

import asyncio
import math
import time
from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

from molar_serving.problems import ProblemError
from molar_serving.threads import HandedOver, Threads

Answered = TypeVar("Answered")
_WEIGHT = 0.05  # of the last one, in the mean time of an answer
_STANDING = 0.3  # seconds for which a queue may stand
_REASONS, _SECOND_STAGE = 0.25, 0.5  # of what a queue may be: what is left out from there on
_OVER = 1.0  # seconds without a refusal after which an overload is over


TOO_MUCH = "more is asked than can be answered", "ask again later"
"""What somebody is told who has to come later, and the remedy."""


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
