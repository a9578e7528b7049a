"""Fitting the fusion head by the three tasks of the paper (arXiv 2412.18176, section 3.1).

The paper trains a language model on them by gradient descent. A head over a frozen encoder has so few parameters that
each task has a closed solution, a ridge regression of one view of the items on another; what a regression cannot say,
such as how much a photo counts, is chosen on items that took no part in it. That generalises to new items, where
contrastive training of a head of this size only learned the old ones better.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.encoders.head import FusionHead
from molar_retrieval.finetuning.head_fit import Chosen, HeadFit
from molar_retrieval.finetuning.inputs import Inputs
from molar_retrieval.finetuning.report import NAMES, Name, TaskOutcome
from molar_retrieval.finetuning.withheld import READINGS
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.settings import FinetuneSettings

_PENALTIES = (1.0, 10.0, 100.0)
_MOVES = (0.1, 0.25, 0.5)
_WORDS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_WRITTEN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_TAKEN = (0.1, 0.2, 0.3, 0.5)
_FEWEST = 20
"""Pairs of views, or cases, of withheld items without which nothing can be chosen."""
_FOLDS = 3
"""Sets of withheld items."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fitted head, what was chosen for it, what became of each task, and how many items only chose."""

    head: FusionHead
    chosen: Chosen
    tasks: tuple[TaskOutcome, ...]
    withheld: int


def tune(inputs: Inputs, log: Interactions | None, settings: FinetuneSettings, progress: Progress = SILENT) -> Tuned:
    """Fit a head on all items to learn from, by what was chosen on withheld ones.

    ``log`` holds training interactions with the same items; None where nobody knows any.
    """
    course = _Course(inputs, log, settings)
    reasons = {name: course.why_not(name) for name in NAMES}
    steps = (course.behaviour, course.attributes, course.image_text)
    chosen = Chosen()
    before = {**course.scores(chosen), "image_text": course.pictured(None)}
    progress.start("tasks", len(NAMES))
    for name, step in zip(NAMES, steps, strict=True):
        if reasons[name] is None:
            chosen = step(chosen)
        progress.advance()
    progress.finish()
    after = course.scores(chosen)
    tasks = [
        TaskOutcome(name, before[name], after[name]) if why is None else TaskOutcome(name, left_out=why)
        for name, why in reasons.items()
    ]
    head = HeadFit(inputs, log, settings, np.zeros(len(inputs), bool)).head(chosen)
    withheld = sum(int(fold.withheld.sum()) for fold in course.folds)
    return Tuned(head, chosen, tuple(tasks), withheld)


class _Course:
    """The choices, each by its mean score over several sets of withheld items."""

    def __init__(self, inputs: Inputs, log: Interactions | None, settings: FinetuneSettings) -> None:
        self.settings, self.has_log = settings, log is not None
        drawn = rng.generator(settings.seed, "withheld items").permutation(np.flatnonzero(inputs.learn))
        size = round(settings.withheld * len(drawn))
        self.folds: list[HeadFit] = []
        for begin in range(0, _FOLDS * size, max(1, size)):
            withheld = np.zeros(len(inputs), bool)
            withheld[drawn[begin : begin + size]] = True
            self.folds.append(HeadFit(inputs, log, settings, withheld))
        self._read(Chosen())

    def why_not(self, name: Name) -> str | None:
        """Why a task cannot take part, or None."""
        if not getattr(self.settings, name):
            return "it is switched off"
        if name == "behaviour":
            if not self.has_log:
                return "there are no interactions"
            few = sum(len(fold.cases) for fold in self.folds)
            return None if few >= _FEWEST else f"only {few} people took an item that was withheld to choose by"
        few = sum(len(fold.asked(name)) for fold in self.folds)
        what = "a photo" if name == "image_text" else "attributes"
        return None if few >= _FEWEST else f"only {few} of the items withheld to choose by have {what} and a text"

    def attributes(self, chosen: Chosen) -> Chosen:
        """How words are brought to what attributes say."""
        tries = [replace(chosen, move=move, attributes=penalty) for move in _MOVES for penalty in _PENALTIES]
        return max([chosen, *self._harmless(chosen, tries)], key=self.named)

    def image_text(self, chosen: Chosen) -> Chosen:
        """How words are guessed from a photo, and a photo from words."""
        for guess in ("seen", "shown"):
            tries = [replace(chosen, **{guess: penalty}) for penalty in _PENALTIES]
            chosen = max([chosen, *self._harmless(chosen, tries)], key=self.pictured)
        return chosen

    def behaviour(self, chosen: Chosen) -> Chosen:
        """How much photo, words and words as written count, and what all of them say of who takes an item."""
        chosen = self._better(chosen, [replace(chosen, words=share) for share in _WORDS])
        chosen = self._better(chosen, [replace(chosen, written=share) for share in _WRITTEN])
        tries = [replace(chosen, taken=share, behaviour=penalty) for penalty in _PENALTIES for share in _TAKEN]
        return self._better(chosen, tries)

    def _harmless(self, chosen: Chosen, tries: Sequence[Chosen]) -> list[Chosen]:
        """Those that do the behaviour task no harm."""
        if self.why_not("behaviour") is not None:
            return list(tries)
        least = self.gain(chosen)
        return [one for one in tries if self.gain(one) >= least]

    def _better(self, chosen: Chosen, tries: Sequence[Chosen]) -> Chosen:
        best = max([chosen, *tries], key=self.gain)
        self._read(best)
        return best

    def _read(self, chosen: Chosen) -> None:
        """From now on histories are read in the way that suits this choice best."""
        self.reading = max(range(len(READINGS)), key=lambda reading: self.gain(chosen, reading))

    def scores(self, chosen: Chosen) -> Mapping[Name, float]:
        """How well withheld items are found, by task."""
        return {"behaviour": self.gain(chosen), "attributes": self.named(chosen), "image_text": self.pictured(chosen)}

    def gain(self, chosen: Chosen, reading: int | None = None) -> float:
        own = self.reading if reading is None else reading
        return self._mean(lambda fold: fold.gain(chosen, own))

    def named(self, chosen: Chosen) -> float:
        return self._mean(lambda fold: fold.named(chosen))

    def pictured(self, chosen: Chosen | None) -> float:
        return self._mean(lambda fold: fold.pictured(chosen))

    def _mean(self, score: Callable[[HeadFit], float]) -> float:
        return float(np.mean([score(fold) for fold in self.folds]))
