"""What training has never met: a share of the catalogue, or people after their first few interactions."""

from dataclasses import replace

import numpy as np

from molar_eval.cases import Cases, Rows
from molar_eval.splits.base import Split, Ties, is_first, place, single_cases, with_ties
from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError

LEAST = 3
"""Interactions with other items that a user needs for a warm case."""


def cold_items(
    log: Interactions, *, share: float = 0.2, seed: int = 0, ties: Ties = "file order", removed: bool = True
) -> Split:
    """Remove a random share of the items that occur in the log from all training histories.

    Every first interaction with a removed item is a case of the test ``cold``; its input are the earlier interactions
    with other items, at least one. The last two interactions of each user with other items are held out as validation
    and as the test ``warm``, if they are new to the user. The test ``overall`` takes the very last interaction of each
    such user, so that cold and warm answers come as often as they do in the log. All are ranked among all items. The
    test ``among the cold`` has the cases of ``cold`` once more, ranked among the removed items: it tells who finds
    the right ones of them, whatever share of the lists they are given.

    Where the drawn items are not ``removed``, the split tells what their absence costs the others: it has the test
    ``warm`` alone, with the same cases, and both training and inputs have all earlier items.
    """
    log = with_ties(log, ties)
    rated = np.unique(log.item)
    drawn = rng.generator(seed, "cold items").choice(rated, max(1, round(share * len(rated))), replace=False)
    warm = np.ones(log.n_items, bool)
    warm[drawn] = False
    is_warm, first = warm[log.item], is_first(log)
    rows = np.flatnonzero(is_warm)
    counts = np.bincount(log.user[rows], minlength=log.n_users)
    last = (np.cumsum(counts) - 1)[counts >= LEAST]
    validation, tested = (chosen[first[chosen]] for chosen in (rows[last - 1], rows[last]))
    if not removed:
        ends = np.full(log.n_users, len(log))  # a user's training ends before this row
        ends[log.user[rows[last]]] = rows[last - 1]
        return Split(
            name="cold items, none removed",
            settings={"share": share, "seed": seed, "ties": ties, "removed": False},
            history=log,
            fitted=np.arange(len(log)) < ends[log.user],
            validation=single_cases(log, validation),
            tests={"warm": single_cases(log, tested)},
            warning="training sees what others did after a case happened",
        )
    training = is_warm.copy()
    training[rows[last]] = training[rows[last - 1]] = False
    warm_before = np.cumsum(is_warm) - is_warm
    warm_before = warm_before - warm_before[log.offsets[:-1]][log.user] if len(log) else warm_before
    cold = np.flatnonzero(~is_warm & first & (warm_before > 0))
    facts = {
        "removed items": len(drawn),
        "cold cases without an earlier warm item": int((~is_warm & first & (warm_before == 0)).sum()),
        "interactions before a warm case, median": float(np.median(place(log)[rows[last]])) if len(last) else 0.0,
    }
    final = (log.offsets[1:] - 1)[counts >= LEAST]
    tests = {"cold": cold, "warm": tested, "overall": final[first[final] & (warm_before[final] > 0)]}
    asked = {name: single_cases(log, chosen, warm) for name, chosen in tests.items()}
    return Split(
        name="cold items",
        settings={"share": share, "seed": seed, "ties": ties},
        history=log,
        fitted=training,
        validation=single_cases(log, validation, warm),
        tests={**asked, "among the cold": replace(asked["cold"], ranked=~warm)},
        warning="training sees what others did after a case happened; only the removed items are unknown to it",
        facts=facts,
    )


def cold_users(
    log: Interactions,
    *,
    shown: int = 3,
    share: float = 0.2,
    validation: float = 0.1,
    seed: int = 0,
    ties: Ties = "file order",
) -> Split:
    """Keep all interactions of a random share of the users from training; show the first few, ask for the next.

    The target is the first item new to the user after the ``shown`` ones. Users who validate leave only their first
    ``shown`` interactions in the training log. Of the users with a case, ``share`` are drawn for the test and
    ``validation`` to validate. Raises :class:`DataError` if too few users have enough interactions.
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
    hidden, partly = np.isin(log.user, log.user[test]), np.isin(log.user, log.user[validated])
    training = ~hidden & ~(partly & (nth >= shown))

    def cases(rows: Rows) -> Cases:
        return Cases.single(log, log.user[rows], np.full(len(rows), shown), log.item[rows])

    return Split(
        name="cold users",
        settings={"shown": shown, "share": share, "validation": validation, "seed": seed, "ties": ties},
        history=log,
        fitted=training,
        validation=cases(validated),
        tests={"next": cases(test)},
        warning="training sees what others did after a case happened; only the users are unknown to it",
        facts={"users with a case": len(rows)},
    )
