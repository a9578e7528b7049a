"""What a list should be like: the options of every question to a recommender, checked in one place."""

from collections.abc import Callable, Collection
from dataclasses import InitVar, dataclass, fields
from functools import partial, wraps
from inspect import signature
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, get_args

from molar_retrieval import limits
from molar_retrieval.errors import RequestError, shown
from molar_retrieval.ranking.aims import Horizon, Seen
from molar_retrieval.ranking.filters import Expression

P = ParamSpec("P")
Answered = TypeVar("Answered")
Fallback = Literal["none", "popular"]


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which items may come, and what the list of them should be like.

    Args:
        longest: The bound of ``k``.

    Attributes:
        k: How many items.
        where: Condition on the items' attributes, applied inside the search; text is read by
            :func:`molar_retrieval.ranking.filter_language.parse`.
        exclude: Items that must not come; unknown ones cannot anyway.
        only: Items that may come; None: all.
        rules: Whether the shop's rules hold.
        seen: Whether items of the history may come back.
        horizon: Whether what comes next is looked for, or all that comes later; None: what the generation was made for.
        diversity: Weight of unlikeness among the items, 0 to 1.
        calibrate: A field whose mix in the history the list should have, or None.
        calibration: How much that counts, 0 to 1.
        rerank: Whether the second stage moves what it can, if it was published.
        explore: Whether new items are drawn for the places in which they are tried.
        explain: Whether to say why.
        language: Of the reasons.

    Raises:
        RequestError: If something is of another type than it should be or beyond its bound, see
            :mod:`molar_retrieval.limits`; or if an option has nothing that it could change.
    """

    k: int = 10
    where: Expression | str | None = None
    exclude: Collection[str] = ()
    only: Collection[str] | None = None
    rules: bool = True
    seen: Seen = "hide"
    horizon: Horizon | None = None
    diversity: float = 0.0
    calibrate: str | None = None
    calibration: float = 0.5
    rerank: bool = True
    explore: bool = True
    explain: bool = False
    language: str = "en"
    longest: InitVar[int] = limits.K

    def __post_init__(self, longest: int) -> None:
        limits.whole("k", self.k, longest)
        given = vars(self)
        for name, check in _CHECKS.items():
            if given[name] is not _DEFAULTS[name]:
                check(name, given[name])
        if self.calibrate is None and self.calibration != Query.calibration:
            raise RequestError(
                f"calibration = {self.calibration} has nothing to weigh", "name a field with calibrate, or leave it out"
            )
        if not self.explain and self.language != Query.language:
            raise RequestError(
                f"language = {shown(self.language)} is that of reasons, which are not asked for",
                "ask for them with explain, or leave it out",
            )


def honest(ask: Callable[P, Answered]) -> Callable[P, Answered]:
    """A kind of question that refuses, by a RequestError, options of others that change nothing in its answer."""
    known, others = signature(ask).parameters, {field.name for field in fields(Query)}

    @wraps(ask)
    def asked(*arguments: P.args, **options: P.kwargs) -> Answered:
        for name in options:
            if name in others and name not in known:
                raise RequestError(
                    f"{name} changes nothing in the answer of `{ask.__name__}`",
                    "leave it out; `query` and `session` take it",
                )
        return ask(*arguments, **options)

    return asked


def check_subjects(*, optional: bool = False, **subjects: Any) -> None:
    """Refuse, by a RequestError, subjects of a wrong type or beyond their bound; with ``optional`` they may be None."""
    for name, value in subjects.items():
        if value is not None or not optional:
            _SUBJECTS[name](name, value)


def _photo(name: str, value: Any) -> None:
    if isinstance(value, str | Path):
        limits.path(name, value)
    elif not hasattr(value, "convert"):
        raise RequestError(f"{name} is no photo but {shown(value)}", "name a file, or give an image of Pillow")


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


_id = partial(limits.text, most=limits.ID)
_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "where": _optional(_condition),
    "exclude": partial(limits.ids, most=limits.IDS),
    "only": _optional(partial(limits.ids, most=limits.IDS)),
    "rules": _flag,
    "seen": partial(_one_of, get_args(Seen)),
    "horizon": _optional(partial(_one_of, get_args(Horizon))),
    "diversity": limits.share,
    "calibrate": _optional(_id),
    "calibration": limits.share,
    "rerank": _flag,
    "explore": _flag,
    "explain": _flag,
    "language": _id,
}
"""What is checked of each option."""
_DEFAULTS = {field.name: field.default for field in fields(Query)}
_SUBJECTS: dict[str, Callable[[str, Any], None]] = {
    "user_id": _id,
    "session_id": _id,
    "similar": _id,
    "items": partial(limits.ids, most=limits.SESSION),
    "text": partial(limits.text, most=limits.TEXT),
    "image": _photo,
    "fallback": partial(_one_of, get_args(Fallback)),
}
"""What is checked of what is asked about."""
