"""Results of an experiment."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from molar_eval.experiments.money import Money
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import AB, CANARY, EVERYBODY, Experiment, Stage
from molar_retrieval.experiments.records import Look, StageRow

Go = Literal["on", "back", "wait", "stop"]
"""What becomes of a stage: ``on`` to the next, ``back`` to an earlier one, ``wait`` for more people, or ``stop``."""


@dataclass(frozen=True)
class Effect:
    """What the treatment changes of a metric, by the people who met a difference.

    Attributes:
        metric: ``clicks``, ``carts``, ``conversion`` or ``revenue``, each per person; or ``item_value``, revenue
            by what was bought.
        control: Mean of the control arm, per person; with CUPED after it.
        treatment: Likewise of the treatment.
        difference: Treatment less control.
        low: Lower end of its interval: at the level of the experiment, widened for the looks that were taken.
        high: Upper end.
        lift: The difference as a share of the control arm's mean; None where that is 0 or less.
        lift_low: Lower end of its interval; None where the control arm's mean is not known to be above 0.
        lift_high: Upper end.
        people: In the control arm and in the treatment.
        cuped: Whether what people did before was taken out.
        significant: Whether the interval leaves out 0.
    """

    metric: str
    control: float
    treatment: float
    difference: float
    low: float
    high: float
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    people: tuple[int, int]
    cuped: bool
    significant: bool


@dataclass(frozen=True)
class Guardrail:
    """Something that the treatment must not harm, looked at all the time.

    Attributes:
        metric: ``clicks``, ``conversion``, ``revenue``, ``returns``, ``milliseconds``, ``errors`` or ``empty``.
        difference: Treatment less control, as a share of what the control arm has; of ``errors`` and ``empty`` lists in
            shares of the answers; None while it is not known.
        low: Lower end of a confidence sequence: valid however often one looks. None while nothing is known.
        high: Upper end.
        harm: How much worse the treatment may be, in the units of ``difference``, 0 or more.
        alarm: Whether the treatment is known to do such harm.
        visitors: People of the treatment, or its answers, that this is of.
    """

    metric: str
    difference: float | None
    low: float | None
    high: float | None
    harm: float
    alarm: bool
    visitors: int


@dataclass(frozen=True)
class Preference:
    """Which arm's items people took of interleaved lists.

    Attributes:
        wins: People who preferred the treatment.
        losses: People who preferred the control arm.
        ties: People who preferred neither.
        preference: From -1, control alone, to 1, treatment alone.
        low: Lower end of its confidence sequence.
        high: Upper end.
        p: Anytime-valid p-value of there being no preference.
        people: Who was shown an interleaved list on which the arms differed.
    """

    wins: int
    losses: int
    ties: int
    preference: float
    low: float
    high: float
    p: float
    people: int


@dataclass(frozen=True)
class ShadowComparison:
    """Both arms asked for the same requests, of which people saw the control arm alone.

    Attributes:
        requests: How many.
        overlap: Mean share of items that both lists have.
        p99_ratio: 99th percentile of the treatment's time as a multiple of the control arm's.
        errors: Requests that failed in the treatment and not in the control arm.
        empty: Empty lists of the treatment less those of the control arm.
        price: Mean price of the treatment's items as a multiple of the control arm's; None without prices.
    """

    requests: int
    overlap: float
    p99_ratio: float
    errors: int
    empty: int
    price: float | None


@dataclass(frozen=True)
class Decision:
    """What is to become of a stage.

    Attributes:
        go: On, back, wait, or stop.
        to: The stage to go to; None where none is.
        why: Sentences, the weightiest first.
        automatic: Whether it is carried out without anybody saying so.
    """

    go: Go
    to: Stage | None
    why: tuple[str, ...]
    automatic: bool


@dataclass(frozen=True)
class ExperimentResults:
    """Everything that is known of an experiment in its present stage.

    Attributes:
        name: Of the experiment.
        stage: In which it is.
        since: When the stage began, microseconds since 1970.
        until: To when events are read.
        people: Who was assigned to each arm, by arm.
        triggered: Of them who met a list on which the arms differ.
        both: People who saw both arms; they are counted here alone.
        srm: p-value of the numbers of people, or of triggered ones if that is smaller, given the shares that were
            meant; None where there is nothing to compare.
        effects: By metric, the primary one first.
        guardrails: What must not be harmed.
        preference: Of interleaved lists; None in other stages.
        shadow: Of the stage in which nobody sees the treatment; None in others.
        looks: Looks at this stage that are on record, the first one first.
        money: What it brings; None where nobody reckoned it.
        decision: What is to become of the stage.
        problems: What is broken and holds the verdict, in sentences.
    """

    name: str
    stage: Stage
    since: int
    until: int
    people: dict[str, int]
    triggered: dict[str, int]
    both: int
    srm: float | None
    effects: tuple[Effect, ...]
    guardrails: tuple[Guardrail, ...]
    preference: Preference | None
    shadow: ShadowComparison | None
    looks: tuple[Look, ...]
    money: Money | None
    decision: Decision
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; what has no bound is None."""
        told: dict[str, Any] = _bounded(asdict(self))
        return told

    def effect(self, metric: str) -> Effect | None:
        """The effect on a metric; None where it is not known."""
        return next((one for one in self.effects if one.metric == metric), None)


def _bounded(value: Any) -> Any:
    """Without numbers that are infinite."""
    if isinstance(value, dict):
        return {name: _bounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


Verdict = Literal["brings", "nothing", "harms", "open", "watched", "held"]
"""``brings`` more of what it is judged by; ``nothing`` that can be seen, after all weeks that were planned or as
more of them would hardly show it; ``harms``; ``open``: cannot be told yet; ``watched``: everybody has it, and beside
the few who do not it cannot be told yet; ``held``: the data is broken."""
EXPOSED = (CANARY, AB, EVERYBODY)
"""Stages in which people have one of the two arms."""


def verdict_of(results: ExperimentResults, experiment: Experiment, stages: Sequence[StageRow]) -> Verdict:
    """What to take from it: harm that is known before what it brings, and broken data before both."""
    if results.problems:
        return "held"
    effect = results.effect(experiment.primary)
    if any(one.alarm for one in results.guardrails) or (effect is not None and effect.significant and effect.high < 0):
        return "harms"
    if effect is None:
        return "open"
    if effect.significant:
        return "brings"
    if results.stage == EVERYBODY:
        return "watched"
    given_up = bool(results.looks) and results.looks[-1].decision == "stop"
    return "nothing" if given_up or weeks_left(results, experiment, stages) == 0 else "open"


def weeks_left(results: ExperimentResults, experiment: Experiment, stages: Sequence[StageRow]) -> int:
    """Weeks until the comparison of two groups is over as planned; all of them where it has not begun."""
    begun = [one for one in stages if one.stage == AB]
    if not begun:
        return experiment.weeks
    ended = [one.begun for one in stages if one.number > begun[-1].number]
    passed = (min([results.until, *ended]) - begun[-1].begun) / (7 * DAY)
    return max(0, math.ceil(experiment.weeks - passed - 1e-9))


def exposed_since(stages: Sequence[StageRow]) -> int | None:
    """Since when people have one of the two arms, microseconds since 1970; None: they never had."""
    return min((one.begun for one in stages if one.stage in EXPOSED), default=None)
