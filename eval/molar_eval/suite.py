"""Suites: which splits, models and metrics an evaluation has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from molar_eval.cases import Seen
from molar_eval.splits import DAY
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.workspace.config_files import read_toml
from molar_retrieval.workspace.settings import Settings, validated

FOLDER = Path(__file__).with_name("suites")


class SplitPlan(Settings):
    """One ``[[splits]]``."""

    split: str = Field(description="leave-one-out, temporal, cold items, cold users, last day or prequential")
    options: dict[str, Any] = Field({}, description="arguments of the split, such as share or ties")
    seen: tuple[Seen, ...] = Field(("hide",), description="hide items that a user had, show them, or report both")
    models: tuple[str, ...] = Field((), description="models for this split; none: the suite's")


class PrimaryComparison(Settings):
    """``primary_comparison``: the one comparison to judge a run by, declared before it."""

    model: str = Field(description="the model")
    against: str = Field(description="whom it is compared to")
    metric: str = Field("ndcg@10", description="the suite's primary metric, or recall at its cutoff")
    split: str = Field(description="name of one test, such as 'leave-one-out, last'")


class Suite(Settings):
    """A suite."""

    name: str = ""
    description: str
    splits: tuple[SplitPlan, ...]
    models: tuple[str, ...] = Field(
        description="molar, molar (fast), names of ablations and of baselines; arms of a walk"
    )
    cutoffs: tuple[int, ...] = Field((10, 20), min_length=1)
    primary: str = Field("ndcg@10", description="the metric that models are ordered and judged by")
    metrics: tuple[str, ...] = Field((), description="metrics of all comparisons; none: primary, recall at its cutoff")
    primary_comparison: PrimaryComparison | None = Field(
        None, description="tested without correction; all others are corrected together, over the whole run"
    )
    candidates: str = Field("catalogue", pattern="^(catalogue|log)$", description="what is ranked: all, or log items")
    seeds: int = Field(1, ge=1, description="seeds of models that depend on one")
    fast: dict[str, dict[str, Any]] = Field({}, description="settings of ablations and of molar (fast)")
    columns: tuple[str, ...] = Field((), description="item or user columns to slice by")
    category: str | None = Field(None, description="item column whose mix calibration compares")
    resamples: int = Field(2000, ge=100, description="bootstrap samples; permutations are five times as many")
    index: bool = Field(True, description="measure what the vector index loses")
    examples: int = Field(4, ge=0, description="users shown in the report")

    @model_validator(mode="after")
    def _declared(self) -> Self:
        """What is declared can be tested."""
        if (primary := self.primary_comparison) is None:
            return self
        tested = {name for plan in self.splits for name in plan.models or self.models}
        if missing := {primary.model, primary.against} - tested:
            raise ValueError(
                f"the primary comparison needs {' and '.join(map(repr, sorted(missing)))} among the models"
            )
        if primary.metric not in self.compared:
            raise ValueError(f"the primary comparison is by {' or '.join(self.compared)}")
        return self

    @property
    def compared(self) -> tuple[str, ...]:
        """The metrics that models are compared by; by default the primary one, and recall at its cutoff."""
        return self.metrics or tuple(dict.fromkeys((self.primary, f"recall@{self.primary.partition('@')[2]}")))

    @property
    def k(self) -> int:
        """Length of the lists."""
        return max(self.cutoffs)


def names() -> list[str]:
    """The suites beside the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, changes: Mapping[str, Any] | None = None) -> Suite:
    """A suite by its name, or by the path of a TOML file, with changes of its keys that are not None.

    Raises :class:`SettingsError` if there is no such suite, or it has an unknown key or a wrong value.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        values = read_toml(path)
    except OSError as error:
        close = nearest(name, names(), n=1)
        hint = f"did you mean {close[0]!r}? Suites are {', '.join(names())}" if close else f"use {', '.join(names())}"
        raise SettingsError(f"there is no suite {name!r}", f"{hint}, or name a TOML file") from error
    values |= {key: value for key, value in (changes or {}).items() if value is not None}
    return validated(Suite, {"name": path.stem, **values}, str(path))


_BY_ORDER = "leave-one-out"
_LAST_DAY, _ITS_TEST = "last day", "last day, last day"


def knows_only_days(log: Interactions) -> bool:
    """Whether every time is a midnight; a log without times knows nothing."""
    return bool(log.timestamp.any()) and not (log.timestamp % DAY).any()


def of_days(suite: Suite) -> Suite:
    """The suite with the last day in place of leave-one-out, and the declared comparison made there.

    Rules for equal times differ in nothing then, so plans that became the same are one.
    """
    fitting = [
        plan.model_copy(update={"split": _LAST_DAY, "options": {}}) if plan.split == _BY_ORDER else plan
        for plan in suite.splits
    ]
    primary = suite.primary_comparison
    if primary is not None and primary.split.split(",")[0] == _BY_ORDER:
        primary = primary.model_copy(update={"split": _ITS_TEST})
    splits = tuple(plan for n, plan in enumerate(fitting) if plan not in fitting[:n])
    return suite.model_copy(update={"splits": splits, "primary_comparison": primary})
