"""How much of what users took after the cut a model would have listed: conversion and revenue, with intervals.

These numbers look back. The users took those items without seeing our list, so nobody was persuaded by it and nothing
here is uplift, neither a causal effect nor a forecast of sales:

* The value of the hits is an upper bound of what the list may claim of *these* purchases: some or all of them would be
  made with no list at all.
* It is a lower bound of nothing but itself: a listed item that a user never came across was not bought and cannot be
  a hit, so sales under the list may be higher; users ignore much of what they are shown, so they may be lower.
* Only users who took something after the cut are counted, so the "conversion" is a share of buyers, not of visitors.
* All first k items count as seen. Nobody looks at all of them.
* The log was made under some earlier list or shop window. Items that it showed are favoured.

Use them to compare models on the same cases. For the value of a list that was not shown, see
:mod:`molar_eval.kpi.off_policy`; for the truth, run an A/B test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases
from molar_eval.statistics.bootstrap import (
    ConfidenceInterval,
    clustered_intervals,
    clustered_ratio,
    sums_by,
    user_groups,
)
from molar_retrieval.errors import DataError, SettingsError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Purchases:
    """What users took after the cut, T items in C cases, and where a model had ranked it.

    A case is of a ``user``, shape (C,), who may have several; ``offsets`` are the borders between the cases' items,
    shape (C + 1,). ``rank`` is the place of each item in its case's list, from 1, ties counted against the model, 0:
    not listed, shape (T,); ``value`` what it brought, not negative: price × quantity, or 1 to count events.
    """

    user: npt.NDArray[np.integer]
    offsets: npt.NDArray[np.integer]
    rank: npt.NDArray[np.integer]
    value: npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class UserKpis:
    """Figures of U users, ascending, at one k, each of shape (U,), for estimates and paired tests between models.

    ``converted`` is 1 where at least one of the user's items is among the first k of its case's list, ``captured`` the
    value of those that are, ``total`` that of all the user's items.
    """

    user: npt.NDArray[np.integer]
    converted: Floats
    captured: Floats
    total: Floats


def user_kpis(purchases: Purchases, k: int) -> UserKpis:
    """Figures of each user at ``k``.

    Raises :class:`SettingsError` if ``k`` is not positive, :class:`DataError` if there are no cases, the shapes do not
    fit, or a rank or value is negative or not finite.
    """
    if k < 1:
        raise SettingsError(f"k is {k}", "choose a list length of 1 or more")
    _check(purchases)
    names, codes = np.unique(purchases.user, return_inverse=True)
    user = np.repeat(codes, np.diff(purchases.offsets))
    hit = (purchases.rank >= 1) & (purchases.rank <= k)
    value = np.asarray(purchases.value, np.float64)
    return UserKpis(
        user=names,
        converted=(np.bincount(user[hit], minlength=len(names)) > 0).astype(np.float64),
        captured=sums_by(user, value * hit, len(names)),
        total=sums_by(user, value, len(names)),
    )


def estimate_kpis(
    purchases: Purchases, ks: Sequence[int], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, ConfidenceInterval]:
    """Conversion and hit-weighted revenue at each list length; see the module's text for what they are not.

    Let U be the number of users with a case and k the list length. Then

    * ``conversion@k`` = users with at least one hit / U, in [0, 1];
    * ``revenue_per_user@k`` = value of all hits / U, in the unit of ``value``;
    * ``revenue_share@k`` = value of all hits / value of all items taken, in [0, 1]; absent if nothing has a value.

    ``level`` is the nominal coverage of the intervals; bootstrap samples draw whole users. Raises
    :class:`SettingsError` without any k, and what :func:`user_kpis` does.
    """
    if not ks:
        raise SettingsError("no list length is given", "choose one, for example 10")
    figures = [user_kpis(purchases, k) for k in ks]
    groups = user_groups(len(figures[0].user), seed)
    columns = np.stack([column for at_k in figures for column in (at_k.converted, at_k.captured)], axis=1)
    means = clustered_intervals(columns, groups, level=level, resamples=resamples, seed=seed)
    estimates: dict[str, ConfidenceInterval] = {}
    for place, (k, at_k) in enumerate(zip(ks, figures, strict=True)):
        estimates[f"conversion@{k}"], estimates[f"revenue_per_user@{k}"] = means[2 * place : 2 * place + 2]
        if at_k.total.any():
            share = clustered_ratio(at_k.captured, at_k.total, groups, level=level, resamples=resamples, seed=seed)
            estimates[f"revenue_share@{k}"] = ConfidenceInterval(share.mean, share.low, min(share.high, 1.0))
    return estimates


def target_values(cases: Cases, value: npt.NDArray[np.floating]) -> Floats:
    """What each target of a case brought, shape (T,): the sum over the user's interactions with it from the case on.

    ``value`` has one number for each interaction of ``cases.history``, else :class:`DataError` is raised.
    """
    history = cases.history
    if len(value) != len(history):
        raise DataError(f"{len(value)} values for {len(history)} interactions", "give one value per interaction")
    start = history.offsets[cases.user] + cases.length
    later = history.offsets[cases.user + 1] - start
    case = np.repeat(np.arange(len(cases)), later)
    row = np.arange(len(case)) + np.repeat(start - (np.cumsum(later) - later), later)
    key = case * np.int64(history.n_items) + history.item[row]
    wanted = cases.case_of_target * np.int64(history.n_items) + cases.targets
    order = np.argsort(wanted)
    place = np.searchsorted(wanted, key, sorter=order)
    target = order[np.minimum(place, len(order) - 1)] if len(order) else place
    found = wanted[target] == key if len(order) else np.zeros(len(key), bool)
    return sums_by(target[found], np.asarray(value, np.float64)[row[found]], len(wanted))


def _check(purchases: Purchases) -> None:
    offsets, items = purchases.offsets, len(purchases.rank)
    if not len(purchases.user):
        raise DataError("there are no cases to estimate from", "choose a split with purchases after its cut")
    fitting = len(offsets) == len(purchases.user) + 1 and len(purchases.value) == items
    if not fitting or offsets[0] != 0 or offsets[-1] != items or (np.diff(offsets) < 0).any():
        raise DataError("cases, ranks and values do not fit together", "give one rank and one value per item of a case")
    if items and purchases.rank.min() < 0:
        raise DataError("a rank is negative", "count ranks from 1 and give 0 to an item that is not listed")
    wrong = ~(np.isfinite(purchases.value) & (purchases.value >= 0))
    if wrong.any():
        bad = int(np.argmax(wrong))
        raise DataError(
            f"value {bad + 1} of the purchases is {purchases.value[bad]}",
            "give amounts of 0 or more; take returned goods off the purchase that they belong to",
        )
