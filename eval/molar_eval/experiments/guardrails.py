"""What the treatment must not harm: what people do, and how answers are; bounds that hold however often one looks.

An alarm needs both: that the treatment is worse for certain, with a chance of :data:`.confidence_sequences.ALPHA` for
each of them to be ever wrong, and that as far as one can see it is worse by more than the experiment allows.
"""

from collections.abc import Mapping, Sequence
from math import expm1, log, log1p

import numpy as np

from molar_eval.experiments.confidence_sequences import (
    ALPHA,
    ArmSums,
    SequenceBounds,
    difference_sequence,
    evidence_of_more,
    tuned_to,
)
from molar_eval.experiments.effects import TUNED
from molar_eval.experiments.observed import Observed
from molar_eval.experiments.outcomes import cut
from molar_eval.experiments.population import Population
from molar_eval.experiments.results import Guardrail
from molar_retrieval.experiments.definition import CONTROL, TREATMENT
from molar_retrieval.experiments.records import EDGES, ServedRow

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
