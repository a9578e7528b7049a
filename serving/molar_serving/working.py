"""Answers are computed in threads, a bounded number of them: what comes beyond that is told to come later."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from molar_serving.problems import ProblemError

Answered = TypeVar("Answered")
_WEIGHT = 0.05  # of the last one, in the mean time of an answer


class Working:
    """Threads that compute, and who waits for them.

    Attributes:
        seconds: Mean time of an answer, the latest ones counting most.
    """

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads, self._most = threads, threads + waiting
        self._pool = ThreadPoolExecutor(threads, "answer")
        self._under_way = 0
        self.seconds = 0.002

    @property
    def load(self) -> float:
        """How full it is: 0 where nobody waits, 1 where nobody else may."""
        return max(0, self._under_way - self._threads) / (self._most - self._threads)

    def wait(self) -> float:
        """Seconds that the next one will wait, about."""
        return max(0, self._under_way - self._threads + 1) * self.seconds / self._threads

    async def do(self, work: Callable[[], Answered]) -> Answered:
        """The outcome of a function, computed in a thread; a ProblemError where too many wait already."""
        if self._under_way >= self._most:
            raise ProblemError(
                503, "more is asked than can be answered", "ask again later", headers={"Retry-After": "1"}
            )
        self._under_way += 1
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, self._timed, work)
        finally:
            self._under_way -= 1

    def _timed(self, work: Callable[[], Answered]) -> Answered:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds += _WEIGHT * (time.perf_counter() - began - self.seconds)

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)
