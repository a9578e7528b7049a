"""Leave-one-out: the last interaction of a user is the test, the one before validates (the papers' protocol)."""

import numpy as np

from molar_eval.splits.base import Split, Ties, is_first, single_cases, with_ties
from molar_retrieval.interactions.log import InteractionLog

LEAST = 3
WARNING = (
    "leave-one-out lets training see what other users did after a test case happened, so scores are higher than they "
    "would be in use; the temporal split is the one to decide by"
)


def leave_one_out(log: InteractionLog, *, ties: Ties = "file order") -> Split:
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
