"""What may be said along with a question to the recommender, and what of it follows."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from molar_retrieval import bounds
from molar_retrieval.errors import RequestError, shown
from molar_retrieval.expressions import And, Expression

if TYPE_CHECKING:
    from molar_retrieval.ranking.wishes import Ruling

Seen = Literal["hide", "show"]
Fallback = Literal["none", "popular"]


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
        rules: Those that hold, or None.
        filtered: Whether whoever asks has set a condition.
    """

    where: Expression | None
    hidden: frozenset[int]
    rules: "Ruling | None" = None
    filtered: bool = False

    def hiding(self, rows: Collection[int]) -> "Asked":
        """The same without some more rows."""
        return replace(self, hidden=self.hidden.union(rows))

    def leaves_out(self) -> list[str]:
        """What may keep items out of a list, for a sentence."""
        found = ["the filter leaves out"] if self.filtered else []
        return found + (["the rules leave out"] if self.rules is not None and self.rules.limits else [])


def both(left: Expression | None, right: Expression) -> Expression:
    """Two conditions at once."""
    return right if left is None else And((left, right))


def check(k: int, options: Mapping[str, Any], asked: Mapping[str, Any] | None = None, most: int = bounds.K) -> None:
    """Refuse what cannot be answered, before anything is done for it; see :mod:`molar_retrieval.bounds`.

    Args:
        k: How many items.
        options: See :class:`Limits` and :class:`Shape`.
        asked: What else was said, by the name of the argument.
        most: Of ``k``.

    Raises:
        RequestError: If something is of another type than it should be, or beyond its bound.
        TypeError: On an option that does not exist.
    """
    if unknown := set(options) - Options.__optional_keys__:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    bounds.whole("k", k, most)
    for name, value in (*options.items(), *(asked or {}).items()):
        _CHECKS[name](name, value)


def _optional(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    return lambda name, value: None if value is None else check(name, value)


def _one_of(words: Collection[str], name: str, value: Any) -> None:
    if not isinstance(value, str) or value not in words:
        raise RequestError(f"{name} = {shown(value)} is none of {', '.join(words)}", "name one of them")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise RequestError(f"{name} = {shown(value)} is neither true nor false", "say True or False")


def _condition(name: str, value: Any) -> None:
    if not isinstance(value, str | Expression):
        raise RequestError(f"{name} is no condition but {shown(value)}", "write it in words, or build an expression")


def _photo(name: str, value: Any) -> None:
    if isinstance(value, str | Path):
        bounds.path(name, value)
    elif not hasattr(value, "convert"):
        raise RequestError(f"{name} is no photo but {shown(value)}", "name a file, or give an image of Pillow")


_id = partial(bounds.text, most=bounds.ID)
_ids = partial(bounds.ids, most=bounds.IDS)
_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "where": _optional(_condition),
    "exclude": _ids,
    "only": _optional(_ids),
    "rules": _flag,
    "seen": partial(_one_of, get_args(Seen)),
    "diversity": bounds.share,
    "calibrate": _optional(_id),
    "calibration": bounds.share,
    "rerank": _flag,
    "explain": _flag,
    "language": _id,
    "fallback": partial(_one_of, get_args(Fallback)),
    "user_id": _optional(_id),
    "similar": _optional(_id),
    "items": partial(bounds.ids, most=bounds.SESSION),
    "text": _optional(partial(bounds.text, most=bounds.TEXT)),
    "image": _optional(_photo),
}
"""What is checked of each option and argument."""
