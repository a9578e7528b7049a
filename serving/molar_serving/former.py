"""Generations that are live no more, opened for the next pages of lists that they began."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molar_retrieval.errors import MolarError

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender

_MOST = 2  # that are open at once
_IDLE = 60.0  # seconds after which one is closed that nobody asks


@dataclass
class _Open:
    recommender: "Recommender"
    askers: int = 0
    asked: float = 0.0


class FormerGenerations:
    """Lends former generations; ``opened`` opens one by its name, or raises a MolarError."""

    def __init__(self, opened: "Callable[[str], Recommender]") -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    @contextmanager
    def lent(self, name: str) -> "Iterator[Recommender | None]":
        """What answers from a generation; None where it cannot be opened any more."""
        with self._lock:
            one = self._found(name)
            if one is not None:
                one.askers += 1
        try:
            yield None if one is None else one.recommender
        finally:
            if one is not None:
                with self._lock:
                    one.askers, one.asked = one.askers - 1, time.monotonic()
                self.release()

    def release(self, *, everything: bool = False) -> None:
        """Close what nobody has asked for a while, so that it may be removed from the disk; or all."""
        with self._lock:
            idle = sorted((one.asked, name) for name, one in self._open.items() if not one.askers)
            too_many = len(self._open) - _MOST
            for place, (asked, name) in enumerate(idle):
                if everything or place < too_many or asked + _IDLE < time.monotonic():
                    self._open.pop(name).recommender.close()

    def _found(self, name: str) -> _Open | None:
        if name not in self._open:
            try:
                self._open[name] = _Open(self._opened(name))
            except MolarError:
                return None
        return self._open[name]
