"""From outcomes to a decision: effects, guardrails, looks, problems of the data.

An alarm needs both: that the treatment is worse for certain, with a chance of :data:`.confidence_sequences.ALPHA` for
each of them to be ever wrong, and that as far as one can see it is worse by more than the experiment allows.

What is known is the information, one over the squared standard error of the lift, as a share of what it takes to see
the experiment's lift with its power. Once all of that is there, or all weeks are over, a look is the last one, and
spends what is left of the error: where few people come, nearly all of it. Looks that were missed are not made up for.

A stage goes back by itself where that protects people. Nothing goes on, and nothing that does no harm ends, before
somebody says so. While data are broken there is no verdict; an alarm counts even then, as nobody is hurt by caution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, expm1, log, log1p, sqrt

import numpy as np

from molar_eval.experiments.ab_test import MISMATCH, ArmComparison, Moments, compare_means, compare_ratios
from molar_eval.experiments.covariates import Floats, PastOfPeople, cut
from molar_eval.experiments.exposure import HOUR, Ints, Mask, Observed, Population
from molar_eval.experiments.results import Decision, Effect, ExperimentResults, Guardrail
from molar_eval.experiments.sequential import (
    ALPHA,
    LEAST_NEWS,
    ArmSums,
    LookTaken,
    SequenceBounds,
    conditional_power,
    difference_sequence,
    evidence_of_more,
    mixture_bound,
    next_look,
    planned_information,
    tuned_to,
)
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import (
    AB,
    ARMS,
    CANARY,
    CONTROL,
    EVERYBODY,
    INTERLEAVING,
    PRIMARIES,
    SHADOW,
    STOPPED,
    TREATMENT,
    Experiment,
    Stage,
)
from molar_retrieval.experiments.records import EDGES, Look, ServedRow

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


MOST_BOTH = 0.05
"""Share of people with both arms from which on leaving them out may change who is compared."""
_FEWEST = 50  # people or lines from which on something is said of shares
_MOST_WRONG = 0.01  # share of lines with impossible times
_HOLE, _LONG, _WEEK = 24, 72, 168  # hours: without any line, without any whatever the weekday, of a week
_DAYS = 72  # hours from which on a hole is told in days
_LINES_A_DAY = 24 * 3  # below which a day without a line may be chance


def uneven(people: Mapping[str, int], met: Mapping[str, int], srm: float | None) -> list[str]:
    """That not as many people are in each arm as were meant to be."""
    if srm is None or srm >= MISMATCH:
        return []
    words = f"{people[CONTROL]:,} and {people[TREATMENT]:,} people, {met[CONTROL]:,} and {met[TREATMENT]:,} of them"
    return [
        f"the arms are uneven: {words} who met a difference, by chance with p = {srm:.1g}; find what loses"
        " people of one arm, and begin a new experiment"
    ]


def mixed(people: Population) -> list[str]:
    """That many people had both arms."""
    everybody = len(people) + people.both
    if everybody < _FEWEST or people.both <= MOST_BOTH * everybody:
        return []
    share = people.both / everybody
    return [f"{share:.0%} of the people had both arms and are left out: send user_id and session_id with each request"]


def silent(people: Population, observed: Observed) -> list[str]:
    """That the page tells nothing of people who were shown lists."""
    met = people.met
    found = []
    for treated, arm in enumerate(ARMS):
        own = met & (people.treated == bool(treated))
        count = int(np.count_nonzero(own))
        if count >= _FEWEST and not observed.seen[own].any():
            found.append(
                f"the event log has nothing that the {count:,} people of {arm} did since they met a difference:"
                " let the page send events"
            )
    return found


def unpriced(experiment: Experiment, observed: Observed) -> list[str]:
    """That the revenue of many purchases is not known where it decides."""
    bought = float(observed.purchases.sum())
    if experiment.primary != "revenue" or not observed.unpriced or observed.unpriced <= MOST_BOTH * bought:
        return []
    return [f"{observed.unpriced:,} purchases have no value, and their items no price: send value with purchases"]


def unheard_clicks(experiment: Experiment, observed: Observed) -> list[str]:
    """That looks name no list where they decide."""
    if experiment.primary != "clicks" or observed.clicks.any() or observed.lines < _FEWEST:
        return []
    return ["no click or view names the list that it came of: send request_id with clicks"]


def clocks(people: Population, observed: Observed, until: int) -> list[str]:
    """That moments cannot be right."""
    found = []
    later = int(np.count_nonzero(people.first > until + HOUR))
    if later:
        found.append(f"{later:,} people were first seen later than now: the clock of a server was set back or is wrong")
    for count, what in (
        (observed.ahead, "come from the future, by more than an hour"),
        (observed.early, "name an arm before their person was first seen"),
    ):
        if count > max(_MOST_WRONG * observed.lines, 1):
            found.append(
                f"{count:,} of {observed.lines:,} lines of the event log {what}: set the clocks, or send sent_at"
            )
    return found


def holes(observed: Observed, since: int, until: int, removed: int) -> list[str]:
    """That the event log lacks hours, at which it has lines in other weeks."""
    found = []
    if removed * DAY > since:
        found.append("events of since the stage began were removed: keep more days, `[events] keep_days`")
    hours = np.array([observed.hours.get(hour, 0) for hour in range(-(-since // HOUR), until // HOUR)], np.int64)
    if len(hours) and hours.mean() * 24 >= _LINES_A_DAY:
        longest = max((end - begin for begin, end in _empty(hours) if _unusual(hours, begin, end)), default=0)
        if longest:
            so_long = f"{longest} hours" if longest < _DAYS else f"{longest // 24:,} days"
            found.append(f"the event log has nothing of {so_long} on end: append what is missing")
    return found


def _empty(hours: Ints) -> list[tuple[int, int]]:
    """Where hours on end have no line, at least :data:`_HOLE` of them."""
    edges = np.flatnonzero(np.diff(np.r_[False, hours == 0, False]))
    return [(begin, end) for begin, end in edges.reshape(-1, 2).tolist() if end - begin >= _HOLE]


def _unusual(hours: Ints, begin: int, end: int) -> bool:
    """Whether the same hours of the week before or after have lines; where neither is known, whether it is long."""
    shifted = [np.arange(begin, end) + week for week in (-_WEEK, _WEEK)]
    there = np.concatenate([each[(each >= 0) & (each < len(hours))] for each in shifted])
    return bool(hours[there].any()) if len(there) else end - begin >= _LONG


def gone(experiment: Experiment, generations: set[str]) -> list[str]:
    """That an arm's generation is there no more."""
    return [
        f"the generation {name} of {arm} is gone: publish it again, or stop the experiment"
        for arm in ARMS
        if (name := experiment.arm(arm).generation) is not None and name not in generations
    ]


_OF_PEOPLE = ("clicks", "conversion", "revenue", "returns")
_WORSE_IF_MORE = ("returns", "milliseconds", "errors", "empty")
_FASTEST, _SLOWEST = 0.5, 7_000.0  # milliseconds that stand for what is outside the histogram's edges


def of_people(people: Population, observed: Observed, harms: Mapping[str, float]) -> list[Guardrail]:
    """What people do who met a difference: clicks, conversion, revenue, and what they send back."""
    met = people.met
    treated = people.treated[met]
    found = []
    for metric in _OF_PEOPLE:
        figures = observed.of(metric)
        if figures is None or not len(treated) or not np.ptp(own := figures[met]) > 0:
            found.append(_unknown(metric, harms[metric], int(treated.sum())))
            continue
        own = own if metric == "conversion" else cut(own)
        arms = ArmSums.of(own[~treated]), ArmSums.of(own[treated])
        found.append(_relative(metric, *arms, harms[metric]))
    return found


def of_answers(served: Sequence[ServedRow], harms: Mapping[str, float]) -> list[Guardrail]:
    """How answers are: how long they take, how many fail, how many lists are empty."""
    rows = {arm: [row for row in served if row.arm == arm] for arm in (CONTROL, TREATMENT)}
    answers = [sum(row.answers for row in rows[arm]) for arm in (CONTROL, TREATMENT)]
    found = [_slower(_log_times(rows[CONTROL]), _log_times(rows[TREATMENT]), harms["milliseconds"])]
    minutes = sorted({row.minute for row in served})
    place = {minute: number for number, minute in enumerate(minutes)}
    for metric in ("errors", "empty"):
        counts, tries = np.zeros((2, len(minutes))), np.zeros((2, len(minutes)))
        for number, arm in enumerate((CONTROL, TREATMENT)):
            for row in rows[arm]:
                counts[number, place[row.minute]] += getattr(row, metric)
                tries[number, place[row.minute]] += row.answers
        found.append(_more_often(metric, counts, tries, answers, harms[metric]))
    return found


def _relative(metric: str, control: ArmSums, treatment: ArmSums, harm: float) -> Guardrail:
    """In shares of the control arm's mean."""
    bounds = _bounds(control, treatment)
    mean = float(control.mean)
    worse = bounds.more if metric in _WORSE_IF_MORE else bounds.less
    alarm = bool(worse(harm * mean))
    visitors = int(np.max(treatment.people))
    if mean <= 0:
        return Guardrail(metric, None, None, None, harm, alarm, visitors)
    ends = (float(each) / mean for each in (bounds.difference, bounds.low, bounds.high))
    return _told(metric, *ends, harm=harm, alarm=alarm, visitors=visitors)


def _slower(control: ArmSums, treatment: ArmSums, harm: float) -> Guardrail:
    """By logarithms of the milliseconds, so that a few very slow answers do not hide what all are like."""
    bounds = _bounds(control, treatment)
    visitors = int(np.max(treatment.people))
    if not (control.people and treatment.people):
        return _unknown("milliseconds", harm, visitors)
    ends = (_as_share(float(each)) for each in (bounds.difference, bounds.low, bounds.high))
    return _told("milliseconds", *ends, harm=harm, alarm=bool(bounds.more(log1p(harm))), visitors=visitors)


def _as_share(logarithm: float) -> float:
    return expm1(logarithm) if logarithm < 100 else float("inf")


def _more_often(
    metric: str, counts: "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
    tries: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", answers: Sequence[int], harm: float,
) -> Guardrail:  # fmt: skip
    """In shares of the answers; the alarm by exact evidence from minute to minute, as such events are rare."""
    if not min(answers):
        return _unknown(metric, harm, answers[1])
    arms = [ArmSums.of_shares(float(n), float(count.sum())) for n, count in zip(answers, counts, strict=True)]
    bounds = _bounds(*arms)
    evidence = evidence_of_more(counts[0], counts[1], tries[0], tries[1])
    alarm = bool(evidence.max(initial=0.0) >= log(1 / ALPHA) and bounds.difference >= harm)
    ends = (float(each) for each in (bounds.difference, bounds.low, bounds.high))
    return _told(metric, *ends, harm=harm, alarm=alarm, visitors=answers[1])


def _bounds(control: ArmSums, treatment: ArmSums) -> SequenceBounds:
    people = max(float(np.max(treatment.people)), 1.0), max(float(np.max(control.people)), 1.0)
    variance = float((control + treatment).variance)
    tuned = tuned_to(TUNED, variance, people[0] / people[1]) or 1.0
    return difference_sequence(control, treatment, tuned=tuned)


def _told(
    metric: str, difference: float, low: float, high: float, *, harm: float, alarm: bool, visitors: int
) -> Guardrail:
    known = np.isfinite(low) and np.isfinite(high)
    return Guardrail(metric, difference, low if known else None, high if known else None, harm, alarm, visitors)


def _unknown(metric: str, harm: float, visitors: int) -> Guardrail:
    return Guardrail(metric, None, None, None, harm, alarm=False, visitors=visitors)


def _log_times(rows: Sequence[ServedRow]) -> ArmSums:
    """Sums of the logarithms of milliseconds, each answer in the middle between the edges that it lies between."""
    edges = np.array([_FASTEST, *EDGES, _SLOWEST])
    middle = (np.log(edges[1:]) + np.log(edges[:-1])) / 2
    counts = np.zeros(len(middle))
    for row in rows:
        counts += np.asarray(row.milliseconds, np.float64)
    return ArmSums(float(counts.sum()), float(counts @ middle), float(counts @ middle**2))


WEEK = 7 * DAY
FUTILE = 0.1
"""Below this chance to see the planned lift in the end, going on is futile."""


@dataclass(frozen=True)
class LookDue:
    """A look that is to be taken: the number of whole weeks that are over, and whether it is the last one."""

    week: int
    last: bool


def due(experiment: Experiment, begun: int, until: int, taken: Sequence[Look]) -> LookDue | None:
    """The look that is due in a stage; None: none is."""
    week = min((until - begun) // WEEK, experiment.weeks)
    done = max((int(look.facts["week"]) for look in taken), default=0)
    over = any(look.decision != "wait" for look in taken)
    return None if over or week <= done else LookDue(week, week == experiment.weeks)


def taken_now(
    experiment: Experiment, look: LookDue, found: ComparedMetric, taken: Sequence[Look], number: int, until: int
) -> Look | None:
    """Take a look: ``taken`` are those of this stage on record, ``number`` is that of this one.

    None where there is hardly more information than at the look before; the last look is taken all the same.
    """
    one = found.comparison
    information = one.lift_information
    if not information:
        return None
    planned = planned_information(experiment.lift, experiment.alpha, experiment.power, experiment.weeks)
    before = [LookTaken(each.information, each.spent, each.bound) for each in taken if each.bound is not None]
    share = information / planned
    if look.last and before:
        share = max(share, before[-1].share + LEAST_NEWS)
    last = look.last or share >= 1
    now = next_look(before, share, experiment.alpha, last=last)
    if now is None:
        return None
    weeks_more = _weeks_more(information, planned, look.week)
    decision, why = _said(experiment, found, [*before, now], planned, look.week, weeks_more, last=last)
    low, high = one.interval(now.bound)
    facts = {
        "week": look.week,
        "planned": planned,
        "people": list(one.people),
        "difference": one.difference,
        "low": low,
        "high": high,
        "weeks_more": weeks_more,
        "why": why,
    }
    return Look(number, until, "ab", found.metric, share, now.spent, one.statistic, now.bound, decision, facts)


def _said(
    experiment: Experiment,
    found: ComparedMetric,
    looks: Sequence[LookTaken],
    planned: float,
    week: int,
    weeks_more: int | None,
    *,
    last: bool,
) -> tuple[str, list[str]]:
    """What a look decides, and why."""
    one, metric, now = found.comparison, found.metric, looks[-1]
    lift = f"{experiment.lift:.0%} of {metric}"
    if abs(one.statistic) > now.bound:
        more = "more" if one.statistic > 0 else "less"
        words = f"the treatment brings {more} {metric}, beyond the bound of the look of week {week}"
        return ("on" if one.statistic > 0 else "back"), [words]
    if one.at_most(experiment.lift, now.bound):
        return "stop", [f"there is no difference of {metric} larger than {experiment.lift:.0%}"]
    if last and weeks_more is None:
        chance = f"with a chance of {experiment.power:.0%}"
        return "stop", [f"no difference is seen, where a lift of {lift} would have been {chance}"]
    rest = f": about {weeks_more} {'week' if weeks_more == 1 else 'weeks'} more at this rate"
    if last:
        return "stop", [f"it cannot be told after {week} weeks{rest}"]
    end = next_look(looks, 1.0, experiment.alpha, last=True)
    drift = experiment.lift * sqrt(planned)
    if end is not None and conditional_power(one.statistic, now.share, end.bound, drift) < FUTILE:
        return "stop", [f"going on is futile: a lift of {lift} would hardly be seen any more"]
    return "wait", [f"it cannot be told yet{rest}"]


def _weeks_more(information: float, planned: float, week: int) -> int | None:
    """Weeks until there is the information that the planned lift takes; None: it is there."""
    return None if planned <= information else max(1, ceil((planned / information - 1) * week))


ENOUGH = 1_000
"""Requests that both arms must have ranked in the shadow."""
SLOWEST = 1.2
"""How many times as slow as the control arm, at the 99th percentile, the treatment may be in the shadow."""
CANARY_DAYS = 7
QUARTER = 13  # weeks that people are held out once the treatment has reached everybody


def decide(experiment: Experiment, results: ExperimentResults) -> Decision:
    """The decision on the present stage; that of ``results`` is not read."""
    if results.stage == STOPPED:
        return Decision("stop", None, ("it is over",), automatic=False)
    alarms = tuple(_alarm(one.metric) for one in results.guardrails if one.alarm)
    if alarms and results.stage in (CANARY, AB, EVERYBODY):
        back: Stage = "stopped" if results.stage == EVERYBODY else "shadow"
        return Decision("back", back, (*alarms, *results.problems), automatic=True)
    if results.problems:
        return Decision("wait", None, ("there is no verdict on broken data", *results.problems), automatic=False)
    return _RULES[results.stage](experiment, results)


def _alarm(metric: str) -> str:
    what = {
        "clicks": "fewer clicks",
        "conversion": "fewer people buy",
        "revenue": "less revenue",
        "returns": "more is sent back",
        "milliseconds": "answers are slower",
        "errors": "more answers fail",
        "empty": "more lists are empty",
    }[metric]
    return f"the treatment does harm: {what} than with the control arm"


def _shadow(experiment: Experiment, results: ExperimentResults) -> Decision:
    shadow = results.shadow
    if shadow is None or shadow.requests < ENOUGH:
        so_far = 0 if shadow is None else shadow.requests
        words = f"both arms have ranked {so_far:,} requests; {ENOUGH:,} are needed"
        return Decision("wait", None, (words,), automatic=False)
    wrong = []
    if shadow.errors > 0:
        wrong.append(f"the treatment failed {shadow.errors:,} times where the control arm did not")
    if shadow.empty > 0:
        wrong.append(f"the treatment has {shadow.empty:,} empty lists more than the control arm")
    if not shadow.p99_ratio <= SLOWEST:
        wrong.append(f"of a hundred answers the slowest takes {shadow.p99_ratio:.2f} × as long; {SLOWEST} is allowed")
    if wrong:
        return Decision("wait", None, (*wrong, "mend it: nobody sees the treatment yet"), automatic=False)
    both_lists = "nothing" not in (experiment.control.shows, experiment.treatment.shows)
    next_stage: Stage = "ab" if experiment.unit == "time" else "interleaving" if both_lists else "canary"
    words = f"of {shadow.requests:,} requests none failed, was slow or empty because of the treatment"
    return Decision("on", next_stage, (words,), automatic=False)


def _interleaving(experiment: Experiment, results: ExperimentResults) -> Decision:
    found = results.preference
    if found is not None and found.low > 0:
        words = f"people prefer the treatment: {found.wins:,} against {found.losses:,}"
        return Decision("on", "canary", (words,), automatic=False)
    if found is not None and found.high < 0:
        words = f"people prefer the control arm: {found.losses:,} against {found.wins:,}"
        return Decision("back", "shadow", (words,), automatic=True)
    people = 0 if found is None else found.people
    left = experiment.weeks - _weeks(results)
    if left <= 0:
        words = f"after {experiment.weeks} weeks and {people:,} people no preference is seen"
        return Decision("wait", None, (words, "somebody has to decide: go on, or stop"), automatic=False)
    words = f"no preference is seen yet, of {people:,} people; at most {_in_weeks(left)} more"
    return Decision("wait", None, (words,), automatic=False)


def _canary(experiment: Experiment, results: ExperimentResults) -> Decision:
    days = (results.until - results.since) / DAY
    if days < CANARY_DAYS:
        left = CANARY_DAYS - int(days)
        words = f"no alarm so far; {left} {'day' if left == 1 else 'days'} more"
        return Decision("wait", None, (words,), automatic=False)
    if experiment.unit == "person" and (lacking := _unheard(results)) is not None:
        return Decision("wait", None, (lacking,), automatic=False)
    return Decision("on", "ab", (f"{CANARY_DAYS} days without an alarm",), automatic=False)


def _unheard(results: ExperimentResults) -> str | None:
    """Why that nothing alarmed says nothing; None: it says something."""
    if any(one.low is not None for one in results.guardrails if one.metric in PRIMARIES):
        return None
    met = results.triggered
    people = f"{met.get(CONTROL, 0):,} and {met.get(TREATMENT, 0):,} people"
    return f"no alarm, but too few have met a difference to raise one: {people}"


def _ab(experiment: Experiment, results: ExperimentResults) -> Decision:
    if not results.looks:
        return Decision("wait", None, (_no_look(experiment, results),), automatic=False)
    look = results.looks[-1]
    why = tuple(look.facts.get("why", ()))
    match look.decision:
        case "on":
            return Decision("on", "everybody", why, automatic=False)
        case "back":
            return Decision("back", "shadow", why, automatic=True)
        case "stop":
            return Decision("stop", "stopped", why, automatic=False)
    return Decision("wait", None, why, automatic=False)


def _no_look(experiment: Experiment, results: ExperimentResults) -> str:
    if experiment.unit == "time":
        return "it is looked at once, at the end"
    if not _weeks(results):
        return "the first look comes after a week"
    met = results.triggered
    people = f"{met.get(CONTROL, 0):,} and {met.get(TREATMENT, 0):,} people"
    return f"there is too little to look at {experiment.primary} yet: {people} have met a difference"


def _everybody(experiment: Experiment, results: ExperimentResults) -> Decision:
    effect = results.effect(experiment.primary)
    weeks = _weeks(results)
    if effect is None:
        return Decision("wait", None, ("nothing is known yet of who is held out",), automatic=False)
    held, with_it = effect.people
    of = f"{held:,} people held out against {with_it:,}"
    if effect.high < 0:
        words = f"who has the treatment does less: {experiment.primary}, {of}"
        return Decision("back", "stopped", (words,), automatic=True)
    if effect.low > 0:
        so_far = f"who has the treatment does more: {experiment.primary}, {of}"
    else:
        so_far = f"cannot tell yet what it brings: {of}"
    if weeks < QUARTER:
        return Decision(
            "wait", None, (so_far, f"{_in_weeks(QUARTER - weeks)} of the quarter are left"), automatic=False
        )
    words = "a quarter is over: make the treatment what everybody has, and stop the experiment"
    return Decision("stop", "stopped", (so_far, words), automatic=False)


_RULES = {SHADOW: _shadow, INTERLEAVING: _interleaving, CANARY: _canary, AB: _ab, EVERYBODY: _everybody}


def _weeks(results: ExperimentResults) -> int:
    """Whole weeks that the stage lasts."""
    return (results.until - results.since) // (7 * DAY)


def _in_weeks(weeks: int) -> str:
    return f"{weeks} {'week' if weeks == 1 else 'weeks'}"
