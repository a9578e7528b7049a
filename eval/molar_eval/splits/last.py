"""What everybody did last is the test: the last interaction (the papers' protocol), or the last day."""

import numpy as np

from molar_eval.cases import Cases, Mask
from molar_eval.splits.base import DAY, Split, Ties, is_first, single_cases, with_ties
from molar_retrieval.data.interactions import Interactions

LEAST = 3
"""Interactions, or days, that a user needs: one for training, one for validation, one for the test."""
WARNING = (
    "leave-one-out lets training see what other users did after a test case happened, so scores are higher than they "
    "would be in use; the temporal split is the one to decide by"
)


def leave_one_out(log: Interactions, *, ties: Ties = "file order") -> Split:
    """Hold out the last interaction of each user with three or more, and the one before it.

    A last interaction with an item that the user had before is no case where seen items are hidden; it is kept from
    training all the same. The input of a test case includes the validation item.
    """
    log = with_ties(log, ties)
    users = np.flatnonzero(np.diff(log.offsets) >= LEAST)
    last = log.offsets[users + 1] - 1
    training = np.ones(len(log), bool)
    training[last] = training[last - 1] = False
    first = is_first(log)
    facts = {"users left out: fewer than 3 interactions": int(log.n_users - len(users))}
    return Split(
        name="leave-one-out",
        settings={"ties": ties},
        history=log,
        fitted=training,
        validation=single_cases(log, (last - 1)[first[last - 1]]),
        tests={"last": single_cases(log, last[first[last]])},
        warning=WARNING,
        facts=facts,
    )


def last_day(log: Interactions) -> Split:
    """Hold out each user's last two days with interactions (UTC): the last is the test, the one before validates.

    Every item of the day that is new to the user is a case; the input is what the user did on earlier days. A user
    needs a day before both.
    """
    day = log.timestamp // DAY
    user = log.user
    new_day = np.ones(len(log), bool)
    new_day[1:] = (day[1:] != day[:-1]) | (user[1:] != user[:-1])
    number = np.cumsum(new_day) - 1
    begin = np.flatnonzero(new_day)
    days = np.bincount(user[begin], minlength=log.n_users)
    nth = number - np.repeat(np.cumsum(days) - days, np.diff(log.offsets))
    left = np.repeat(days, np.diff(log.offsets)) - 1 - nth  # days of the user that follow
    enough = np.repeat(days >= LEAST, np.diff(log.offsets))
    length = begin[number] - log.offsets[:-1][user] if len(log) else number
    first = is_first(log)

    def cases(on: Mask) -> Cases:
        rows = np.flatnonzero(on & enough & first)
        return Cases.single(log, user[rows], length[rows], log.item[rows])

    return Split(
        name="last day",
        settings={},
        history=log,
        fitted=~(enough & (left <= 1)),
        validation=cases(left == 1),
        tests={"last day": cases(left == 0)},
        warning=WARNING.replace("leave-one-out", "this split"),
        facts={"users with fewer than 3 days": int((days < 3).sum())},
    )
