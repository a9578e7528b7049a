"""Where the time of a run went."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Clock:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Charge what happens inside to ``stage``."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - started

    def rounded(self) -> dict[str, float]:
        """Seconds by stage, and in total since the clock was made."""
        total = perf_counter() - self._started
        return {stage: round(seconds, 3) for stage, seconds in [*self.seconds.items(), ("total", total)]}
