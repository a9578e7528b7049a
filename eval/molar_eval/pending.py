"""Which trials of a run are still to be made: the others are kept from before."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from molar_eval.evaluate import Evaluator
from molar_eval.models.base import Model, Task
from molar_eval.splits import PREQUENTIAL
from molar_eval.suite import SplitPlan, Suite
from molar_eval.trial import TrialRunner


@dataclass(frozen=True)
class Pending:
    """What of a suite is to be made.

    Attributes:
        suite: With the splits and models of which a trial is missing; its splits are none where nothing is.
        trials: How many trials the whole suite has, walks left out.
        kept: How many of them are there.
    """

    suite: Suite
    trials: int
    kept: int


def pending(evaluator: Evaluator, cache: Path) -> Pending:
    """What a run would make that is not in the folder of finished trials; walks through time count as missing.

    Nothing is written.

    Raises:
        DataError: If a split cannot be made of the log, or leaks.
        SettingsError: If the suite names an unknown split, model or column.
    """
    plans, trials, kept = list[SplitPlan](), 0, 0
    for plan in evaluator.suite.splits:
        if plan.split == PREQUENTIAL:
            plans.append(plan)
            continue
        models = evaluator.roster.models(plan.models or evaluator.suite.models)
        there = dict.fromkeys((model.name for model in models), True)
        for model, made in _trials(evaluator, plan, models, cache):
            trials, kept = trials + 1, kept + made
            there[model.name] &= made
        if missing := tuple(name for name, whole in there.items() if not whole):
            plans.append(plan.model_copy(update={"models": missing}))
    return Pending(evaluator.suite.model_copy(update={"splits": tuple(plans)}), trials, kept)


def _trials(evaluator: Evaluator, plan: SplitPlan, models: list[Model], cache: Path) -> Iterator[tuple[Model, bool]]:
    suite, plan = evaluator.suite, evaluator.fitting(plan)
    for seen in plan.seen:
        split = evaluator.made_split(plan, seen)
        task = Task(
            split.training, split.validation, evaluator.candidates(), evaluator.content, seen, Path(), evaluator.words
        )
        runner = TrialRunner(split, task, suite.k, cache, evaluator.memory)
        for model in models:
            for seed in range(suite.seeds if model.stochastic else 1):
                yield model, runner.is_kept(model, seed)
