"""The order of a log, and its duplicates."""

import numpy as np
import numpy.typing as npt

from molar_retrieval.interactions.read import RawLog


def ordered(raw: RawLog) -> RawLog:
    """By user, then time, then position, then order in the file; a missing position comes after the given ones."""
    keys = [key for key in (raw.position, raw.micros, raw.user) if key is not None]
    return raw.take(np.lexsort(keys))


def without_duplicates(log: RawLog) -> RawLog:
    """An ordered log without exact repetitions: same user, item, time and event; the first one stays.

    A log without times has no repetitions in this sense: only its order tells its interactions apart.
    """
    repeated = repetitions(log)
    keep = np.ones(len(log), bool)
    keep[repeated] = False
    return log.take(keep) if len(repeated) else log


def repetitions(log: RawLog) -> npt.NDArray[np.int64]:
    """Which rows of an ordered log repeat an earlier one exactly: same user, item, time and event."""
    if log.micros is None or not len(log):
        return np.zeros(0, np.int64)
    border = np.append(True, (log.user[1:] != log.user[:-1]) | (log.micros[1:] != log.micros[:-1]))
    moment = np.cumsum(border)
    tied = np.flatnonzero(~(border & np.append(border[1:], True)))
    return tied[_repeated(moment[tied], log.item[tied], None if log.event is None else log.event[tied])]


def _repeated(
    moment: npt.NDArray[np.int64], item: npt.NDArray[np.int32], event: npt.NDArray[np.int32] | None
) -> npt.NDArray[np.bool_]:
    """Which rows have an earlier row that is equal in all three."""
    keys: list[npt.NDArray[np.integer]] = [moment, item] if event is None else [moment, item, event]
    order = np.lexsort(keys[::-1])  # stable: equal rows stay in their order
    same = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        same &= key[order][1:] == key[order][:-1]
    repeated = np.zeros(len(order), bool)
    repeated[order[1:][same]] = True
    return repeated
