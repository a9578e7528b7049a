"""Items that may be best-sellers that nobody sees: what is like them is taken far more, or they are hardly shown.

How often an item is taken is compared with the items that it is most like, on a logarithmic scale and by how much such
differences vary in the catalogue; most of them must be taken several times as often. They are not compared at all where
what an item is like says little about how often it is taken. Where it is known how often items were shown, that must
have been rare: what was shown as often as the others and not taken is not hidden. Nothing is said of items that came in
the last tenth of the log.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_indexes.item_map.agreement import Numbers
from molar_indexes.item_map.views import Views
from molar_retrieval.workspace.tensors import Mask, Rows

_FAR = 2.33  # standard deviations below what is like it
_TELLING = 0.3  # correlation of how often items and what is like them are taken, for anything to be said by it
_TIMES_MORE, _MOST = 5, 0.8  # how many times as often what is like it must be taken, and how much of it
_RARELY = 0.5  # of how often what is like it was shown
_SHOWN, _TIMES, _SURE = 20, 2.0, 1.96  # impressions, and how many times the rate of others a rate must surely be
_NEW = 0.1


@dataclass(frozen=True, eq=False)
class ImpressionCounts:
    """How often each item was shown, and how often it was then looked at or taken, each of shape (n,)."""

    shown: npt.NDArray[np.int64]
    taken: npt.NDArray[np.int64]


@dataclass(frozen=True)
class HiddenItem:
    """An item that sells less than what is like it, or ``wanted``: that is taken more often where it is shown.

    ``takes`` and ``others``: how many people took it, and the median of what it is most like, of which ``better`` were
    taken by at least five times as many; ``shown`` the same of how
    often they were shown, and ``rate`` of how often that led to something; None where it is not known.
    """

    row: int
    wanted: bool
    takes: int
    others: float
    better: int
    shown: tuple[int, float] | None
    rate: tuple[float, float] | None
    score: float


def hidden_items(views: Views, alike: Rows, exposure: ImpressionCounts | None) -> list[HiddenItem]:
    """Items that may deserve to be shown more, the surest first, by the rows that each is most like."""
    found = _unsold(views, alike, exposure)
    if exposure is not None:
        known = {one.row for one in found}
        found += [one for one in _wanted(views, alike, exposure) if one.row not in known]
    return sorted(found, key=lambda one: (-one.score, one.row))


def _unsold(views: Views, alike: Rows, exposure: ImpressionCounts | None) -> list[HiddenItem]:
    logs = np.log1p(views.takes)
    able = _settled(views) & (alike[:, -1] >= 0)
    if able.sum() < 2:
        return []
    around = logs[np.maximum(alike, 0)].mean(axis=1)
    if np.std(logs[able]) * np.std(around[able]) == 0 or np.corrcoef(logs[able], around[able])[0, 1] < _TELLING:
        return []
    below = logs - around
    middle = float(np.median(below[able]))
    spread = 1.4826 * float(np.median(np.abs(below[able] - middle)))
    distance = (middle - below) / np.sqrt(spread**2 + 1 / (views.takes + 1.0))
    found = []
    for row in np.flatnonzero(able & (distance > _FAR)).tolist():
        takes = _takes(views, row, alike)
        shown = None if exposure is None else _both(exposure.shown, row, alike)
        if takes[2] >= _MOST * alike.shape[1] and (shown is None or shown[0] < _RARELY * shown[1]):
            found.append(HiddenItem(row, False, *takes, shown, None, float(distance[row])))
    return found


def _wanted(views: Views, alike: Rows, exposure: ImpressionCounts) -> list[HiddenItem]:
    low = _at_least(exposure.taken, exposure.shown)
    near = np.maximum(alike, 0)
    known = (alike >= 0).astype(np.int64)
    others = (exposure.taken[near] * known).sum(axis=1) / np.maximum((exposure.shown[near] * known).sum(axis=1), 1)
    able = (exposure.shown >= _SHOWN) & (low > _TIMES * others) & (alike[:, -1] >= 0)
    found = []
    for row in np.flatnonzero(able).tolist():
        shown = _both(exposure.shown, row, alike)
        if shown[0] < _RARELY * shown[1]:
            rate = float(exposure.taken[row] / exposure.shown[row]), float(others[row])
            score = _FAR + float(np.log(low[row] / max(others[row], 1e-6)))
            found.append(HiddenItem(row, True, *_takes(views, row, alike), shown, rate, score))
    return found


def _settled(views: Views) -> Mask:
    """Which items were there before the last tenth of the log, so that people had time to take them."""
    known = views.since[views.since > 0]
    if not len(known):
        return np.asarray(views.takes > 0)
    first, last = int(known.min()), views.until
    return np.asarray((views.since > 0) & (views.since < last - _NEW * (last - first)))


def _takes(views: Views, row: int, alike: Rows) -> tuple[int, float, int]:
    """How many people took an item, the median of what it is most like, and how much of that was taken far more."""
    own, others = int(views.takes[row]), views.takes[alike[row]]
    return own, float(np.median(others)), int((others >= _TIMES_MORE * max(own, 1)).sum())


def _both(counts: npt.NDArray[np.int64], row: int, alike: Rows) -> tuple[int, float]:
    return int(counts[row]), float(np.median(counts[alike[row]]))


def _at_least(hits: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> Numbers:
    """The lower end of Wilson's interval of a share, with 95 %."""
    n = np.maximum(of, 1).astype(np.float64)
    share, square = np.minimum(hits, n) / n, _SURE**2
    half = _SURE * np.sqrt(share * (1 - share) / n + square / (4 * n**2))
    low: Numbers = (share + square / (2 * n) - half) / (1 + square / n)
    return low
