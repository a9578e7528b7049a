"""What the trials of a run would take: nothing where they are kept, else as former ones did, else nobody knows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from molar_eval.evaluate import Evaluator
from molar_eval.model_runs import TrialRunner
from molar_eval.models.base import EvaluationTask, Model
from molar_eval.models.prequential import arms
from molar_eval.splits import PREQUENTIAL
from molar_eval.suite import SplitPlan
from molar_eval.trial_costs import Expected, TrialCosts


@dataclass(frozen=True)
class PendingTrial:
    """A trial of a run that is not begun.

    Attributes:
        split: Name of the split, with "seen items shown" where they are.
        model: Name of the model.
        seed: Its number.
        state: ``kept``: made before, costs nothing; ``foretold`` from a former one; ``unknown``.
        expected: What it would take, of a foretold one.
    """

    split: str
    model: str
    seed: int
    state: Literal["kept", "foretold", "unknown"]
    expected: Expected | None = None


class _Kept(TrialRunner):
    def is_kept(self, model: Model, seed: int) -> bool:
        """Whether :meth:`run` would find the trial made before."""
        return (self.cache / self._name(model, seed) / "trial.json").exists()


def pending(evaluator: Evaluator, cache: Path, taken: TrialCosts) -> Iterator[PendingTrial]:
    """All trials of a run, in their order; nothing is written. Walks through time are unknown, an arm each.

    Raises:
        DataError: If a split cannot be made of the log, or leaks.
        SettingsError: If the suite names an unknown split, model or column.
    """
    for plan in evaluator.suite.splits:
        names = plan.models or evaluator.suite.models
        if plan.split == PREQUENTIAL:
            walkers = arms(names, evaluator.settings, evaluator.own)
            yield from (PendingTrial(plan.split, arm.name, 0, "unknown") for arm in walkers)
        else:
            yield from _trials(evaluator, plan, evaluator.registry.models(names), cache, taken)


def _trials(
    evaluator: Evaluator, plan: SplitPlan, models: list[Model], cache: Path, taken: TrialCosts
) -> Iterator[PendingTrial]:
    suite = evaluator.suite
    for seen in plan.seen:
        split = evaluator.made_split(plan, seen)
        shown = "" if seen == "hide" else ", seen items shown"
        task = EvaluationTask(
            split.training, split.validation, evaluator.candidates(), evaluator.content, seen, Path(), evaluator.words
        )
        runner = _Kept(split, task, suite.k, cache, evaluator.memory)
        for model in models:
            for seed in range(suite.seeds if model.stochastic else 1):
                expected = taken.trial(runner, model)
                state: Literal["kept", "foretold", "unknown"] = "unknown" if expected is None else "foretold"
                if runner.is_kept(model, seed):
                    state, expected = "kept", None
                yield PendingTrial(split.name + shown, model.name, seed, state, expected)
