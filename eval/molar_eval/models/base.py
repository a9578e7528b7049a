"""What every model under test does: fit on training interactions, then score all items for histories."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases, Scores, Seen
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint

Kind = Literal["ours", "ablation", "baseline"]


@dataclass(frozen=True, eq=False)
class Task:
    """All that a model may see.

    Attributes:
        training: The interactions that everything is fitted on.
        validation: Cases that choose settings.
        candidates: Whether an item may be recommended, shape (n_items,).
        content: Conditioned content vectors of all items, shape (n_items, f), rows of length 1 or 0; None where the
            suite has no content. They are made from the catalogue alone.
        seen: Whether items that a user had are hidden from the ranking.
        folder: For files of the model's own, kept between runs: work that a killed run left is found here again.
        words: What is said of all items without an encoder, their words and attributes, shape (n_items, w), rows of
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
        """Changes with the interactions, validation cases and candidates, whatever people are called."""
        logs = (self.training, self.validation.inputs(), self.validation.seen())
        cases = [self.validation.offsets, self.validation.targets, self.candidates]
        arrays = [array for log in logs for array in (log.offsets, log.item)] + cases
        data = fingerprint.of_bytes(np.ascontiguousarray(array).tobytes() for array in arrays)
        return fingerprint.of_json([self.seen, data])


class ScorerFiles(Protocol):
    """What a fitted model is made of again, in another process or on a machine that sees its files; it is pickled."""

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
        """What it is made of again elsewhere; None: it lives in the memory of this process."""

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

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> Scorer:
        """Fit on ``task.training``, choose settings on ``task.validation``.

        Raises:
            DataError: If the data lack what the model needs.
        """
