"""Plan of an experiment: duration, smallest effects, and that in words.

Windows of several lengths at the end of the log stand for the weeks to come; the same windows further back say how
steady that is. Sizes are those of :class:`.Design`, inflated for a look after each week by the bounds of
:mod:`.sequential`; with CUPED they are smaller by the share of variance that it takes out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from molar_eval.experiments.ab_test import Design, UnchangedOutcome
from molar_eval.experiments.covariates import (
    METRICS,
    Metric,
    PastOutcomes,
    PastPurchases,
    Who,
    end_of,
    first_day,
    history_weeks,
    outcomes,
)
from molar_eval.experiments.sequential import inflation
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.experiments.definition import BETWEEN

WEEKS = (1, 2, 4, 8, 12)
LIFTS = (0.05, 0.10, 0.20)
FEWEST = 100
"""People below whom the figures are only rough."""
_SHORTEST_OF_VISITORS = 4  # weeks of visits from which on visitors are counted unless said otherwise
_FORMER = 3  # windows before the last one that are looked at
PLANNED_SHARE = 1e-4
"""The least share of people that a plan is made for."""


@dataclass(frozen=True)
class PeopleNeeded:
    """People in the smaller arm that an effect takes; None: the mean cannot rise so far, or is 0.

    Attributes:
        lift: The effect, as a share of the mean.
        plain: Without CUPED.
        cuped: With it.
        seen: Whether so many come without CUPED.
        seen_with_cuped: Or with it.
    """

    lift: float
    plain: int | None
    cuped: int | None
    seen: bool
    seen_with_cuped: bool


@dataclass(frozen=True)
class WindowPlan:
    """What one metric takes in an experiment of so many weeks.

    Attributes:
        weeks: How long it is.
        people: Who would be in it, all arms.
        arm: Of them in the smaller arm.
        mean: Of the metric, per person.
        explained: Which share of the variance CUPED takes out.
        inflation: By which factor weekly looks need more people.
        needed: By effect.
        smallest: The smallest effect that is seen; None: none is.
        smallest_with_cuped: Likewise with CUPED.
        steady: Of the effect in the middle, the fewest and the most people that earlier windows would have asked for,
            without CUPED; None: the log is too short for one.
    """

    weeks: int
    people: int
    arm: int
    mean: float
    explained: float
    inflation: float
    needed: tuple[PeopleNeeded, ...]
    smallest: float | None
    smallest_with_cuped: float | None
    steady: tuple[int, int] | None


@dataclass(frozen=True)
class ExperimentPlan:
    """What an experiment with two arms takes.

    Attributes:
        who: Who counts: ``visitors`` by events, or ``buyers`` of the weeks before.
        until: The day after the last one of the log, since 1970.
        before: Most weeks before a window that are read.
        share: Of people who are in the experiment.
        treated: Of them in the new arm.
        power: The chance to see an effect that is there.
        alpha: The chance of a false alarm.
        metrics: Windows by metric, the shortest first.
        too_long: Weeks for which the log is too short.
        notes: What to know of the data.
    """

    who: Who
    until: int
    before: int
    share: float
    treated: float
    power: float
    alpha: float
    metrics: dict[Metric, tuple[WindowPlan, ...]]
    too_long: tuple[int, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    def shortest(self, metric: Metric, lift: float, *, cuped: bool) -> WindowPlan | None:
        """The shortest window in which an effect is seen; None: none of them."""
        for window in self.metrics[metric]:
            for need in window.needed:
                if need.lift == lift and (need.seen_with_cuped if cuped else need.seen):
                    return window
        return None


def plan_experiment(
    past: PastPurchases,
    *,
    who: Who | None = None,
    share: float = 1.0,
    treated: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.05,
    weeks: Sequence[int] = WEEKS,
    lifts: Sequence[float] = LIFTS,
) -> ExperimentPlan:
    """How many people and weeks effects take, by what people did so far.

    Args:
        past: What they did.
        who: Who counts; None: visitors, if the event log knows them for four weeks, else buyers.
        share: Which share of people is in the experiment, in (0, 1].
        treated: Which share of these is in the new arm, in (0, 1).
        power: The chance to see an effect that is there, above ``alpha`` and below 1.
        alpha: The chance of a false alarm, both sides together, in (0, 0.5].
        weeks: Lengths to look at.
        lifts: Effects, as shares of the mean.

    Raises:
        SettingsError: If one of them has no meaning.
        DataError: If the log is too short for every window, or has a single person.
    """
    _check(share, treated, power, alpha, weeks, lifts)
    chosen = who or _who(past)
    end = end_of(past)
    design = Design(alpha, power, treated)
    found: dict[Metric, list[WindowPlan]] = {metric: [] for metric in METRICS}
    too_long, most, fewest = [], 0, FEWEST
    for length in sorted(set(weeks)):
        now = outcomes(past, length, end, chosen)
        if now is None:
            too_long.append(length)
            continue
        most, fewest = max(most, now.before), min(fewest, now.people)
        windows = [now, *_former(past, length, end, chosen)]
        for metric, plans in found.items():
            if (plan := _window(windows, metric, design, share, tuple(sorted(lifts)))) is not None:
                plans.append(plan)
    metrics = {metric: tuple(plans) for metric, plans in found.items() if plans}
    if not metrics or max(plan.people for plan in metrics["conversion"]) < 2:
        raise _too_little(past, chosen, sorted(set(weeks)), fitting=len(too_long) < len(set(weeks)))
    return ExperimentPlan(
        chosen, end, most, share, treated, power, alpha, metrics, tuple(too_long), _notes(past, fewest)
    )


def _who(past: PastPurchases) -> Who:
    known = history_weeks(past, _SHORTEST_OF_VISITORS, end_of(past), "visitors") is not None
    return "visitors" if known else "buyers"


def _former(past: PastPurchases, weeks: int, end: int, who: Who) -> list[PastOutcomes]:
    ends = (end - 7 * weeks * back for back in range(1, _FORMER + 1))
    return [found for one in ends if (found := outcomes(past, weeks, one, who)) is not None and found.people > 1]


def _window(
    windows: Sequence[PastOutcomes], metric: Metric, design: Design, share: float, lifts: Sequence[float]
) -> WindowPlan | None:
    """The plan of the first window, with how steady it is by the others; None: the metric is not known."""
    now = windows[0]
    known = now.baseline(metric)
    if known is None:
        return None
    baseline, explained = known
    looked = replace(design, inflation=inflation(now.weeks, design.alpha, design.power))
    people = int(now.people * share + 1e-9)
    needed = tuple(_needed(looked, baseline, lift, explained, people) for lift in lifts)
    middle = lifts[len(lifts) // 2]
    others = [looked.people(found[0], middle) for one in windows[1:] if (found := one.baseline(metric)) is not None]
    steady = [looked.arm_of(total) for total in others if total is not None]
    return WindowPlan(
        weeks=now.weeks,
        people=people,
        arm=looked.smaller_arm(people),
        mean=baseline.mean,
        explained=explained,
        inflation=looked.inflation,
        needed=needed,
        smallest=looked.smallest(baseline, people),
        smallest_with_cuped=looked.smallest(baseline, people, explained),
        steady=(min(steady), max(steady)) if steady else None,
    )


def _needed(design: Design, baseline: UnchangedOutcome, lift: float, explained: float, come: int) -> PeopleNeeded:
    plain, cuped = design.people(baseline, lift), design.people(baseline, lift, explained)
    return PeopleNeeded(
        lift,
        plain=None if plain is None else design.arm_of(plain),
        cuped=None if cuped is None else design.arm_of(cuped),
        seen=plain is not None and plain <= come,
        seen_with_cuped=cuped is not None and cuped <= come,
    )


def _notes(past: PastPurchases, fewest: int) -> tuple[str, ...]:
    notes = list(past.notes)
    if past.value is None:
        notes.append("there are no prices, in the log or the catalogue: conversion alone is planned")
    if fewest < FEWEST:
        notes.append(f"a window has {fewest:,} people: figures of fewer than {FEWEST} are only rough")
    return tuple(notes)


def _too_little(past: PastPurchases, who: Who, weeks: Sequence[int], *, fitting: bool) -> DataError:
    if fitting:
        words = f"there are fewer than two {who} to divide between arms"
        return DataError(words, "bring a log of more people")
    days = end_of(past) - _known_since(past, who)
    window = f"a window of {weeks[0]} {'week' if weeks[0] == 1 else 'weeks'}"
    words = f"the log knows {who} for {days:,} {'day' if days == 1 else 'days'}, too few for {window}"
    hint = "bring a longer log" if who == "visitors" else "bring a log at least twice as long as the shortest window"
    return DataError(words, f"{hint}, or choose fewer weeks")


def _known_since(past: PastPurchases, who: Who) -> int:
    """From which day on it is known who counts, since 1970; the end of the log where it is not known at all."""
    if who == "visitors":
        return end_of(past) if past.visits_since is None else past.visits_since
    return first_day(past)


def _check(
    share: float, treated: float, power: float, alpha: float, weeks: Sequence[int], lifts: Sequence[float]
) -> None:
    if not PLANNED_SHARE <= share <= 1:
        words = f"give the share of people in the experiment, from {PLANNED_SHARE:g} to 1"
        raise SettingsError(f"share is {share}", words)
    for name, value in (("treated", treated), ("alpha", alpha)):
        least, most = BETWEEN[name]
        if not least <= value <= most:
            raise SettingsError(f"{name} is {value}", f"give a number from {least:g} to {most:g}")
    if not alpha < power <= BETWEEN["power"][1]:
        words = f"give the chance to see an effect, above alpha and at most {BETWEEN['power'][1]:g}"
        raise SettingsError(f"power is {power}", words)
    shortest, longest = BETWEEN["weeks"]
    if not weeks or not all(shortest <= one <= longest for one in weeks):
        raise SettingsError(f"weeks are {list(weeks)}", f"give whole weeks from {shortest:g} to {longest:g}")
    least, most = BETWEEN["lift"]
    if not lifts or not all(least <= one <= most for one in lifts):
        words = f"give shares from {least:g} to {most:g}, as 0.1 for +10 %"
        raise SettingsError(f"effects are {list(lifts)}", words)


_SOON = 4  # weeks
_HELPFUL = 0.05  # of the variance: what CUPED takes out below it is not told
_INTERLEAVING = (
    "interleaving two lists for the same people, to find the better one, not how much it brings: "
    "half the people in simulations on the purchases of Online Retail, far fewer for small changes"
)


def verdicts(plan: ExperimentPlan) -> list[str]:
    """A sentence for each metric and effect, and the smallest effects that are seen soon."""
    lifts = [need.lift for need in next(iter(plan.metrics.values()))[0].needed]
    found = [_verdict(plan, metric, lift) for metric in plan.metrics for lift in lifts]
    window = _soon(plan)
    smallest = [_smallest(metric, _of_weeks(plan.metrics[metric], window.weeks)) for metric in plan.metrics]
    found.append(f"The smallest effects that can be seen in {weeks_in_words(window.weeks)}: {', '.join(smallest)}.")
    return [*found, *_steadiness(plan, window.weeks)]


def remedies(plan: ExperimentPlan) -> list[str]:
    """What would let one see smaller effects."""
    window = _soon(plan)
    found = list(_less_noise(plan, window.weeks))
    if (longer := plan.metrics["conversion"][-1]).weeks > window.weeks:
        found.append(_longer(plan, window, longer))
    if "revenue" in plan.metrics:
        found += _conversion_instead(plan, window)
    if plan.share < 1:
        found.append(f"all people instead of {percent(plan.share)} of them")
    if plan.treated != 0.5:
        found.append("arms of the same size: they need the fewest people")
    return [*found, _INTERLEAVING]


def per_arm(plan: ExperimentPlan) -> str:
    """Of whom people are counted."""
    return "per arm" if plan.treated == 0.5 else "in the smaller arm"


def weeks_in_words(weeks: int) -> str:
    """So many weeks."""
    return "1 week" if weeks == 1 else f"{weeks} weeks"


def percent(share: float) -> str:
    """A share as people write it, to a tenth of a per cent below a hundred."""
    return f"{100 * share:.3g} %" if share < 1 else f"{100 * share:,.0f} %"


def _verdict(plan: ExperimentPlan, metric: Metric, lift: float) -> str:
    effect = f"+{percent(lift)} {metric}"
    alone, helped = (plan.shortest(metric, lift, cuped=cuped) for cuped in (False, True))
    if alone is not None:
        sooner = "" if helped is None or helped is alone else f", {weeks_in_words(helped.weeks)} with CUPED"
        need = _need(alone, lift)
        return (
            f"{effect} can be seen in {weeks_in_words(alone.weeks)}{sooner}: "
            f"it takes {_count(need.plain)} people {per_arm(plan)}, and {alone.arm:,} come."
        )
    if helped is not None:
        need = _need(helped, lift)
        return (
            f"{effect} can be seen in {weeks_in_words(helped.weeks)} with CUPED alone: it takes {_count(need.cuped)} "
            f"people {per_arm(plan)}, {_count(need.plain)} without, and {helped.arm:,} come."
        )
    return _unseen(plan, metric, lift)


def _unseen(plan: ExperimentPlan, metric: Metric, lift: float) -> str:
    """That an effect cannot be seen, by the window in which it comes nearest to that."""
    windows = [window for window in plan.metrics[metric] if _need(window, lift).plain is not None]
    effect = f"+{percent(lift)} {metric}"
    if not windows:
        last = plan.metrics[metric][-1]
        why = "nobody bought" if last.mean == 0 else f"{percent(last.mean)} of people buy already"
        return f"{effect} cannot be seen: within {weeks_in_words(last.weeks)} {why}."
    best = min(windows, key=lambda window: (_need(window, lift).cuped or 0) / max(window.arm, 1))
    need = _need(best, lift)
    longest = weeks_in_words(windows[-1].weeks)
    when = "" if best is windows[-1] else f"in {weeks_in_words(best.weeks)} "
    return (
        f"This shop cannot see {effect} within {longest}: {when}it takes {_count(need.plain)} people {per_arm(plan)}, "
        f"{_count(need.cuped)} with CUPED, and {best.arm:,} come."
    )


def _steadiness(plan: ExperimentPlan, weeks: int) -> Iterator[str]:
    """What earlier windows would have asked for, where the log has some."""
    for metric, windows in plan.metrics.items():
        window = _of_weeks(windows, weeks)
        need = window.needed[len(window.needed) // 2]
        if window.steady is None or need.plain is None:
            continue
        fewest, most = window.steady
        unlike = ", more than now: plan for these" if fewest > need.plain else ""
        several = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        yield (
            f"Earlier windows of {weeks_in_words(weeks)} would have asked for {several} people {per_arm(plan)} for "
            f"+{percent(need.lift)} {metric} without CUPED{unlike}."
        )


def _smallest(metric: Metric, window: WindowPlan) -> str:
    if window.smallest is None:
        return f"none in {metric}"
    helped = window.smallest_with_cuped
    also = "" if helped is None or window.explained < _HELPFUL else f" (+{percent(helped)} with CUPED)"
    return f"+{percent(window.smallest)} {metric}{also}"


def _less_noise(plan: ExperimentPlan, weeks: int) -> Iterator[str]:
    parts = [(metric, _of_weeks(windows, weeks).explained) for metric, windows in plan.metrics.items()]
    told = [f"{percent(round(share, 2))} of the people for {metric}" for metric, share in parts if share >= _HELPFUL]
    if told:
        yield f"CUPED, which takes out what people did before: it saves {' and '.join(told)}"


def _longer(plan: ExperimentPlan, window: WindowPlan, longer: WindowPlan) -> str:
    metric: Metric = "revenue" if "revenue" in plan.metrics else "conversion"
    before, after = (_of_weeks(plan.metrics[metric], one.weeks).smallest_with_cuped for one in (window, longer))
    seen = f"{weeks_in_words(longer.weeks)} instead of {weeks_in_words(window.weeks)}"
    if before is None or after is None:
        return f"more time: {seen}"
    if after >= before * 0.98:
        return f"more time does not help {metric} here: +{percent(after)} is the smallest effect in {seen}"
    effects = f"+{percent(after)} {metric} is seen, not +{percent(before)}"
    return f"more time, with CUPED: in {weeks_in_words(longer.weeks)} {effects}"


def _conversion_instead(plan: ExperimentPlan, window: WindowPlan) -> Iterator[str]:
    needs = [_of_weeks(plan.metrics[metric], window.weeks).needed for metric in ("conversion", "revenue")]
    both = [(one.plain, other.plain) for one, other in zip(*needs, strict=True) if one.plain and other.plain]
    if both and (times := both[len(both) // 2][1] / both[len(both) // 2][0]) >= 1.1:
        yield f"conversion instead of revenue: the same share more takes {times:.1f} times fewer people"


def _soon(plan: ExperimentPlan) -> WindowPlan:
    """Four weeks; where they were not looked at, the longest shorter window, else the shortest one."""
    windows = plan.metrics["conversion"]
    return next((window for window in reversed(windows) if window.weeks <= _SOON), windows[0])


def _of_weeks(windows: tuple[WindowPlan, ...], weeks: int) -> WindowPlan:
    return next(window for window in windows if window.weeks == weeks)


def _need(window: WindowPlan, lift: float) -> PeopleNeeded:
    return next(need for need in window.needed if need.lift == lift)


def _count(people: int | None) -> str:
    return "too many" if people is None else f"{people:,}"
