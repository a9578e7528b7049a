"""Last day: for logs that know only the day, where the order inside a day means nothing."""

import numpy as np

from molar_eval.cases import Cases, Mask
from molar_eval.splits.base import DAY, Split, is_first
from molar_eval.splits.leave_one_out import WARNING
from molar_retrieval.interactions.log import InteractionLog


def last_day(log: InteractionLog) -> Split:
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
    enough = np.repeat(days >= 3, np.diff(log.offsets))
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
