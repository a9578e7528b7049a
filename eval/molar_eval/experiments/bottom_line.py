"""What to take from an experiment in one word, and how long it may take until there is one."""

import math
from collections.abc import Sequence
from typing import Literal

from molar_eval.experiments.results import ExperimentResults
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import AB, CANARY, EVERYBODY, Experiment
from molar_retrieval.experiments.records import StageRow

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
