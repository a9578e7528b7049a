"""The options of a query, spelled once, and the query that they are resolved to.

:class:`Query` says of each option its name, type, range, default and description. The keywords of Python, the options
of ``molar query`` and ``molar recommend``, the bodies and parameters of the HTTP API and what an arm of an experiment
may set are made from it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeAlias,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta, Struct

from molar_retrieval import limits
from molar_retrieval.errors import RequestError, shown
from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import SparseVector, Vector
from molar_retrieval.ranking.objectives import Context, Slots
from molar_retrieval.workspace.config_files import ObjectiveName

Fallback = Literal["popular", "error"]
_LARGEST = 2**63 - 1
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from molar_retrieval.ranking.rules import ActiveRule, AppliedRules

    Condition: TypeAlias = Expression | str
    Id: TypeAlias = str
    Ids: TypeAlias = Collection[str]
else:  # as JSON: a number counts as its digits; one that takes more than 64 bits has to be sent as a string
    Condition = Annotated[str, Meta(max_length=limits.CONDITION)]
    Id = Annotated[str, Meta(min_length=1, max_length=limits.ID)] | Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)]
    Ids = Annotated[tuple[Id, ...], Meta(max_length=limits.IDS)]
Names: TypeAlias = Annotated[tuple[str, ...], Meta(max_length=limits.FIELDS)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
FilterSeen: TypeAlias = Annotated[
    bool, Meta(description="Leave out items that the user already has.", extra={"arm": True})
]
AsOf: TypeAlias = Annotated[
    Annotated[datetime, Meta(tz=True)] | None,
    Meta(
        description="Point in time of the query: later interactions do not count, ages and dates are as of then."
        " Default: now."
    ),
]


class ItemQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The options of every list, for a user or not; the rest is in :class:`Query`."""

    k: Annotated[int, Meta(ge=1, le=limits.K, description="How many items.", extra={"cli": "-k"})] = 10
    where: Annotated[
        Condition | None, Meta(description="Condition on the items' attributes: genres = Drama and year >= 1990.")
    ] = None
    exclude: Annotated[Ids, Meta(description="Items that must not come.")] = ()
    candidates: Annotated[Ids | None, Meta(description="The only items that may come. Default: all.")] = None
    fields: Annotated[Names, Meta(description="Item attributes to return.")] = ()
    rules: Annotated[
        bool, Meta(description="Whether the shop's rules apply.", extra={"cli": " /--no-rules", "arm": True})
    ] = True
    fallback: Annotated[
        Fallback, Meta(description="What comes where nothing is known of the user or item: popular items, or an error.")
    ] = "popular"

    def __post_init__(self) -> None:
        for name, default, check in _checks(type(self)):
            if (value := getattr(self, name)) is not default:
                check(name, value)


class Query(ItemQuery, frozen=True, kw_only=True):
    """The options of a query; each is documented by the description of its field, see docs/python.md.

    Raises:
        RequestError: If an option is of another type than it should be or beyond its bound, see
            :mod:`molar_retrieval.limits`; or if it has nothing that it could change.
    """

    filter_seen: FilterSeen = True
    objective: Annotated[
        ObjectiveName | None,
        Meta(
            description="What the list predicts: the next item, or all future items. Default: the first one of"
            " align.objectives.",
            extra={"arm": True},
        ),
    ] = None
    context: Annotated[
        Context,
        Meta(
            description="Which weights rank the next item: those for the first item of a visit, or for a visit in"
            " progress; auto: session_start from half an hour after the user's last interaction.",
            extra={"arm": True},
        ),
    ] = "auto"
    as_of: AsOf = None
    diversity: Annotated[
        Share, Meta(description="How much the items should differ in what they look like.", extra={"arm": True})
    ] = 0.0
    calibrate: Annotated[
        str | None,
        Meta(description="Item attribute whose values are mixed as in the user's history.", extra={"arm": True}),
    ] = None
    calibration_weight: Annotated[
        Share, Meta(description="How much the mix of calibrate counts.", extra={"arm": True})
    ] = 0.5
    rerank: Annotated[bool, Meta(description="Apply the second stage, if there is one.", extra={"arm": True})] = True
    explore: Annotated[
        bool, Meta(description="Draw cold-start items for the exploration slots.", extra={"arm": True})
    ] = True
    explain: Annotated[bool, Meta(description="Say why each item is there.", extra={"cli": "--explain"})] = False
    language: Annotated[str, Meta(description="Language of the reasons: de, en, ja, or one of reasons.toml.")] = "en"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibrate is None and self.calibration_weight != 0.5:
            raise RequestError(
                f"calibration_weight = {self.calibration_weight} has nothing to weigh",
                "name a field with calibrate, or leave it out",
            )
        if not self.explain and self.language != "en":
            raise RequestError(
                f"language = {shown(self.language)} is that of reasons, which are not asked for",
                "ask for them with explain, or leave it out",
            )
        if self.objective == "future_items" and self.context != "auto":
            raise RequestError(
                f"context = {shown(self.context)} concerns the next item, and the objective is future_items",
                "leave one of both out",
            )


class BatchQuery(Query, frozen=True, kw_only=True):
    """The options of the lists of many users, which may be longer."""

    k: Annotated[int, Meta(ge=1, le=limits.LISTED, description="How many items for each.", extra={"cli": "-k"})] = 10


class QueryOptions(TypedDict, total=False):
    """The options of :class:`Query` as keywords."""

    k: int
    where: Expression | str | None
    exclude: Collection[str]
    candidates: Collection[str] | None
    fields: Sequence[str]
    rules: bool
    fallback: Fallback
    filter_seen: bool
    objective: ObjectiveName | None
    context: Context
    as_of: datetime | None
    diversity: float
    calibrate: str | None
    calibration_weight: float
    rerank: bool
    explore: bool
    explain: bool
    language: str


ITEM_OPTIONS = ItemQuery.__struct_fields__
"""The options of every list, whatever it is asked by."""
SEARCH_OPTIONS = (*ITEM_OPTIONS, "filter_seen", "as_of")
BATCH_OPTIONS = tuple(
    name for name in Query.__struct_fields__ if name not in ("fields", "fallback", "explain", "language")
)
OPTIONS = (*ITEM_OPTIONS, *(name for name in Query.__struct_fields__ if name not in ITEM_OPTIONS))
"""All options, those of every list first."""


@dataclass(frozen=True)
class Option:
    """An option as its field describes it.

    Attributes:
        name: Its name in Python, over HTTP and of arms.
        kind: Its type, without bounds and None.
        default: What it is if it is not given.
        description: What it does.
        least: The smallest number; None: no number, or any.
        most: The largest number, the longest text or list; None: any.
        extra: ``cli``: its name on the command line where that is another one; ``arm``: an arm may set it.
        optional: Whether it may be None.
    """

    name: str
    kind: Any
    default: Any
    description: str
    least: float | None
    most: float | None
    extra: Mapping[str, Any]
    optional: bool


@cache
def options_of(kind: type[ItemQuery]) -> Mapping[str, Option]:
    """The options of a kind of query by name, those of every list first."""
    hints, fields = get_type_hints(kind, include_extras=True), msgspec.structs.fields(kind)
    defaults = {one.name: one.default for one in fields}
    return {name: _option(name, hints[name], defaults[name]) for name in OPTIONS if name in defaults}


def _option(name: str, hint: Any, default: Any) -> Option:
    metas: list[Meta] = []
    optional = False
    while True:
        if hasattr(hint, "__metadata__"):
            metas += hint.__metadata__
            hint = hint.__origin__
        elif type(None) in get_args(hint) and len(get_args(hint)) == 2:
            optional, (hint,) = True, [one for one in get_args(hint) if one is not type(None)]
        else:
            break
    described = next(one for one in metas if one.description is not None)
    least = next((one.ge for one in metas if one.ge is not None), None)
    most = next((bound for one in metas for bound in (one.le, one.max_length) if bound is not None), None)
    return Option(name, hint, default, described.description or "", least, most, described.extra or {}, optional)


@cache
def _checks(kind: type[ItemQuery]) -> Sequence[tuple[str, Any, Callable[[str, Any], None]]]:
    """Of each option its name, its default, and what is checked of other values."""
    return [(one.name, one.default, _check(one)) for one in options_of(kind).values()]


def _check(option: Option) -> Callable[[str, Any], None]:
    check = _condition if option.name == "where" else _check_of(option.kind, option.most)
    return (lambda name, value: None if value is None else check(name, value)) if option.optional else check


def _check_of(kind: Any, most: Any) -> Callable[[str, Any], None]:
    if words := get_args(kind) if get_origin(kind) is Literal else ():
        return partial(_one_of, words)
    known: dict[Any, Callable[[str, Any], None]] = {
        bool: _flag,
        int: partial(limits.whole, most=most),
        float: limits.share,
        str: partial(limits.text, most=limits.ID),
        datetime: _moment,
        tuple: partial(limits.ids, most=most),
    }
    return known[get_origin(kind) or kind]


def combined(
    query: Query | None,
    options: Mapping[str, Any],
    method: str,
    *,
    used: Collection[str] = OPTIONS,
    kind: type[Query] = Query,
) -> Query:
    """A query with options that win over it; without one, the defaults with them.

    RequestError if it, or an option, sets what is not ``used``: it changes nothing in the answer of the method.
    """
    if query is not None and not isinstance(query, Query):
        raise RequestError(f"query is no Query but {shown(query)}", "name each option: k=5, or give a molar.Query")
    defaults = zip(Query.__struct_fields__, Query.__struct_defaults__, strict=True)
    own = (
        {}
        if query is None
        else {name: value for name, default in defaults if (value := getattr(query, name)) != default}
    )
    for name in (*own, *options):
        if name in OPTIONS and name not in used:
            raise RequestError(f"{name} changes nothing in the answer of `{method}`", "leave it out; `query` takes it")
    return kind(**own | dict(options))


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


def _one_of(words: Collection[str], name: str, value: Any) -> None:
    if not isinstance(value, str) or value not in words:
        raise RequestError(f"{name} = {shown(value)} is none of {', '.join(words)}", "name one of them")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise RequestError(f"{name} = {shown(value)} is neither true nor false", "say True or False")


def _moment(name: str, value: Any) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise RequestError(f"{name} is no moment of a time zone but {shown(value)}", "give it as 2026-11-30T18:00Z")


def _condition(name: str, value: Any) -> None:
    if not isinstance(value, str | Expression):
        raise RequestError(f"{name} is no condition but {shown(value)}", "write it in words, or build an expression")


_id = partial(limits.text, most=limits.ID)
_SUBJECTS: dict[str, Callable[[str, Any], None]] = {
    "user_id": _id,
    "anonymous_id": _id,
    "item_id": _id,
    "similar_to": _id,
    "session": partial(limits.ids, most=limits.SESSION),
    "text": partial(limits.text, most=limits.TEXT),
    "image": _photo,
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
