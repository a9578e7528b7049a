"""The search space: settings of ``[align]`` and ``[als]``, in ranges about what they are, where they have an effect.

Not in it: what decides how long training takes and is the preset's to say (epochs, patience, members, history), and the
grids of count-based models, which choose by themselves. A range is widened to hold the present value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.towers.training import sized
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
        either("als_start", True, False)
        either("content_start", True, False)
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
