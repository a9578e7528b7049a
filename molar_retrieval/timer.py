"""What work takes: by the clock, and of the processors."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and seconds of all processors, those of finished child processes too."""

    seconds: float = 0.0
    processor: float = 0.0

    def __add__(self, other: "Took") -> "Took":
        return Took(self.seconds + other.seconds, self.processor + other.processor)

    def __sub__(self, other: "Took") -> "Took":
        return Took(self.seconds - other.seconds, self.processor - other.processor)

    def __mul__(self, factor: float) -> "Took":
        return Took(self.seconds * factor, self.processor * factor)


class Timer:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._begun = _now()

    @property
    def took(self) -> Took:
        """What went by since then."""
        return _now() - self._begun


def timed(work: Callable[[], object]) -> Took:
    """What a work takes."""
    watch = Timer()
    work()
    return watch.took


def _now() -> Took:
    used = os.times()
    return Took(time.perf_counter(), used.user + used.system + used.children_user + used.children_system)
