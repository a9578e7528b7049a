"""The search space of settings, and what a search for them found.

Not in it: what decides how long training takes and is the preset's to say (epochs, patience, members, history), and the
grids of count-based models, which choose by themselves. A range is widened to hold the present value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.towers.training import sized
from molar_retrieval.reports.wording import ALPHA, duration, fraction, p_value, plural, signed
from molar_retrieval.workspace.config_files import toml_value
from molar_retrieval.workspace.settings import MolarSettings, validated

Value: TypeAlias = float | int | bool | str
Values: TypeAlias = dict[str, Value]
"""By name of the parameter."""
Section: TypeAlias = Literal["align", "als"]
_DIGITS = 3
_WIDTH = 8  # what widths of networks are multiples of


@dataclass(frozen=True)
class SearchParameter:
    """One setting that is searched.

    Attributes:
        section: ``align`` or ``als``.
        key: Its key there.
        current: Its present value, sizes that are left open filled in.
        choices: What it may be; empty: a number from ``low`` to ``high``.
        low: The least.
        high: The most.
        log: Whether equal ratios are equally far apart.
        step: Of whole numbers, what they are multiples of, from ``low`` on; None: it is no whole number.
    """

    section: Section
    key: str
    current: Value
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: int | None = None

    @property
    def name(self) -> str:
        """As messages have it: ``align.dropout``."""
        return f"{self.section}.{self.key}"

    def rounded(self, value: Value) -> Value:
        """The value as it is tried and written: three digits; the present one as it is."""
        if value == self.current or isinstance(value, int | str):
            return value
        return float(f"{value:.{_DIGITS}g}")


def search_space(settings: MolarSettings, training: Interactions) -> tuple[SearchParameter, ...]:
    """The parameters that have an effect under these settings; sizes that they leave open are those of the log."""
    align, als = sized(settings.align, training), settings.als
    found: list[SearchParameter] = []

    def number(key: str, low: float, high: float, *, section: Section = "align", log: bool = False) -> None:
        """A rate, or a weight; with ``log`` one of 0 means none, and stays."""
        current = getattr(align if section == "align" else als, key)
        if current > 0 or not log:
            found.append(SearchParameter(section, key, current, (), min(low, current), max(high, current), log))

    def whole(key: str, low: int, high: int, *, section: Section = "align", log: bool = False, step: int = 1) -> None:
        current = getattr(align if section == "align" else als, key)
        found.append(SearchParameter(section, key, current, (), min(low, current), max(high, current), log, step))

    def either(key: str, *choices: Value) -> None:
        found.append(SearchParameter("align", key, getattr(align, key), choices))

    if "id_tower" in align.towers:
        whole("embedding_dim", 32, max(128, 2 * (align.embedding_dim or 0)), step=_WIDTH)
        whole("n_blocks", 1, 3)
    if "content_tower" in align.towers:
        whole("content_dim", 32, 128, step=_WIDTH)
        whole("n_content_blocks", 0, 2)
        number("alignment_weight", 0.0, 0.5)
        number("alignment_temperature", 0.03, 0.5, log=True)
    if align.towers:
        number("dropout", 0.0, 0.5)
        number("learning_rate", 5e-4, 8e-3, log=True)
        number("weight_decay", 1e-3, 0.3, log=True)
        whole("n_negatives", 256, 4096, log=True)
        tokens = align.batch_tokens or 0
        whole("batch_tokens", max(64, tokens // 2), 2 * tokens, log=True)
    whole("content_components", 64, 512, log=True)
    if {"sequential", "ease", "item_knn"} & set(align.models):
        whole("neighbors", 50, 800, log=True)
    if align.reranker is False:
        either("reranker", False, "auto")
    if align.towers or align.reranker is not False:  # towers start from factors of ALS, the second stage reads them
        whole("factors", 16, 256, section="als", log=True)
        number("regularization", 1e-3, 1.0, section="als", log=True)
        number("alpha", 0.1, 40.0, section="als", log=True)
    return tuple(found)


def with_values(
    settings: MolarSettings, space: Sequence[SearchParameter], values: Mapping[str, Value]
) -> MolarSettings:
    """The settings with other values of the parameters; everything else is as it was."""
    changed: dict[str, Any] = {}
    for name in ("align", "als"):
        section = getattr(settings, name)
        own = {one.key: one.rounded(values[one.name]) for one in space if one.section == name}
        changed[name] = validated(type(section), {**section.model_dump(), **own}, "a trial")
    return settings.model_copy(update=changed)


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
