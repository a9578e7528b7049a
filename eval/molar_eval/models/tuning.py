"""Every baseline chooses its settings the same way: a small grid, and full ranking of the same validation cases."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from molar_eval.cases import Cases, Mask, Scores
from molar_eval.metrics.accuracy import accuracy
from molar_eval.models.base import Kind, Task
from molar_eval.ranking import rank
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError
from molar_retrieval.models import base
from molar_retrieval.models.base import Setting as Setting
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.validation import ValidationCases, ndcg, ranks
from molar_retrieval.progress import SILENT, Progress

Scoring = Callable[[Interactions], Scores]
"""Scores of all items for histories, shape (n_histories, n_items), float32, in an array that the caller may change."""

MAX_CASES = 10_000
K = 10


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted baseline, which has something to say about the ``scorable`` items, shape (n_items,)."""

    scoring: Scoring
    scorable: Mask
    facts: Mapping[str, Any]
    files: None = field(default=None, init=False)  # what was fitted lies in memory

    def scores(self, inputs: Interactions) -> Scores:
        """Scores of all items for each history, shape (n_histories, n_items); ``-inf`` where not scorable."""
        scores = self.scoring(inputs)
        scores[:, ~self.scorable] = -np.inf
        return scores

    def finish(self, scores: Scores, allowed: Mask, inputs: Interactions) -> Scores:
        """Nothing more; see :class:`molar_eval.models.base.Scorer`."""
        return scores


class Baseline(ABC):
    """A model whose settings come from a grid.

    An item without training interactions cannot be scored by a collaborative model: the number that its arithmetic
    gives (a count or a factor of zero) says nothing about the item, so the item is a miss. A model that reads content
    overrides :meth:`scorable`. A grid may be given instead of the model's own; of equals the first wins.
    """

    name: str
    kind: Kind = "baseline"
    stochastic: bool = False
    GRID: ClassVar[Sequence[Setting]]

    def __init__(self, grid: Sequence[Setting] | None = None) -> None:
        self.grid = [dict(setting) for setting in (self.GRID if grid is None else grid)]
        self.settings: Mapping[str, Any] = {"grid": self.grid}

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> Fitted:
        """Keep the setting that ranks validation best; DataError if the data lack what the model needs."""
        if not len(task.training):
            raise DataError(f"{self.name}: there are no training interactions", "check the split, or give more data")
        progress.start(self.name, len(self.grid))
        more = self.telling(task) if task.seen == "hide" else None
        fitted = tune(self.grid, self.prepare(task, seed), task, self.scorable(task), progress, more)
        progress.finish()
        return fitted

    @abstractmethod
    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Do what all settings share; the result fits one of them."""

    def scorable(self, task: Task) -> Mask:
        """Items that the model can score, shape (n_items,)."""
        return known_items(task.training)

    def telling(self, task: Task) -> ValidationCases | None:
        """Training interactions that tell settings apart as well as validation: none, of what is fitted on them."""
        return None


def tune(
    grid: Sequence[Setting],
    fit: Callable[[Setting], Scoring],
    task: Task,
    scorable: Mask,
    progress: Progress = SILENT,
    more: ValidationCases | None = None,
) -> Fitted:
    """Fit each setting and keep the one with the highest validation NDCG@10, the first of equals.

    There is at least one. Facts of the best are ``chosen``, ``tried`` (setting, validation NDCG@10 and seconds of fit
    and validation, in the order of the grid), ``validation_cases``, and ``edge_of_grid`` where :func:`edges` finds any.
    Where there are ``more`` cases, all of them count alike, and are told as ``training_cases``.
    """
    cases = sample(task.validation)
    asked = 0 if more is None else len(more)

    def judge(fitted: Fitted) -> float:
        score = validation_ndcg(fitted, task, cases)
        if more is not None and asked:
            further = ndcg(ranks(more, lambda block: fitted.scores(more.histories(block))), K)
            score = (len(cases) * score + asked * further) / (len(cases) + asked)
        progress.advance()
        return score

    def fitted(setting: Setting) -> Fitted:
        return Fitted(fit(setting), scorable, {})

    best, setting, tried = base.tune(((setting, partial(fitted, setting)) for setting in grid), judge)
    found = edges(grid, setting)
    at_edge = {"edge_of_grid": found} if found else {}
    told = {"validation_cases": len(cases), **({"training_cases": asked} if asked else {})}
    return replace(best, facts={"chosen": dict(setting), **at_edge, **told, "tried": tried})


def edges(grid: Sequence[Setting], chosen: Setting) -> dict[str, str]:
    """Where the chosen setting lies at an end of the grid, so that validation may ask for more than was tried.

    By key: ``smallest`` or ``largest`` of several numbers, among the settings that are like it in all words. Nothing
    lies beyond a smallest of 0.
    """
    alike = [one for one in grid if _words(one) == _words(chosen)]
    found = {}
    for key, value in _numbers(chosen).items():
        tried = sorted({_numbers(one)[key] for one in alike if key in _numbers(one)})
        if len(tried) > 1 and value in (tried[0], tried[-1]) and value:
            found[key] = "largest" if value == tried[-1] else "smallest"
    return found


def _numbers(setting: Setting) -> dict[str, float]:
    return {key: v for key, v in setting.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _words(setting: Setting) -> dict[str, Any]:
    numbers = _numbers(setting)
    return {key: value for key, value in setting.items() if key not in numbers}


def sample(cases: Cases) -> Cases:
    """At most 10,000 of the cases, always the same ones, for every model and seed."""
    return cases.drawn(MAX_CASES, "validation cases")


def validation_ndcg(fitted: Fitted, task: Task, cases: Cases) -> float:
    """Mean NDCG@10; 0 without cases."""
    if not len(cases):
        return 0.0
    ranks = rank(cases, fitted.scores, k=K, candidates=task.candidates, seen=task.seen).ranks
    return float(accuracy(ranks, cases.offsets, (K,))[f"ndcg@{K}"].mean())
