"""Weekly looks at an A/B stage: how much of the error each may spend by what is known then, and what it says.

What is known is the information, one over the squared standard error of the lift, as a share of what it takes to see
the experiment's lift with its power. Once all of that is there, or all weeks are over, a look is the last one, and
spends what is left of the error: where few people come, nearly all of it. Looks that were missed are not made up for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from molar_eval.experiments.effects import ComparedMetric
from molar_eval.experiments.sequential import LEAST_NEWS, LookTaken, conditional_power, next_look, planned_information
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import Experiment
from molar_retrieval.experiments.records import Look

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
