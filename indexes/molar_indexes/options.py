"""What may be said along with a question to the recommender, and what of it follows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from molar_retrieval.errors import RequestError
from molar_retrieval.expressions import And, Expression

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import Active

Seen = Literal["hide", "show"]
_LIMITING = {"require", "ban", "at_most"}
"""Actions of rules that can leave a list short."""


class Limits(TypedDict, total=False):
    """Which items may come.

    Attributes:
        where: Condition on the items' attributes, applied inside the search; text is read by
            :func:`molar_retrieval.filter_language.parse`.
        exclude: Items that must not come; unknown ones cannot anyway.
        only: Items that may come; None: all.
        rules: Whether the shop's rules hold, as they do unless said.
    """

    where: Expression | str | None
    exclude: Collection[str]
    only: Collection[str] | None
    rules: bool


class Shape(TypedDict, total=False):
    """What a list should be like.

    Attributes:
        seen: Whether items of the history may come back; ``hide`` unless said.
        diversity: Weight of unlikeness among the items, 0 (the default) to 1.
        calibrate: A field whose mix in the history the list should have.
        calibration: How much that counts, 0 to 1, half unless said.
        rerank: Whether the second stage moves what it can, as it does unless said, if it was published.
        explain: Whether to say why.
        language: Of the reasons, ``en`` unless said.
    """

    seen: Seen
    diversity: float
    calibrate: str | None
    calibration: float
    rerank: bool
    explain: bool
    language: str


class Options(Limits, Shape, total=False):
    """Both."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which items may come, with conditions read and ids looked up.

    Attributes:
        where: Condition on them, those of rules included, or None.
        hidden: Rows that must not come.
        rules: The rules that hold.
        filtered: Whether whoever asks has set a condition.
    """

    where: Expression | None
    hidden: frozenset[int]
    rules: "tuple[Active, ...]" = ()
    filtered: bool = False

    def hiding(self, rows: Collection[int]) -> "Asked":
        """The same without some more rows."""
        return replace(self, hidden=self.hidden.union(rows))

    def leaves_out(self) -> list[str]:
        """What may keep items out of a list, for a sentence."""
        found = ["the filter leaves out"] if self.filtered else []
        limiting = any(active.rule.action in _LIMITING for active in self.rules)
        return found + (["the rules leave out"] if limiting else [])


def both(left: Expression | None, right: Expression) -> Expression:
    """Two conditions at once."""
    return right if left is None else And((left, right))


def check(k: int, options: Mapping[str, Any]) -> None:
    """Refuse what cannot be answered.

    Raises:
        RequestError: If k < 1 or a weight is not in [0, 1].
        TypeError: On an option that does not exist.
    """
    if k < 1:
        raise RequestError(f"k = {k} asks for nothing", "ask for at least one item, for example -k 10")
    for name, value in (("diversity", options.get("diversity", 0.0)), ("calibration", options.get("calibration", 0.5))):
        if not 0 <= value <= 1:
            raise RequestError(f"{name} = {value} is not between 0 and 1", "0 leaves the order as it is")
    if unknown := set(options) - Options.__optional_keys__:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
