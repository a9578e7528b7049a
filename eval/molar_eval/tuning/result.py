"""What a search for settings found, trial by trial, whether held-out users confirm it, and the same in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from molar_eval.tuning.space import Values
from molar_retrieval.reports.wording import ALPHA, duration, fraction, p_value, plural, signed
from molar_retrieval.workspace.config_files import toml_value

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
        folder: Where the study is kept (``study.sqlite`` opens in the dashboard of Optuna).
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


def best_of(trials: Sequence[TuningTrial]) -> TuningTrial:
    """The complete trial of the highest score, the first of equals; the settings as they are where none is."""
    complete = [trial for trial in trials if trial.score is not None]
    return max(complete, key=lambda trial: trial.score or 0.0, default=trials[0])


def headline(result: TuningResult) -> str:
    """What to take from it."""
    if result.recommended:
        return "Other settings are better"
    if result.confirmation is None:
        return "The settings as they are did best"
    return "No settings are shown to be better"


def sentences(result: TuningResult) -> list[str]:
    """What was compared, and whether it holds."""
    best, said = result.best, result.confirmation
    pruned = sum(trial.state == "pruned" for trial in result.trials)
    ended = f", {pruned} of them ended early" if pruned else ""
    found = [f"{plural(len(result.trials), 'trial')}{ended}, {duration(60 * result.spent)} of {result.minutes:g} min."]
    if said is None:
        found.append(
            f"The settings as they are have NDCG@10 {fraction(result.now.score)} for the"
            f" {plural(result.people, 'person', 'people')} who choose, and no trial has more."
        )
        return found
    found.append(
        f"Trial {best.number} did best for the {plural(result.people, 'person', 'people')} who choose: NDCG@10"
        f" {fraction(best.score)}, with the settings as they are {fraction(result.now.score)}. The best of many is"
        " thought better than it is by those who chose it."
    )
    verdict = "It is better" if said.holds else "Chance would do as much" if said.difference > 0 else "It is not better"
    found.append(
        f"{verdict} for {plural(said.people, 'other person', 'other people')}, who chose nothing:"
        f" {fraction(said.best)} against {fraction(said.now)}, {signed(said.difference)} (95 % interval"
        f" {signed(said.low)} to {signed(said.high)}), {p_value(said.p)}."
    )
    return found


def lines_of(changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The changes as lines of ``molar.toml``."""
    found: list[str] = []
    for section, keys in changes.items():
        found += [f"[{section}]", *(f"{key} = {toml_value(value)}" for key, value in keys.items())]
    return found
