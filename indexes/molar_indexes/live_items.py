"""Items as events since the generation have left them: payloads, conditions on them, and what may be shown.

A changed item is judged by its payload of now. The index knows that of the generation, so a condition on a field that
changed somewhere is put to it with the items that fulfil it only now added, and those that no longer do left out.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from statistics import fmean
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from molar_retrieval import columns
from molar_retrieval.data.availability import Availability
from molar_retrieval.ranking.filters import Expression, OneOf, Or, fields_of
from molar_retrieval.ranking.index_protocol import Index, IndexSpec, Search, SparseVector, StoredItem, Vector

if TYPE_CHECKING:
    from molar_retrieval.ranking.item_store import ItemStore, Matrix

_CONDITIONS = 64  # of which is remembered which items turned over
_JOURNAL = 100_000  # changes beyond two of each item after which that is found out anew
_AT_ONCE = 1_000


class Turned(NamedTuple):
    """Changed items whose answer to a condition is another one now, after so many changes."""

    changes: int
    out: frozenset[int]  # rows that no longer fulfil it
    into: Mapping[int, str]  # ids by row of those that do now


class _Numbers(NamedTuple):
    """What the second stage reads of items, shape (n, m), after so many changes."""

    changes: int
    numbers: "Matrix"


class _Shared:
    """What the states of an index share: rows as they changed, answers to conditions, numbers of the second stage."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.journal: list[int] = []
        self.turned: dict[Expression, Turned] = {}
        self.numbers: _Numbers | None = None


@dataclass(frozen=True, eq=False)
class LiveIndex(Index):
    """The index of a generation with changed payloads, at one moment; it never changes.

    Attributes:
        index: As it was published.
        values: New values of fields by row, None for a field that has no value any more.
        fields: Those that changed in any item.
    """

    index: Index
    values: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()
    changes: int = 0
    _shared: _Shared = field(default_factory=_Shared)

    def with_changes(self, changes: Iterable[tuple[int, Mapping[str, Any]]]) -> Self:
        """With some more, the last ones last."""
        values, shared = dict(self.values), self._shared
        if len(shared.journal) > _JOURNAL + 2 * len(values):
            shared = _Shared()
        fresh = list(changes)
        for row, new in fresh:
            values[row] = {**values.get(row, {}), **new}
            shared.journal.append(row)
        fields = self.fields.union(*(new for _, new in fresh))
        return replace(self, values=values, fields=fields, changes=len(shared.journal), _shared=shared)

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self.index.spec

    @property
    def graphs(self) -> Collection[str]:
        """See :class:`molar_retrieval.ranking.index_protocol.Index`."""
        return self.index.graphs

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same with other candidate lists."""
        return replace(self, index=self.index.searching(efs))

    def __len__(self) -> int:
        return len(self.index)

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the best; see :class:`molar_retrieval.ranking.index_protocol.Index`."""
        exclude, where = self._present(exclude, where)
        return self.index.top(name, query, k, exclude=exclude, where=where)

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[list[tuple[int, float]]]:
        """The answers to several searches."""
        exclude, where = self._present(exclude, where)
        return self.index.tops(searches, exclude=exclude, where=where)

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The items at ``rows`` with their payloads of now, in that order; unknown rows are left out."""
        return [self._now(item) for item in self.index.fetch(rows, vectors=vectors)]

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        return self.index.rows(item_ids)

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        self.index.close()

    def turned(self, where: Expression) -> Turned:
        """Which changed items answer a condition otherwise than before."""
        with self._shared.lock:
            known = self._shared.turned.pop(where, None)
            if known is None or known.changes > self.changes:  # the latter: by an answer that began after this one
                found = self._turned(where, Turned(0, frozenset(), {}), self.values)
            elif known.changes < self.changes:
                found = self._turned(where, known, set(self._shared.journal[known.changes : self.changes]))
            else:
                found = known
            latest = found if known is None or known.changes < found.changes else known
            self._shared.turned[where] = latest
            if len(self._shared.turned) > _CONDITIONS:
                del self._shared.turned[next(iter(self._shared.turned))]
        return found

    def concerns(self, where: Expression) -> bool:
        """Whether a field changed somewhere that a condition reads."""
        return bool(self.fields & fields_of(where))

    def fulfilling(self, where: Expression, published: frozenset[int]) -> frozenset[int]:
        """Rows of the items that fulfil a condition, from those that did when they were published."""
        if not self.concerns(where):
            return published
        turned = self.turned(where)
        return (published - turned.out).union(turned.into)

    def store(self, published: "ItemStore", standards: Mapping[str, tuple[float, float]]) -> "ItemStore":
        """The item store with the numbers of now; ``standards`` are mean and deviation of each, by field."""
        places = {name: place for place, name in enumerate(standards) if name in self.fields}
        if not places:
            return published
        import numpy as np  # opening a generation is to be light

        from molar_retrieval.ranking.reranker import standard

        with self._shared.lock:
            known, rows = self._shared.numbers, set(self.values)
            if known is None or known.changes > self.changes:  # the latter: by an answer that began after this one
                known = _Numbers(0, published.numbers)
            else:
                rows.intersection_update(self._shared.journal[known.changes : self.changes])
            changed = [(row, name) for row in rows for name in places.keys() & self.values[row].keys()]
            numbers = np.array(known.numbers) if changed else known.numbers
            for row, name in changed:
                value = np.asarray(_number(self.values[row][name]), np.float64)
                numbers[row, places[name]] = standard(value, *standards[name])
            self._shared.numbers = _Numbers(self.changes, numbers)
        return replace(published, numbers=numbers)

    def _present(self, exclude: Iterable[int], where: Expression | None) -> tuple[Iterable[int], Expression | None]:
        """What to leave out and a condition, as the payloads that are stored answer it, for those of now."""
        if where is None or not self.concerns(where):
            return exclude, where
        turned = self.turned(where)
        exclude = {*exclude, *turned.out} if turned.out else exclude
        if turned.into:
            where = Or((where, OneOf(columns.ITEM_ID, tuple(turned.into.values()))))
        return exclude, where

    def _turned(self, where: Expression, former: Turned, rows: Iterable[int]) -> Turned:
        """The same, from what was known before some rows changed."""
        out, into, concerned = set(former.out), dict(former.into), fields_of(where)
        for item in _in_parts(self.index, [row for row in rows if concerned & self.values[row].keys()]):
            before, now = item.fulfils(where), self._now(item).fulfils(where)
            out.discard(item.row)
            into.pop(item.row, None)
            if before and not now:
                out.add(item.row)
            elif now and not before:
                into[item.row] = item.item_id
        return Turned(self.changes, frozenset(out), into)

    def _now(self, item: StoredItem) -> StoredItem:
        if (new := self.values.get(item.row)) is None:
            return item
        payload = {name: value for name, value in {**item.payload, **new}.items() if value is not None}
        return replace(item, payload=payload)


def _number(value: Any) -> float:
    """A field's number, of several their mean, NaN where there is none."""
    numbers = [one for one in (value if isinstance(value, list | tuple) else [value]) if one is not None]
    return fmean(numbers) if numbers else math.nan


def _in_parts(index: Index, rows: Sequence[int]) -> Iterator[StoredItem]:
    """The items at some rows, some at a time."""
    for begin in range(0, len(rows), _AT_ONCE):
        yield from index.fetch(rows[begin : begin + _AT_ONCE])


@dataclass(frozen=True, eq=False)
class LiveItems:
    """Which items may be shown by the events since the generation, at one moment.

    Attributes:
        index: The items with their payloads of now.
        availability: The fields that say from when an item may be shown.
        always: Whether the generation alone shows the item at a row at any time.
        shown_from: By row, for items of which events say that anew, in microseconds since 1970.
    """

    index: LiveIndex
    availability: Availability
    always: Callable[[int], bool]
    shown_from: Mapping[int, int] = field(default_factory=dict)

    def with_changes(self, changes: Sequence[tuple[int, Mapping[str, Any]]]) -> Self:
        """With some more, the last ones last."""
        index = self.index.with_changes(changes)
        rows = list(dict.fromkeys(row for row, new in changes if self.availability.roles.keys() & new.keys()))
        # What shows an item at any time needs nothing of its other fields.
        known = {row: index.values[row] for row in rows if self.always(row)}
        known |= {item.row: item.payload for item in _in_parts(index, [row for row in rows if row not in known])}
        shown = {row: self.availability.shown_from(payload) for row, payload in known.items()}
        return replace(self, index=index, shown_from={**self.shown_from, **shown})

    def unavailable(self, published: frozenset[int], moment: int) -> frozenset[int]:
        """Rows of the items that may not be shown at a moment; ``published`` are those by the generation alone."""
        if not self.shown_from:
            return published
        return self._unavailable(published, bisect_right(self._moments, moment))

    @cached_property
    def _moments(self) -> list[int]:
        return sorted(set(self.shown_from.values()))

    @cached_property
    def _unavailable(self) -> Callable[[frozenset[int], int], frozenset[int]]:
        """The rows by those of the generation and how many of the moments are over; the last answer is kept."""
        moments, shown_from = self._moments, self.shown_from

        @lru_cache(maxsize=1)
        def rows(published: frozenset[int], over: int) -> frozenset[int]:
            later = set(moments[over:])
            return published.difference(shown_from).union(row for row, moment in shown_from.items() if moment in later)

        return rows
