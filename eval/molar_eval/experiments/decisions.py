"""What is to become of a stage, by what an experiment has shown: rules without any arithmetic of their own.

A stage goes back by itself where that protects people. Nothing goes on, and nothing that does no harm ends, before
somebody says so. While data are broken there is no verdict; an alarm counts even then, as nobody is hurt by caution.
"""

from molar_eval.experiments.results import Decision, ExperimentResults
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import (
    AB,
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
