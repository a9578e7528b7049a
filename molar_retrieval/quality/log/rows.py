"""The raw log as arrays: every row that can be read, with its number in the file."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.interactions.raw import RawLog, counting_sort, repetitions, whole_users

BLOCK = 1 << 22  # About how many interactions are looked at together

Ints = npt.NDArray[np.int64]


@dataclass
class LogRows:
    """Interactions as arrays of one length; items that the catalogue lacks have numbers after those that it has.

    Users are numbered by first appearance, rows of the file from 1; ``micros`` are microseconds since 1970;
    ``position`` is the order within one time, NaN where missing; ``event`` codes its kind. None: no such column.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    number: npt.NDArray[np.uint32]
    micros: Ints | None = None
    position: npt.NDArray[np.float64] | None = None
    event: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.user)

    def keep(self, rows: npt.NDArray[Any]) -> None:
        """Keep some rows, by index or mask, in the order given; memory never holds two of more than one column."""
        for field in fields(self):
            if (values := getattr(self, field.name)) is not None:
                setattr(self, field.name, values[rows])

    def chosen(self, rows: Any) -> "LogRows":
        """Some rows, by index, slice or mask."""
        return LogRows(**{name: values[rows] for name, values in vars(self).items() if values is not None})

    def first_rows(self, users: int) -> npt.NDArray[np.uint32]:
        """The row of the file in which each user comes first, of a log in the file's order; 0: in none."""
        first = np.zeros(users, np.uint32)
        first[self.user[::-1]] = self.number[::-1]  # of several values for one place the last one stays
        return first

    def repeated(self) -> Ints:
        """Which rows of an ordered log repeat an earlier one exactly: same user, item, time and event."""
        return repetitions(RawLog(self.user, self.item, self.micros, self.position, None, self.event))

    def order_by_user(self, users: int) -> Ints:
        """Order by user, then time, then position, then row; the borders between users, shape (users + 1,).

        A sort by time, where the file has another order, then a counting sort by user: less than half the time of one
        sort by both.
        """
        offsets = np.concatenate([[0], np.cumsum(np.bincount(self.user, minlength=users), dtype=np.int64)])
        if self.micros is not None and not _ascending(self.micros):
            self.keep(np.argsort(self.micros, kind="stable").astype(np.int32))
        if not _ascending(self.user):
            self.keep(counting_sort(self.user, users))
        if self.position is not None and len(self):
            self.keep(_by_position(self, self.position))
        return offsets


@dataclass(frozen=True)
class UserBlock:
    """The interactions of some users, in order.

    ``who`` are the users that have any; ``starts`` where each of these begins, and the end: shape (users + 1,);
    ``user`` is each interaction's place in ``who``.
    """

    log: LogRows
    who: npt.NDArray[np.int32]
    starts: Ints
    user: Ints

    @classmethod
    def of(cls, log: LogRows) -> "UserBlock":
        """The block of an ordered log."""
        border = _changes(log.user)
        starts = np.flatnonzero(border)
        return cls(log, log.user[starts], np.append(starts, len(log)), np.cumsum(border) - 1)

    @property
    def times(self) -> Ints:
        """Microseconds since 1970, of a log that has times."""
        assert self.log.micros is not None
        return self.log.micros

    @property
    def steps(self) -> npt.NDArray[np.bool_]:
        """For each interaction but the first of the block, whether its user has the one before, too."""
        return np.asarray(self.user[1:] == self.user[:-1])


def blocks(log: LogRows, offsets: Ints, size: int = BLOCK) -> Iterator[LogRows]:
    """Pieces of an ordered log with all of their users' interactions, about ``size`` of them."""
    for begin, end in whole_users(offsets, size):
        yield log.chosen(slice(begin, end))


def _changes(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a value is another one than that before it; the first one is."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _ascending(values: npt.NDArray[Any]) -> bool:
    steps = range(0, len(values), BLOCK)
    return all(bool((np.diff(values[start : start + BLOCK + 1].astype(np.int64)) >= 0).all()) for start in steps)


def _by_position(log: LogRows, position: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """The order that puts interactions of one user and time by their positions."""
    border = _changes(log.user)
    if log.micros is not None:
        border |= _changes(log.micros)
    tied = np.flatnonzero(~(border & np.append(border[1:], True)))
    moment = np.cumsum(border, dtype=np.int32)[tied]
    order = np.arange(len(log), dtype=np.int32)
    order[tied] = tied[np.lexsort((position[tied], moment))]
    return order
