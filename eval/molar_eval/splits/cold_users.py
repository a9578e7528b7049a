"""Cold users: people whom training has never met, after their first few interactions."""

import numpy as np

from molar_eval.cases import Cases, Rows
from molar_eval.splits.base import Split, Ties, is_first, place, with_ties
from molar_retrieval import rng
from molar_retrieval.errors import DataError
from molar_retrieval.interactions.log import InteractionLog


def cold_users(
    log: InteractionLog,
    *,
    shown: int = 3,
    share: float = 0.2,
    validation: float = 0.1,
    seed: int = 0,
    ties: Ties = "file order",
) -> Split:
    """Keep all interactions of a random share of the users from training; show the first few, ask for the next.

    The target is the first item new to the user after the ``shown`` ones. Users who validate leave only their first
    ``shown`` interactions in the training log.

    Args:
        log: The whole log.
        shown: Interactions that the input has.
        share: Of the users with a case, drawn for the test.
        validation: Of the users with a case, drawn for validation.
        seed: Of the draw.
        ties: Order inside equal seconds.

    Raises:
        DataError: If too few users have enough interactions.
    """
    log = with_ties(log, ties)
    nth = place(log)
    rows = np.flatnonzero((nth >= shown) & is_first(log))
    rows = rows[np.unique(log.user[rows], return_index=True)[1]]
    if len(rows) < 10:
        raise DataError(f"only {len(rows)} users have more than {shown} interactions", "bring a longer log")
    rows = rng.generator(seed, "cold users").permutation(rows)
    tested, chosen = round(share * len(rows)), round(validation * len(rows))
    test, validated = np.sort(rows[:tested]), np.sort(rows[tested : tested + chosen])
    hidden = np.zeros(log.n_users, bool)
    hidden[log.user[test]] = True
    partly = np.zeros(log.n_users, bool)
    partly[log.user[validated]] = True
    user = log.user
    training = ~hidden[user] & ~(partly[user] & (nth >= shown))
    return Split(
        name="cold users",
        settings={"shown": shown, "share": share, "validation": validation, "seed": seed, "ties": ties},
        history=log,
        fitted=training,
        validation=_cases(log, validated, shown),
        tests={"next": _cases(log, test, shown)},
        warning="training sees what others did after a case happened; only the users are unknown to it",
        facts={"users with a case": len(rows)},
    )


def _cases(log: InteractionLog, rows: Rows, shown: int) -> Cases:
    return Cases.single(log, log.user[rows], np.full(len(rows), shown), log.item[rows])
