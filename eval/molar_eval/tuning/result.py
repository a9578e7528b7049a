"""What a search found, trial by trial, and whether people whom it did not see bear it out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from molar_eval.tuning.space import Values
from molar_retrieval.reports.wording import ALPHA

State = Literal["complete", "pruned", "passed over"]


@dataclass(frozen=True)
class TuningTrial:
    """One setting of the dials.

    Attributes:
        number: Counted from 0, which is the settings as they are; killed ones leave gaps.
        state: ``complete``, ``pruned`` (worse than most after some epochs, and ended there), or ``passed over`` (its
            process was killed again and again).
        values: By dial, ``align.dropout``.
        score: NDCG@10 of the people who choose; None: it did not run to its end.
        epochs: NDCG@10 of the towers after each epoch.
        seconds: By the clock.
        note: What else is to be said of it.
    """

    number: int
    state: State
    values: Values
    score: float | None
    epochs: Sequence[float]
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Confirmation:
    """The best trial against the settings as they are, by people who took no part in the choice.

    Attributes:
        people: How many they are.
        now: Their mean NDCG@10 under the settings as they are.
        best: The same under the best trial's.
        low: Lower end of the 95 % interval of the difference, by a bootstrap over people.
        high: Its upper end.
        p: That so large a difference comes by chance: paired permutation test, two-sided.
    """

    people: int
    now: float
    best: float
    low: float
    high: float
    p: float

    @property
    def difference(self) -> float:
        """What the best trial gains."""
        return self.best - self.now

    @property
    def holds(self) -> bool:
        """Whether it is better, and not by chance."""
        return self.difference > 0 and self.p < ALPHA


@dataclass(frozen=True)
class TuningResult:
    """What :meth:`molar.Shop.tune` found.

    Attributes:
        folder: Where the study and its page are kept.
        trials: All that ended, in their order; the first one has the settings as they are.
        ran: How many of these this call ran.
        people: How many people choose.
        spent: Minutes that all trials took, of this call and of earlier ones.
        minutes: The budget.
        importance: Share of the scores' variance that each dial explains; empty for fewer than ten complete trials.
        confirmation: None where no trial was better than the settings as they are.
        changes: What the best trial would change, by section and key.
        written: The settings file that has the changes now; None: nothing was written.
    """

    folder: Path
    trials: Sequence[TuningTrial]
    ran: int
    people: int
    spent: float
    minutes: float
    importance: Mapping[str, float]
    confirmation: Confirmation | None
    changes: Mapping[str, Mapping[str, Any]]
    written: Path | None = None

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.folder / PAGE

    @property
    def now(self) -> TuningTrial:
        """The settings as they are."""
        return self.trials[0]

    @property
    def best(self) -> TuningTrial:
        """The trial that those who choose like best; of equals the first."""
        return best_of(self.trials)

    @property
    def recommended(self) -> bool:
        """Whether the best settings are better for people who did not choose them, and not by chance."""
        return self.confirmation is not None and self.confirmation.holds

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        said = None if self.confirmation is None else asdict(self.confirmation)
        if self.confirmation is not None and said is not None:
            said |= {"difference": self.confirmation.difference, "holds": self.confirmation.holds}
        return {
            "folder": str(self.folder),
            "page": str(self.page),
            "people": self.people,
            "spent_minutes": round(self.spent, 2),
            "minutes": self.minutes,
            "ran": self.ran,
            "best": self.best.number,
            "recommended": self.recommended,
            "confirmation": said,
            "changes": {section: dict(keys) for section, keys in self.changes.items()},
            "written": None if self.written is None else str(self.written),
            "importance": dict(self.importance),
            "trials": [asdict(trial) for trial in self.trials],
        }


PAGE = "report.html"


def best_of(trials: Sequence[TuningTrial]) -> TuningTrial:
    """The complete trial of the highest score, the first of equals; the settings as they are where none is."""
    complete = [trial for trial in trials if trial.score is not None]
    return max(complete, key=lambda trial: trial.score or 0.0, default=trials[0])
