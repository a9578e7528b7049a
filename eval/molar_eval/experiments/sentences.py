"""A plan in words: what can be seen and when, what cannot, what would help."""

from collections.abc import Iterator

from molar_eval.experiments.outcomes import Metric
from molar_eval.experiments.plan import ExperimentPlan, PeopleNeeded, WindowPlan

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
