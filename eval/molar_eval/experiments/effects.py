"""What the treatment changes for people who met a difference, with intervals that allow for looking more than once."""

from dataclasses import dataclass

import numpy as np

from molar_eval.experiments.before import PastOfPeople
from molar_eval.experiments.comparing import ArmComparison, Moments, compare_means, compare_ratios
from molar_eval.experiments.confidence_sequences import mixture_bound, tuned_to
from molar_eval.experiments.observed import Observed
from molar_eval.experiments.outcomes import Floats, cut
from molar_eval.experiments.population import Mask, Population
from molar_eval.experiments.results import Effect

METRICS = ("conversion", "revenue", "clicks", "carts")
ITEM_VALUE = "item_value"
"""What an item that was bought brings: a ratio, as people buy several."""
TUNED = 2_000
"""Treated people at whom intervals that hold at all times are made to be narrowest."""
FEWEST = 25
"""People in each arm below whom nothing is said of a difference."""


@dataclass(frozen=True, eq=False)
class ComparedMetric:
    """A metric of people who met a difference, compared between the arms.

    Attributes:
        metric: Which.
        comparison: Its means, with CUPED where the past is known.
        cuped: Whether what people did before was taken out.
    """

    metric: str
    comparison: ArmComparison
    cuped: bool


def compared(people: Population, observed: Observed, past: PastOfPeople | None, primary: str) -> list[ComparedMetric]:
    """All metrics that are known, the primary one first; large figures are cut.

    One of which nobody has anything, or that does not vary, is left out, and all are where an arm has too few people.
    """
    met = people.met
    treated = people.treated[met]
    if min(people.counts(met).values()) < FEWEST:
        return []
    found = []
    for metric in sorted(METRICS, key=lambda one: one != primary):
        figures = observed.of(metric)
        if figures is None:
            continue
        own = figures[met] if metric == "conversion" else cut(figures[met])
        before = None if past is None else past.of(metric)
        found.append(_compared(metric, treated, own, None if before is None else before[met]))
    if observed.revenue is not None:
        found += _item_value(treated, cut(observed.revenue[met]), cut(observed.purchases[met]))
    return [one for one in found if one.comparison.error > 0]


def _item_value(treated: Mask, revenue: Floats, bought: Floats) -> list[ComparedMetric]:
    """Revenue by what was bought, with people as the unit; nothing where an arm has bought nothing."""
    if min(bought[~treated].sum(), bought[treated].sum()) <= 0:
        return []
    arms = [Moments.of(revenue[of], bought[of]) for of in (~treated, treated)]
    return [ComparedMetric(ITEM_VALUE, compare_ratios(*arms), cuped=False)]


def _compared(metric: str, treated: Mask, own: Floats, before: Floats | None) -> ComparedMetric:
    columns = [own]
    if before is not None and np.ptp(before) > 0:
        columns.append(before)
    arms = [Moments.of(*(column[of] for column in columns)) for of in (~treated, treated)]
    return ComparedMetric(metric, compare_means(*arms), len(columns) > 1)


def effect_of(found: ComparedMetric, bound: float) -> Effect:
    """The effect with intervals of so many standard errors to both sides."""
    one = found.comparison
    low, high = one.interval(bound)
    lifts = one.lift_interval(bound) or (None, None)
    return Effect(
        metric=found.metric,
        control=one.control,
        treatment=one.treatment,
        difference=one.difference,
        low=low,
        high=high,
        lift=one.lift,
        lift_low=lifts[0],
        lift_high=lifts[1],
        people=one.people,
        cuped=found.cuped,
        significant=low > 0 or high < 0,
    )


def bound_at_all_times(comparison: ArmComparison, alpha: float) -> float:
    """How many standard errors wide an interval must be so that it holds however often one looks.

    ``alpha`` is the chance that it ever fails, both sides together.
    """
    control, treated = comparison.people
    ratio = treated / control
    variance = (treated * comparison.error) ** 2
    tuned = tuned_to(TUNED, variance / treated / (1 + ratio), ratio, alpha / 2)
    return float(mixture_bound(variance, tuned, alpha / 2)) / float(np.sqrt(variance))
