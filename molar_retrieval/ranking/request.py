"""What is asked of a ranking, and what it gives: a query resolved for one user, and the list."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeAlias

from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import SparseVector, Vector
from molar_retrieval.ranking.places import Places
from molar_retrieval.ranking.query import Query

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from molar_retrieval.ranking.rules import ActiveRule, AppliedRules

Rows: TypeAlias = "Sequence[int] | npt.NDArray[np.integer]"
RERANK = "re-rank"  # the addend of a score that the second stage makes
RULES = "rules"  # the addend of a score that boosting, burying and freshness make
LIFT = "newcomer"  # the addend of a score that places an item without interactions, or one that is tried
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
        places: Which of the first ten places they get.
        scale: What the draw divides guesses by, in the unit of scores.
    """

    places: Places
    scale: float


def draw_of(person: str, history: Iterable[int], moment: int) -> str:
    """The name of the draw for somebody on the day of a moment, in microseconds since 1970: another one every day."""
    return f"{person or ','.join(map(str, history))} {moment // _DAY}"


@dataclass(frozen=True, eq=False)
class RankingRequest:
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


class Placed(NamedTuple):
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

    places: Sequence[Placed]
    notes: Sequence[str] = field(default_factory=list)
