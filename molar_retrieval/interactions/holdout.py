"""Validation cases: the last thing some users took, kept from training."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.interactions.log import InteractionLog

LEAST = 3  # fewest interactions of a user whose last one is held out: two remain, one to read and one to predict


@dataclass(frozen=True, eq=False)
class Holdout:
    """A split of a log into training interactions and validation cases.

    Attributes:
        training: The log without the cases; users and items keep their rows.
        users: User row of each case, ascending, shape (C,); a user may have several.
        targets: Item row of each case, something that the user took after the training interactions, shape (C,).
        times: When each case is asked, seconds since 1970 in UTC, 0 where the log has no times, shape (C,).
    """

    training: InteractionLog
    users: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)


def holdout_last(log: InteractionLog, max_users: int, seed: int) -> Holdout:
    """Hold out the last interaction of up to ``max_users`` users, drawn at random where more qualify.

    A user qualifies with three interactions or more whose last item is new to them: a repeated one could not be
    found by a ranking that hides what was seen.
    """
    lengths = np.diff(log.offsets)
    rows = np.flatnonzero(lengths >= LEAST)
    last = np.full(log.n_users, -1, np.int32)
    last[rows] = log.item[log.offsets[rows + 1] - 1]
    user = log.user
    times_taken = np.bincount(user[log.item == last[user]], minlength=log.n_users)
    rows = rows[times_taken[rows] == 1]
    if len(rows) > max_users:
        rows = np.sort(rng.generator(seed, "holdout").choice(rows, max_users, replace=False))
    times = log.timestamp[log.offsets[rows + 1] - 1]
    return Holdout(log.without_last(rows), rows.astype(np.int32), last[rows], times)
