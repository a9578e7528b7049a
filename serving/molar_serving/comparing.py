"""Work that takes seconds, as lists of many people are made twice: one at a time, beside the threads that answer."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from molar_serving.problems import ProblemError

Found = TypeVar("Found")
_busy = threading.Lock()


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
