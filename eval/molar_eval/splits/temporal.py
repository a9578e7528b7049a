"""Global temporal split: one cut in time for everybody, as a shop that decides today has it."""

import numpy as np

from molar_eval.cases import Cases, Mask, Rows
from molar_eval.splits.base import Split, Ties, is_first, place, single_cases, with_ties
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError


def temporal(
    log: Interactions,
    *,
    train: float = 0.8,
    validation: float = 0.1,
    ties: Ties = "file order",
    repeats: bool = False,
) -> Split:
    """Cut at two quantiles of time: fit before t1, choose on [t1, t2), test from t2 on.

    A case is a user's first new item after the cut, its input everything that the user did before it; with ``repeats``
    the first interaction, whatever its item. A second test takes all new items after the cut as a set, its input what
    the user did before the cut. Users without anything before their case cannot be asked and are counted in the facts.

    ``train`` is the quantile of the interactions' times that gives t1, ``validation`` the share of the interactions
    between t1 and t2. Raises :class:`DataError` if the log has no times, or all of it is one moment.
    """
    log = with_ties(log, ties)
    t1, t2 = (int(np.quantile(log.timestamp, q, method="higher")) for q in (train, train + validation))
    if not int(log.timestamp.min()) < t1 < t2:
        raise DataError("a temporal split needs a log that spreads over time", "bring timestamps, or split otherwise")
    answers = np.ones(len(log), bool) if repeats else is_first(log)
    chosen, ignored = _first(log, answers, t1, t2)
    test, cold = _first(log, answers, t2, None)
    what = "item" if repeats else "new item"
    return Split(
        name="temporal",
        settings={"train": train, "validation": validation, "ties": ties} | ({"repeats": True} if repeats else {}),
        history=log,
        fitted=log.timestamp < t1,
        validation=single_cases(log, chosen),
        tests={f"first {what}": single_cases(log, test), f"all {what}s": _sets(log, answers, t2)},
        facts={
            "t1": t1,
            "t2": t2,
            "users without anything before the validation case": ignored,
            "users without anything before the test case": cold,
        },
    )


def _first(log: Interactions, answers: Mask, begin: int, end: int | None) -> tuple[Rows, int]:
    """Each user's first answer in [begin, end), and how many users had nothing before it."""
    inside = (log.timestamp >= begin) & (end is None or log.timestamp < end)
    rows = np.flatnonzero(inside & answers)
    rows = rows[np.unique(log.user[rows], return_index=True)[1]]
    before = place(log)[rows] > 0
    return rows[before].astype(np.int64), int((~before).sum())


def _sets(log: Interactions, answers: Mask, cut: int) -> Cases:
    """All answers of each user from the cut on, each item once."""
    before = np.bincount(log.user[log.timestamp < cut], minlength=log.n_users)
    rows = np.flatnonzero((log.timestamp >= cut) & answers)
    rows = rows[before[log.user[rows]] > 0]
    pairs = log.user[rows].astype(np.int64) * log.n_items + log.item[rows]
    rows = np.sort(rows[np.unique(pairs, return_index=True)[1]])
    users, counts = np.unique(log.user[rows], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Cases(log, users.astype(np.int64), before[users].astype(np.int64), offsets, log.item[rows])
