"""What each person did in some weeks of the past, and before: outcomes of an experiment that changed nothing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from molar_eval.experiments.cuped import explained
from molar_eval.experiments.past import PastPurchases
from molar_eval.experiments.sample_size import UnchangedOutcome
from molar_retrieval.data.event_store import DAY

Metric = Literal["conversion", "revenue"]
Who = Literal["buyers", "visitors"]
METRICS: tuple[Metric, ...] = ("conversion", "revenue")
BEFORE = 26
"""Weeks before an experiment that CUPED reads; who bought in them counts where visitors are not known."""
_OF_PEOPLE, _OF_BUYERS = 0.01, 0.1  # of whom at most what is spent is cut, the fewer of both
_WEEK = 7
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PastOutcomes:
    """Outcomes of n people in a window, shape (n,) each, and what they did in the weeks before it.

    Attributes:
        weeks: How long the window is.
        before: Weeks before it that are read, at most :data:`BEFORE`.
        converted: Whether somebody bought, 0 or 1.
        spent: What somebody spent, large sums cut; None: there are no prices.
        bought_before: On how many days somebody bought before, large numbers cut.
        spent_before: What somebody spent before, cut likewise; None: there are no prices.
    """

    weeks: int
    before: int
    converted: Floats
    spent: Floats | None
    bought_before: Floats
    spent_before: Floats | None

    @property
    def people(self) -> int:
        """How many people."""
        return len(self.converted)

    def of(self, metric: Metric) -> tuple[Floats, Floats] | None:
        """The outcome of a metric and what CUPED takes out of it; None: it is not known."""
        if metric == "conversion":
            return self.converted, self.bought_before
        return None if self.spent is None or self.spent_before is None else (self.spent, self.spent_before)

    def baseline(self, metric: Metric) -> tuple[UnchangedOutcome, float] | None:
        """Mean and variance, and the share of the latter that CUPED takes out; None without people or prices."""
        found = self.of(metric)
        if found is None or not self.people:
            return None
        outcome, before = found
        baseline = UnchangedOutcome(float(outcome.mean()), float(outcome.var()), binary=metric == "conversion")
        return baseline, explained(outcome, before)


def first_day(past: PastPurchases) -> int:
    """The day of the first purchase, since 1970."""
    return int(past.micros.min()) // DAY


def end_of(past: PastPurchases) -> int:
    """The day after the last purchase or visit."""
    return max(int(past.micros.max()) // DAY, int(past.day.max(initial=0))) + 1


def history_weeks(past: PastPurchases, weeks: int, end: int, who: Who) -> int | None:
    """How many weeks before a window are read, at most :data:`BEFORE`; None: the log is too short for the window.

    Of buyers there must be as many weeks before it as in it; visitors must be known from its beginning on.
    """
    begin = end - _WEEK * weeks
    there = (begin - first_day(past)) // _WEEK
    if who == "visitors":
        known = past.visits_since is not None and past.visits_since <= begin
        return min(BEFORE, max(there, 0)) if known else None
    return min(BEFORE, there) if there >= weeks else None


def outcomes(past: PastPurchases, weeks: int, end: int, who: Who) -> PastOutcomes | None:
    """What people did in so many weeks before the day ``end``, since 1970; None: the log is too short.

    Of ``visitors`` who came in the window counts, of ``buyers`` who bought in the :data:`BEFORE` weeks before it. What
    is spent is cut for the hundredth of people who spend most, or a tenth of those who spend, if these are fewer.
    """
    before = history_weeks(past, weeks, end, who)
    if before is None:
        return None
    begin = end - _WEEK * weeks
    day = past.micros // DAY
    within, earlier = (day >= begin) & (day < end), (day >= begin - _WEEK * before) & (day < begin)
    if who == "buyers":
        people = np.unique(past.person[earlier])
    else:
        came = past.visitor[(past.day >= begin) & (past.day < end)]
        people = np.unique(np.concatenate([came, past.person[within]]))
    value = past.value
    return PastOutcomes(
        weeks=weeks,
        before=before,
        converted=(sums_of(people, past.person[within]) > 0).astype(np.float64),
        spent=None if value is None else cut(sums_of(people, past.person[within], value[within])),
        bought_before=cut(days_bought(people, past.person[earlier], day[earlier])),
        spent_before=None if value is None else cut(sums_of(people, past.person[earlier], value[earlier])),
    )


def sums_of(people: Ints, person: Ints, value: Floats | None = None) -> Floats:
    """What the lines of some people add up to, in the order of ``people``, who ascend."""
    if not len(people):
        return np.zeros(0)
    at = np.minimum(np.searchsorted(people, person), len(people) - 1)
    own = people[at] == person
    sums: Floats = np.bincount(at[own], None if value is None else value[own], len(people)).astype(np.float64)
    return sums


def days_bought(people: Ints, person: Ints, day: Ints) -> Floats:
    """On how many days each bought."""
    pairs = np.unique(np.stack([person, day], axis=1), axis=0)
    return sums_of(people, pairs[:, 0])


def cut(sums: Floats) -> Floats:
    """Without the rare large ones, of which an experiment would hang: no sum is above the quantile."""
    positive = float(np.mean(sums > 0)) if len(sums) else 0.0
    if not positive:
        return sums
    cut: Floats = np.minimum(sums, np.quantile(sums, 1 - min(_OF_PEOPLE, _OF_BUYERS * positive)))
    return cut
