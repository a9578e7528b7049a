"""The options of every question to a recommender, checked in one place, and the query that they are resolved to."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property, partial, wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, ParamSpec, Protocol, Self, TypeAlias, TypeVar, get_args

from molar_retrieval import limits
from molar_retrieval.errors import RequestError, shown
from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import SparseVector, Vector
from molar_retrieval.ranking.objectives import Seen, Slots
from molar_retrieval.workspace.config_files import ObjectiveName

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from molar_retrieval.ranking.rules import ActiveRule, AppliedRules


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
        objective: ``next_item`` or ``future_items``; None: what the index version is for.
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
    objective: ObjectiveName | None = None
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
    "objective": _optional(partial(_one_of, get_args(ObjectiveName))),
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


Rows: TypeAlias = "Sequence[int] | npt.NDArray[np.integer]"
RERANK = "reranker"  # the addend of a score that the second stage makes
RULES = "rules"  # the addend of a score that boosting, burying and freshness make
LIFT = "cold_start"  # the addend of a score that places an item without interactions, or one that is tried
_DAY = 86_400_000_000  # microseconds


class UserQuery(Protocol):
    """For whom a list is."""

    @property
    def vector(self) -> Vector:
        """The dense user vector."""

    @property
    def sparse(self) -> SparseVector:
        """The sparse one beside it."""

    @property
    def history(self) -> Rows:
        """Item rows, oldest first."""

    @property
    def times(self) -> Rows:
        """Of each of them, in seconds since 1970; 0 where it is not known."""

    @property
    def last(self) -> int:
        """When they did something last, likewise."""


@dataclass(frozen=True)
class Exploration:
    """How new items are tried.

    Attributes:
        slots: Which of the first ten slots they get.
        scale: What the draw divides guesses by, in the unit of scores.
    """

    slots: Slots
    scale: float


def draw_of(person: str, history: Iterable[int], moment: int) -> str:
    """The name of the draw for somebody on the day of a moment, in microseconds since 1970: another one every day."""
    return f"{person or ','.join(map(str, history))} {moment // _DAY}"


@dataclass(frozen=True, eq=False)
class ResolvedQuery:
    """A query, resolved: rows instead of ids, a condition that is read, the rules that hold, the user's vectors."""

    query: Query
    user: UserQuery | None = None  # None: for nobody, as in searches
    where: Expression | None = None  # that of rules included
    hidden: frozenset[int] = frozenset()  # rows that must not come
    rules: "AppliedRules | None" = None
    now: datetime | None = None  # from when ages count; None: from the moment of the answer
    draw: str | None = None  # decides which new items are tried, the same ones again; None: none are
    notes: tuple[str, ...] = ()  # what whoever gets the answer should know, in sentences

    @property
    def weighing(self) -> "tuple[ActiveRule, ...]":
        """Rules that read what candidates are."""
        return () if self.rules is None else self.rules.weighing

    @property
    def caps(self) -> "tuple[ActiveRule, ...]":
        """Rules that bound how often a value comes."""
        return () if self.rules is None else self.rules.caps

    @property
    def pins(self) -> "tuple[ActiveRule, ...]":
        """Rules that put items at places."""
        return () if self.rules is None else self.rules.pins

    @cached_property
    def shaped(self) -> bool:
        """Whether the list is more than the best of what may come."""
        shaping = self.weighing or self.caps or self.pins
        return self.query.diversity > 0 or self.query.calibrate is not None or bool(shaping)

    def hiding(self, rows: Collection[int]) -> Self:
        """The same without some more rows."""
        return replace(self, hidden=self.hidden.union(rows)) if rows else self

    def noting(self, *notes: str) -> Self:
        """The same with some more notes."""
        return replace(self, notes=(*self.notes, *notes)) if notes else self


class ScoredItem(NamedTuple):
    """One place of a list."""

    row: int
    score: float
    parts: Mapping[str, float]  # addends of the score, by name
    by_score: int  # its place among the candidates by score alone, from 1
    causes: tuple[str, ...] = ()  # rules, ``diversity`` or ``calibration`` that put it before higher scores
    propensity: float | None = 1.0  # see :mod:`molar_retrieval.ranking.exploration`


@dataclass(frozen=True, eq=False)
class Listing:
    """A list, best first, and a sentence for each rule that could not be kept."""

    places: Sequence[ScoredItem]
    notes: Sequence[str] = field(default_factory=list)
