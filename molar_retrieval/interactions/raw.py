"""A log as its file has it, in arrays: put in order, and without exact repetitions, some users at a time.

A log may take most of the memory there is. So its columns are rearranged one after the other, in place.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.log import _BLOCK, InteractionLog, counts

Places = npt.NDArray[np.integer]



@dataclass(frozen=True)
class RawLog:
    """Interactions as arrays of one length, in the order of the file; None for what the log does not have.

    Users and items are row numbers, times are microseconds since 1970, positions (NaN where missing) are the order
    within one time, and events are codes of their kinds. How strong a kind is, says :class:`InteractionLog`. The
    ``number`` is that of the event log, 0 for what only the file has, and ``order`` a code of its order's id, or -1.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    micros: npt.NDArray[np.int64] | None
    position: npt.NDArray[np.float64] | None
    weight: npt.NDArray[np.float32] | None
    event: npt.NDArray[np.int32] | None
    strength: npt.NDArray[np.float32] | None = None
    number: npt.NDArray[np.int64] | None = None
    order: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.user)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that there are, by name."""
        return {f.name: values for f in fields(self) if (values := getattr(self, f.name)) is not None}

    def take(self, rows: Any) -> "RawLog":
        """Some rows, by index or mask, in the order given."""
        return replace(self, **{name: values[rows] for name, values in self.columns.items()})

    def without(self, rows: npt.NDArray[np.int64]) -> "RawLog":
        """All rows but these; itself where there are none."""
        keep = np.ones(len(self), bool)
        keep[rows] = False
        return self.take(keep) if len(rows) else self

    def grouped(self, users: IdMap, items: IdMap) -> InteractionLog:
        """An ordered log, ready for use: times in seconds."""
        return InteractionLog(
            users=users,
            items=items,
            offsets=np.concatenate([[0], np.cumsum(counts(self.user, len(users)))]),
            item=self.item,
            timestamp=np.zeros(len(self), np.int64) if self.micros is None else self.micros // 1_000_000,
            weight=self.weight,
            strength=self.strength,
        )


def ordered(raw: RawLog) -> RawLog:
    """The log itself, its arrays by user, then time, then position, then order in the file.

    A missing position comes after the given ones.
    """
    if not len(raw):
        return raw
    of_user = counts(raw.user, int(raw.user.max()) + 1)
    places = counting_sort(raw.user, len(of_user))
    keys = [key for key in (raw.position, raw.micros) if key is not None]
    for begin, end in whole_users(np.append(0, np.cumsum(of_user))) if keys else ():
        rows = places[begin:end]
        places[begin:end] = rows[np.lexsort([key[rows] for key in (*keys, raw.user)])]
    for column in raw.columns.values():
        moved = np.empty_like(column)
        for begin in range(0, len(column), _BLOCK):
            moved[begin : begin + _BLOCK] = column[places[begin : begin + _BLOCK]]
        column[:] = moved
        del moved  # before there is the next one
    return raw


def without_duplicates(log: RawLog) -> RawLog:
    """An ordered log without exact repetitions: same user, item, time and event; the first one stays.

    A log without times has no repetitions in this sense: only its order tells its interactions apart. The arrays are
    the beginnings of the log's own.
    """
    keep = np.ones(len(log), bool)
    keep[repetitions(log)] = False
    for column in log.columns.values():
        there = 0
        for begin in range(0, len(column), _BLOCK):
            part = column[begin : begin + _BLOCK][keep[begin : begin + _BLOCK]]
            column[there : there + len(part)] = part
            there += len(part)
    return log.take(slice(np.count_nonzero(keep)))


def repetitions(log: RawLog) -> npt.NDArray[np.int64]:
    """Which rows of an ordered log repeat an earlier one exactly: same user, item, time and event."""
    found: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    if log.micros is not None and len(log):
        borders = np.concatenate([[0], np.flatnonzero(log.user[1:] != log.user[:-1]) + 1, [len(log)]])
        found += [begin + _repetitions(log.take(slice(begin, end))) for begin, end in whole_users(borders)]
    return np.concatenate(found)


def _repetitions(log: RawLog) -> npt.NDArray[np.int64]:
    assert log.micros is not None
    border = np.append(True, (log.user[1:] != log.user[:-1]) | (log.micros[1:] != log.micros[:-1]))
    moment = np.cumsum(border)
    tied = np.flatnonzero(~(border & np.append(border[1:], True)))
    keys = [values[tied] for values in (moment, log.item, log.event) if values is not None]
    order = np.lexsort(keys[::-1])  # stable: equal rows stay in their order
    same = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        same &= key[order][1:] == key[order][:-1]
    repeated = np.zeros(len(order), bool)
    repeated[order[1:][same]] = True
    return tied[repeated]


def counting_sort(user: npt.NDArray[np.int32], users: int) -> Places:
    """The order by user that keeps equal ones in their order; a sparse matrix is made row by row in just this way."""
    from scipy.sparse import coo_array

    n = len(user)
    cells = (np.ones(n, np.int8), (user, np.arange(n, dtype=np.int32 if n < 1 << 31 else np.int64)))
    return np.asarray(coo_array(cells, shape=(users, n)).tocsr().indices)


def whole_users(offsets: Places, size: int = _BLOCK) -> Iterator[tuple[int, int]]:
    """Ranges of an ordered log with all of their users' interactions, about ``size`` of them."""
    first, users = 0, len(offsets) - 1
    while first < users:
        end = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        end = min(max(end, first + 1), users)
        yield int(offsets[first]), int(offsets[end])
        first = end
