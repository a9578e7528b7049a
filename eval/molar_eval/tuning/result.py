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
    """One setting of the search parameters.

    Attributes:
        number: Counted from 0, which is the present settings; killed ones leave gaps.
        state: ``complete``, ``pruned`` (worse than most after some epochs, and ended there), or ``passed over`` (its
            process was killed again and again).
        values: By parameter, ``align.dropout``.
        score: NDCG@10 of the users who choose; None: it did not run to its end.
        epochs: NDCG@10 of the towers after each epoch.
        seconds: By the clock.
        note: Why it was passed over.
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
    """The best trial against the present settings, by users who took no part in the choice.

    Attributes:
        users: How many they are.
        current: Their mean NDCG@10 under the present settings.
        best: The same under the best trial's.
        low: Lower end of the 95 % interval of the difference, by a bootstrap over users.
        high: Its upper end.
        p: Of a paired permutation test, two-sided.
    """

    users: int
    current: float
    best: float
    low: float
    high: float
    p: float

    @property
    def difference(self) -> float:
        """What the best trial gains."""
        return self.best - self.current

    @property
    def holds(self) -> bool:
        """Whether it is significantly better."""
        return self.difference > 0 and self.p < ALPHA


@dataclass(frozen=True)
class TuningResult:
    """What :meth:`molar.Shop.tune` found.

    Attributes:
        folder: Where the study is kept (``study.sqlite`` opens in the dashboard of Optuna).
        trials: All that ended, in their order; the first one has the present settings.
        ran: How many of these this call ran.
        users: How many users choose.
        spent: Minutes that all trials took, of this call and of earlier ones.
        minutes: The budget.
        importance: Share of the scores' variance that each parameter explains; empty below ten complete trials.
        confirmation: None where no trial was better than the present settings.
        changes: What the best trial would change, by section and key.
        written: The settings file that has the changes now; None: nothing was written.
    """

    folder: Path
    trials: Sequence[TuningTrial]
    ran: int
    users: int
    spent: float
    minutes: float
    importance: Mapping[str, float]
    confirmation: Confirmation | None
    changes: Mapping[str, Mapping[str, Any]]
    written: Path | None = None

    @property
    def current(self) -> TuningTrial:
        """The present settings."""
        return self.trials[0]

    @property
    def best(self) -> TuningTrial:
        """The trial of the highest score; of equals the first."""
        return best_of(self.trials)

    @property
    def recommended(self) -> bool:
        """Whether the best settings are significantly better for users who did not choose them."""
        return self.confirmation is not None and self.confirmation.holds

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        found, said = asdict(self), self.confirmation
        spent = round(found.pop("spent"), 2)
        found |= {"folder": str(self.folder), "written": None if self.written is None else str(self.written)}
        if said is not None:
            found["confirmation"] |= {"difference": said.difference, "holds": said.holds}
        return found | {"spent_minutes": spent, "best": self.best.number, "recommended": self.recommended}


def best_of(trials: Sequence[TuningTrial]) -> TuningTrial:
    """The complete trial of the highest score, the first of equals; the present settings where none is."""
    complete = [trial for trial in trials if trial.score is not None]
    return max(complete, key=lambda trial: trial.score or 0.0, default=trials[0])


def headline(result: TuningResult) -> str:
    """The conclusion."""
    if result.recommended:
        return "Other settings are better"
    if result.confirmation is None:
        return "The present settings did best"
    return "No other settings are significantly better"


def sentences(result: TuningResult) -> list[str]:
    """What was compared, and whether it holds."""
    best, said = result.best, result.confirmation
    pruned = sum(trial.state == "pruned" for trial in result.trials)
    ended = f", {pruned} of them ended early" if pruned else ""
    found = [f"{plural(len(result.trials), 'trial')}{ended}, {duration(60 * result.spent)} of {result.minutes:g} min."]
    choosing, current = plural(result.users, "user"), fraction(result.current.score)
    if said is None:
        found.append(f"The present settings have NDCG@10 {current} for the {choosing} who choose; no trial has more.")
        return found
    found.append(
        f"Trial {best.number} did best for the {choosing} who choose: NDCG@10 {fraction(best.score)}, the present"
        f" settings have {current}. The best of many trials is overestimated by the users who chose it."
    )
    verdict = "is better" if said.holds else "is not significantly better" if said.difference > 0 else "is not better"
    found.append(
        f"It {verdict} for {plural(said.users, 'other user')}, who chose nothing: {fraction(said.best)} against"
        f" {fraction(said.current)}, {signed(said.difference)} (95 % interval {signed(said.low)} to"
        f" {signed(said.high)}), {p_value(said.p)}."
    )
    return found


def lines_of(changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The changes as lines of ``molar.toml``."""
    found: list[str] = []
    for section, keys in changes.items():
        found += [f"[{section}]", *(f"{key} = {toml_value(value)}" for key, value in keys.items())]
    return found
