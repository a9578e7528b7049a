"""What is counted of a log, block by block of users."""

import numpy as np
import numpy.typing as npt

from molar_retrieval.quality.log.days import Calendar
from molar_retrieval.quality.log.moments import DAY
from molar_retrieval.quality.log.rows import Ints, UserBlock

_NEVER = np.iinfo(np.int64).max


class Tally:
    """Counts; times that are none (``stuck``) do not count by day, and nothing does without a ``span`` (microseconds).

    Attributes:
        users, items: Interactions of each user and of each item, shape (users,) and (items,).
        users_first, items_first: Each one's first time, later than any where there is none; ``users_last``: 0 there.
        steps: Pairs of neighbours in a user's history.
        ties: Those of one time; ``placed``: of these, those that a position puts in order.
        again: Interactions with an item that the user had before; ``again_at_once``: just before.
    """

    def __init__(self, users: int, items: int, span: tuple[int, int] | None, stuck: Ints) -> None:
        self.users = np.zeros(users, np.int64)
        self.items = np.zeros(items, np.int64)
        self.users_first = np.full(users, _NEVER)
        self.users_last = np.zeros(users, np.int64)
        self.items_first = np.full(items, _NEVER)
        self.steps = self.ties = self.placed = self.again = self.again_at_once = 0
        self._stuck = stuck
        self._day = 0 if span is None else span[0] // DAY
        days = 0 if span is None else span[1] // DAY - self._day + 1
        self._interactions = np.zeros(days, np.int64)
        self._active = np.zeros(days, np.int64)

    def add(self, block: UserBlock) -> None:
        """Take a block."""
        log, lengths = block.log, np.diff(block.starts)
        self.users[block.who] += lengths
        self.items += np.bincount(log.item, minlength=len(self.items))
        pairs = block.user * len(self.items) + log.item
        pairs.sort()
        self.again += int((pairs[1:] == pairs[:-1]).sum())
        steps = block.steps
        self.steps += int(steps.sum())
        self.again_at_once += int((steps & (log.item[1:] == log.item[:-1])).sum())
        if log.micros is not None:
            self._add_times(block, steps)

    def _add_times(self, block: UserBlock, steps: npt.NDArray[np.bool_]) -> None:
        log, micros = block.log, block.times
        tied = steps & (micros[1:] == micros[:-1])
        self.ties += int(tied.sum())
        if log.position is not None:
            self.placed += int((tied & (log.position[1:] > log.position[:-1])).sum())
        self.users_first[block.who] = micros[block.starts[:-1]]
        self.users_last[block.who] = micros[block.starts[1:] - 1]
        np.minimum.at(self.items_first, log.item, micros)
        if len(self._active):
            self._add_dates(block, steps)

    def _add_dates(self, block: UserBlock, steps: npt.NDArray[np.bool_]) -> None:
        days = block.times // DAY - self._day
        new_day = np.append(True, ~steps | (days[1:] != days[:-1]))
        if len(self._stuck):
            real = ~np.isin(block.times, self._stuck)
            days, new_day = days[real], new_day[real]
        self._interactions += np.bincount(days, minlength=len(self._active))
        self._active += np.bincount(days[new_day], minlength=len(self._active))

    @property
    def calendar(self) -> Calendar | None:
        """By day; None for a log without dates."""
        if not len(self._active):
            return None
        return Calendar(int(self._day), self._interactions, self._active)
