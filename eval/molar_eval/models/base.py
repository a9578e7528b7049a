"""Models under test: what each has to do, what it may see, and how baselines choose their settings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases, Mask, Scores, Seen
from molar_eval.metrics import accuracy
from molar_eval.ranking import rank
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError
from molar_retrieval.models import base
from molar_retrieval.models.base import Setting as Setting
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.validation import ValidationCases, ndcg, ranks
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint

Kind = Literal["ours", "ablation", "baseline"]
Scoring = Callable[[Interactions], Scores]
"""Scores of all items for histories, shape (n_histories, n_items), float32, in an array that the caller may change."""
MAX_CASES = 10_000
"""Validation cases that choose a setting."""
K = 10


@dataclass(frozen=True, eq=False)
class EvaluationTask:
    """All that a model may see.

    Attributes:
        training: The interactions that everything is fitted on.
        validation: Cases that choose settings.
        candidates: Whether an item may be recommended, shape (n_items,).
        content: Conditioned content vectors of all items, shape (n_items, f), rows of length 1 or 0; None where the
            suite has no content. They are made from the catalogue alone.
        seen: Whether items that a user had are hidden from the ranking.
        folder: For files of the model's own, kept between runs: work that a killed run left is found here again.
        words: Lexical features of all items, their words and attributes without an encoder, shape (n_items, w), rows of
            length 1 or 0; None where the suite has no content.
    """

    training: Interactions
    validation: Cases
    candidates: npt.NDArray[np.bool_]
    content: Scores | None
    seen: Seen
    folder: Path
    words: Scores | None = None

    @property
    def digest(self) -> str:
        """Changes with the interactions, validation cases and candidates, whatever users are called."""
        logs = (self.training, self.validation.inputs(), self.validation.seen())
        cases = [self.validation.offsets, self.validation.targets, self.candidates]
        arrays = [array for log in logs for array in (log.offsets, log.item)] + cases
        data = fingerprint.of_bytes(np.ascontiguousarray(array).tobytes() for array in arrays)
        return fingerprint.of_json([self.seen, data])


class ScorerFiles(Protocol):
    """What a fitted model is opened from in another process, or on a machine that sees its files; it is pickled."""

    @property
    def fingerprint(self) -> str:
        """Changes with whatever the scores depend on."""

    @property
    def folder(self) -> Path:
        """Where all files lie, and others perhaps."""

    def opened(self, training: Interactions) -> AbstractContextManager["Scorer"]:
        """The model, which has seen this log; it computes with one thread."""


class Scorer(Protocol):
    """A fitted model."""

    @property
    def files(self) -> ScorerFiles | None:
        """What it is opened from elsewhere; None: it lives in the memory of this process."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was chosen on validation, and whatever else a reader should know; JSON-able."""

    def scores(self, inputs: Interactions) -> Scores:
        """Scores of all items for each history, higher is better, shape (n_histories, n_items).

        ``-inf`` marks an item that the model cannot score: it is never recommended and counts as a miss. A history may
        be empty, and may contain items that training has never seen.
        """

    def finish(self, scores: Scores, allowed: npt.NDArray[np.bool_], inputs: Interactions) -> Scores:
        """The scores that rank, now that it is known which items may be shown.

        Args:
            scores: Of all items, shape (n_histories, n_items); may be overwritten.
            allowed: Candidates that are not hidden, the same shape.
            inputs: The histories, those that :meth:`scores` was last asked about.
        """


class Tested(Protocol):
    """What a report has a line for."""

    @property
    def name(self) -> str:
        """As it stands in tables."""

    @property
    def kind(self) -> Kind:
        """Which part of the report it belongs to."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that shapes the result but the data and the seed; JSON-able, enters the cache's fingerprint."""

    @property
    def stochastic(self) -> bool:
        """Whether the seed matters."""


class Model(Tested, Protocol):
    """A model under test."""

    def fit(self, data: EvaluationTask, seed: int, progress: Progress = SILENT) -> Scorer:
        """Fit on ``data.training``, choose settings on ``data.validation``.

        Raises:
            DataError: If the data lack what the model needs.
        """


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted baseline, which can score the ``scorable`` items, shape (n_items,)."""

    scoring: Scoring
    scorable: Mask
    facts: Mapping[str, Any]
    files: None = field(default=None, init=False)  # what was fitted lies in memory

    def scores(self, inputs: Interactions) -> Scores:
        """See :class:`Scorer`; ``-inf`` where an item is not scorable."""
        scores = self.scoring(inputs)
        scores[:, ~self.scorable] = -np.inf
        return scores

    def finish(self, scores: Scores, allowed: Mask, inputs: Interactions) -> Scores:
        """Nothing more; see :class:`Scorer`."""
        return scores


class Baseline(ABC):
    """A model whose settings come from a grid; another grid than the model's own may be given.

    An item without training interactions cannot be scored by a collaborative model: the number that its arithmetic
    gives (a count or a factor of zero) says nothing about the item, so the item is a miss. A model that reads content
    overrides :meth:`scorable`.
    """

    name: str
    kind: Kind = "baseline"
    stochastic: bool = False
    GRID: ClassVar[Sequence[Setting]]

    def __init__(self, grid: Sequence[Setting] | None = None) -> None:
        self.grid = [dict(setting) for setting in (self.GRID if grid is None else grid)]
        self.settings: Mapping[str, Any] = {"grid": self.grid}

    def fit(self, data: EvaluationTask, seed: int, progress: Progress = SILENT) -> Fitted:
        """Keep the setting that ranks validation best; DataError if the data lack what the model needs."""
        if not len(data.training):
            raise DataError(f"{self.name}: there are no training interactions", "check the split, or give more data")
        progress.start(self.name, len(self.grid))
        more = self.more_cases(data) if data.seen == "hide" else None
        fitted = tune(self.grid, self.prepare(data, seed), data, self.scorable(data), progress, more)
        progress.finish()
        return fitted

    @abstractmethod
    def prepare(self, data: EvaluationTask, seed: int) -> Callable[[Setting], Scoring]:
        """Do what all settings share; the result fits one of them."""

    def scorable(self, data: EvaluationTask) -> Mask:
        """Items that the model can score, shape (n_items,)."""
        return known_items(data.training)

    def more_cases(self, data: EvaluationTask) -> ValidationCases | None:
        """Training interactions that choose a setting as well as validation does: none, of what is fitted on them."""
        return None


def tune(
    grid: Sequence[Setting],
    fit: Callable[[Setting], Scoring],
    data: EvaluationTask,
    scorable: Mask,
    progress: Progress = SILENT,
    more: ValidationCases | None = None,
) -> Fitted:
    """Fit each setting and keep the one with the highest validation NDCG@10, the first of equals.

    There is at least one. Facts of the best are ``chosen``, ``tried`` (setting, validation NDCG@10 and seconds of fit
    and validation, in the order of the grid), ``validation_cases``, and ``edge_of_grid`` where :func:`edges` finds any.
    ``more`` cases count as those of validation do, and are reported as ``training_cases``.
    """
    cases, extra = sample(data.validation), 0 if more is None else len(more)

    def judge(fitted: Fitted) -> float:
        score = validation_ndcg(fitted, data, cases)
        if more is not None and extra:
            further = ndcg(ranks(more, lambda block: fitted.scores(more.histories(block))), K)
            score = (len(cases) * score + extra * further) / (len(cases) + extra)
        progress.advance()
        return score

    candidates = ((setting, lambda setting=setting: Fitted(fit(setting), scorable, {})) for setting in grid)
    best, chosen, tried = base.tune(candidates, judge)
    facts: dict[str, Any] = {"chosen": dict(chosen)}
    if at_edge := edges(grid, chosen):
        facts["edge_of_grid"] = at_edge
    facts["validation_cases"] = len(cases)
    if extra:
        facts["training_cases"] = extra
    return replace(best, facts={**facts, "tried": tried})


def edges(grid: Sequence[Setting], chosen: Setting) -> dict[str, str]:
    """Where the chosen setting lies at an end of the grid, so that validation may ask for more than was tried.

    By key: ``smallest`` or ``largest`` of several numbers, among the settings that equal it in all that is no number.
    Nothing lies beyond a smallest of 0.
    """
    numbers = {key: value for key, value in chosen.items() if isinstance(value, int | float)}
    alike = [one for one in grid if all(one.get(key) == chosen[key] for key in chosen.keys() - numbers.keys())]
    found = {}
    for key, value in numbers.items():
        tried = sorted({one[key] for one in alike if isinstance(one.get(key), int | float)})
        if len(tried) > 1 and value in (tried[0], tried[-1]) and value:
            found[key] = "largest" if value == tried[-1] else "smallest"
    return found


def sample(cases: Cases) -> Cases:
    """At most 10,000 of the cases, always the same ones, for every model and seed."""
    return cases.drawn(MAX_CASES, "validation cases")


def validation_ndcg(fitted: Fitted, data: EvaluationTask, cases: Cases) -> float:
    """Mean NDCG@10; 0 without cases."""
    if not len(cases):
        return 0.0
    found = rank(cases, fitted.scores, k=K, candidates=data.candidates, seen=data.seen).ranks
    return float(accuracy(found, cases.offsets, (K,))[f"ndcg@{K}"].mean())
