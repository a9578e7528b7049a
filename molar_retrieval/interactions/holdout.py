"""Validation cases: the last thing some users took, kept from training."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.interactions.log import InteractionLog

LEAST = 3  # fewest interactions of a user whose last one is held out: two remain, one to read and one to predict
FEWEST_REPEATS = 100
"""Users who took something again at last, below which none of them is a case."""


@dataclass(frozen=True, eq=False)
class Holdout:
    """A split of a log into training interactions and validation cases.

    Attributes:
        training: The log without the cases; users and items keep their rows.
        users: User row of each case, ascending, shape (C,); a user may have several.
        targets: Item row of each case, something that the user took after the training interactions, shape (C,).
        times: When each case is asked, seconds since 1970 in UTC, 0 where the log has no times, shape (C,).
        known: What the user of each case had done before it, one history per case; None: the training interactions.
            Where training ends at one moment for everybody, there is more of whoever was there between it and the case.
    """

    training: InteractionLog
    users: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64]
    known: InteractionLog | None = None

    def __len__(self) -> int:
        return len(self.users)

    def select(self, cases: npt.NDArray[np.integer]) -> "Holdout":
        """The same training interactions with the cases of these numbers."""
        known = None if self.known is None else self.known.of_users(cases)
        return replace(self, users=self.users[cases], targets=self.targets[cases], times=self.times[cases], known=known)

    @property
    def histories(self) -> InteractionLog:
        """What the user of each case had done before it, one history per case."""
        return self.training.of_users(self.users) if self.known is None else self.known

    @cached_property
    def again(self) -> npt.NDArray[np.bool_]:
        """Whether the user had the item of each case before, shape (C,)."""
        had, case = self.histories, np.arange(len(self))
        return np.isin(case * had.n_items + self.targets, had.user.astype(np.int64) * had.n_items + had.item)


def holdout_last(log: InteractionLog, max_users: int, seed: int) -> Holdout:
    """Hold out the last interaction of up to ``max_users`` users, drawn at random where more qualify.

    A user qualifies with three interactions or more whose last item is new to them: a repeated one could not be
    found by a ranking that hides what was seen. Where 100 users or more took something again at last, as large a share
    of these is held out as well, for lists that show what was seen.

    In a log of several kinds the last interaction of the strongest kind counts, and a case is asked when its user
    first did anything with the item, as by viewing it: neither that nor what followed is seen by training. Of these
    only what is new to somebody is a case.
    """
    if log.strength is not None:
        return _holdout_strongest(log, log.strength, max_users, seed)
    lengths = np.diff(log.offsets)
    rows = np.flatnonzero(lengths >= LEAST)
    last = np.full(log.n_users, -1, np.int32)
    last[rows] = log.item[log.offsets[rows + 1] - 1]
    new = _times_taken(log, last)[rows] == 1
    rows, again = rows[new], rows[~new]
    if len(rows) and len(again) >= FEWEST_REPEATS:
        share = min(1.0, max_users / len(rows))
        again = _drawn(again, int(share * len(again)), seed)
        rows = np.sort(np.concatenate([_drawn(rows, max_users, seed), again]))
    else:
        rows = _drawn(rows, max_users, seed)
    times = log.timestamp[log.offsets[rows + 1] - 1]
    return Holdout(log.without_last(rows), rows.astype(np.int32), last[rows], times)


def _times_taken(log: InteractionLog, item: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """How often each user took an item of theirs, shape (n_users,)."""
    user = log.user
    return np.bincount(user[log.item == item[user]], minlength=log.n_users)


def _holdout_strongest(log: InteractionLog, strength: npt.NDArray[np.float32], max_users: int, seed: int) -> Holdout:
    user, place = log.user, np.arange(len(log))
    strongest = strength == 1
    target = np.full(log.n_users, -1)
    np.maximum.at(target, user[strongest], place[strongest])
    item = np.where(target < 0, -1, log.item[target])
    own = log.item == item[user]
    taken = np.bincount(user[own & strongest], minlength=log.n_users)
    first = np.full(log.n_users, len(log))
    np.minimum.at(first, user[own], place[own])
    rows = np.flatnonzero((taken == 1) & (first - log.offsets[:-1] >= LEAST - 1))
    rows = _drawn(rows, max_users, seed)
    end = log.offsets[1:].copy()
    end[rows] = first[rows]
    return Holdout(
        log.select(place < end[user]), rows.astype(np.int32), item[rows].astype(np.int32), log.timestamp[first[rows]]
    )


def _drawn(rows: npt.NDArray[np.int64], most: int, seed: int) -> npt.NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return np.sort(rng.generator(seed, "holdout").choice(rows, most, replace=False))
