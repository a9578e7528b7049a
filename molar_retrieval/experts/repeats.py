"""Learning which items people take again, from the visits of a training log."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.company import had_by_few
from molar_retrieval.experts.habits import DAY, Habits, day_after, demanded, history_items, visits_begin
from molar_retrieval.experts.histories import known_items
from molar_retrieval.experts.trend import Trend
from molar_retrieval.workspace.tensors import Array, Rows

_RARE = 0.01
"""Share of a log's interactions that repeat a former day's, below which nothing is learned."""
_FEWEST = 200
"""Repeats from which the numbers can be told."""
_MOMENTS, _PAIRS = 10_000, 1_000_000
"""Visits that are learned from, and interactions before them in all."""
_PRIOR = 20.0
"""Repeats of an item, as expected of any, that its own tendency is held against."""
_HALF_LIFE = 7.0
"""Of demand, in days."""
_SEED = 0


def fit_habits(log: Interactions, until: int | None = None, least: int = 1) -> Habits | None:
    """Learn from a log; None where it has no times, or next to nothing is taken again.

    Items that fewer than ``least`` people had have no tendency of their own. ``until`` is the day after the log's
    last interaction, if nothing else is said.
    """
    if not len(log) or int(log.timestamp.min()) <= 0 or _repeats(log) < _RARE * len(log):
        return None
    visits = _DrawnVisits.drawn(log)
    if visits is None:
        return None
    pairs = history_items(visits.histories.user, visits.histories.item, visits.histories.timestamp, visits.asked)
    taken = np.isin(pairs.users * log.n_items + pairs.items, visits.taken)
    if np.count_nonzero(taken) < _FEWEST:
        return None
    trend = Trend.fit(log, _HALF_LIFE, least)
    features = np.column_stack([pairs.features, demanded(trend, pairs, visits.asked)])
    numbers = _logistic(features, taken)
    expected = _chance(numbers[0] + features @ numbers[1:])
    sums = [np.bincount(pairs.items, values, minlength=log.n_items) for values in (taken, expected)]
    tendency = np.log((sums[0] + _PRIOR) / (sums[1] + _PRIOR))
    tendency[had_by_few(log, least)] = 0
    learned = _logistic(np.column_stack([features, tendency[pairs.items]]), taken)
    counts = np.bincount(log.item, minlength=log.n_items)
    lift = np.log(np.count_nonzero(counts) * len(visits.asked) / len(visits.taken))
    known = np.where(counts > 0, learned[-1] * tendency, -np.inf).astype(np.float32)
    return Habits(learned[:-1], known, trend.now(), float(lift), day_after(log) if until is None else until, trend)


def brought(habits: Habits, rows: Rows, log: Interactions, least: int = 1) -> Habits:
    """The same over other items and a later log: each item was at ``rows`` before, -1 where it is new.

    An item that nobody had when habits were learned has no tendency of its own.
    """
    before = np.where(rows >= 0, habits.tendency[rows], -np.inf)
    tendency = np.where(known_items(log), np.where(np.isfinite(before), before, 0), -np.inf).astype(np.float32)
    demand = Trend.fit(log, _HALF_LIFE, least).now()
    return replace(habits, tendency=tendency, demand=demand, until=day_after(log), trend=None)


def seeing(habits: Habits, log: Interactions, least: int = 1) -> Habits:
    """The same, with the demand of all items over the time of a log."""
    return replace(habits, trend=Trend.fit(log, _HALF_LIFE, least))


class _DrawnVisits(NamedTuple):
    """Visits of a log, drawn at random: histories before them, when they were, and which pairs were taken then."""

    histories: Interactions
    asked: Rows
    taken: Rows  # visit · n_items + item, each once

    @classmethod
    def drawn(cls, log: Interactions) -> "_DrawnVisits | None":
        """At most 10,000 of those that are not a person's first; None: there are none."""
        begins = np.flatnonzero(visits_begin(log.user, log.timestamp // DAY))
        ends = np.append(begins[1:], len(log))
        before = begins - log.offsets[log.user[begins]]
        later = np.flatnonzero(before > 0)
        order = rng.generator(_SEED, "visits").permutation(later)[:_MOMENTS]
        chosen = np.sort(order[: max(1, int(np.searchsorted(np.cumsum(before[order]), _PAIRS)))])
        if not len(chosen):
            return None
        lengths = ends[chosen] - begins[chosen]
        visit = np.repeat(np.arange(len(chosen)), lengths)
        places = np.arange(len(visit)) + np.repeat(begins[chosen] - np.cumsum(lengths) + lengths, lengths)
        taken = np.unique(visit * log.n_items + log.item[places])
        return cls(log.before(begins[chosen]), log.timestamp[begins[chosen]], taken)


def _repeats(log: Interactions) -> int:
    """Interactions with an item that the person had before, each day once."""
    pairs = log.user.astype(np.int64) * log.n_items + log.item
    order = np.argsort(pairs, kind="stable")
    pairs, days = pairs[order], log.timestamp[order] // DAY
    return int(np.count_nonzero((pairs[1:] == pairs[:-1]) & (days[1:] != days[:-1])))


def _chance(logits: Array) -> Array:
    return 1 / (1 + np.exp(-logits))


def _logistic(features: Array, taken: npt.NDArray[np.bool_], ridge: float = 1.0) -> npt.NDArray[np.float64]:
    """A logistic regression with a slight ridge, by Newton's method: the constant, then a number for each feature."""
    table = np.column_stack([np.ones(len(features)), features])
    numbers = np.zeros(table.shape[1])
    penalty = ridge * np.eye(len(numbers))
    for _ in range(25):
        chance = _chance(table @ numbers)
        slope = table.T @ (taken - chance) - penalty @ numbers
        step = np.linalg.solve((table * (chance * (1 - chance))[:, None]).T @ table + penalty, slope)
        numbers += step
        if np.abs(step).max() < 1e-6:
            break
    return numbers
