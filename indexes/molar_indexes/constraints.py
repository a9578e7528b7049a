"""From a query to a ranking request: conditions are read, ids looked up, and the shop's rules added."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from molar_indexes.generations import Generation
from molar_indexes.live_state import LiveItems
from molar_indexes.users import UserRecord
from molar_retrieval import columns
from molar_retrieval.data.availability import moment
from molar_retrieval.errors import RequestError, SettingsError, nearest, shown, suggestion
from molar_retrieval.ranking.filters import OneOf, both, check
from molar_retrieval.ranking.query import Fallback, Query, ResolvedQuery, draw_of
from molar_retrieval.workspace.files import file_stamp

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import Rules

RulesSource: TypeAlias = Path | Mapping[str, Any]
"""A file of rules, or what it would hold."""
_REMEMBERED = 64  # sets of banned items whose rows are kept
_NAMED = 3  # unknown items of a session that a note names
_COMPARED = 20_000  # known ids with which a mistaken one is compared: a tenth of a second


class Constraints:
    """Resolves queries for one generation, with the rules of a file, with those that it would hold, or none."""

    def __init__(self, generation: Generation, rules: RulesSource | None) -> None:
        self._generation, self._source = generation, rules
        self.notes: tuple[str, ...] = ()  # what whoever gets an answer should know
        self._banned = lru_cache(maxsize=_REMEMBERED)(partial(_rows_of, generation))

    @property
    def fields(self) -> dict[str, str]:
        """What a condition may name, and its kind."""
        return {columns.ITEM_ID: "keyword", **self._generation.index.spec.fields}

    def check_field(self, name: str) -> None:
        """Refuse what is no field; a RequestError names the nearest one."""
        if name not in self.fields:
            hint = suggestion(name, self.fields, f"known are {', '.join(sorted(self.fields))}")
            raise RequestError(f"the catalogue has no field {shown(name)}", hint)

    @cached_property
    def rules(self) -> "Rules | None":
        """The shop's rules; SettingsError if the file is wrong."""
        if self._source is None:
            return None
        from molar_retrieval.ranking.rules import Rules

        people = self._generation.manifest.facts.get("segments", {})
        if isinstance(self._source, Path):
            return Rules.load(self._source, self.fields, people)
        return Rules.of(self._source, self.fields, people)

    @property
    def is_read(self) -> bool:
        """Whether the rules were read and are right, or there are none."""
        return self._source is None or "rules" in vars(self)

    def request(
        self, query: Query, items: LiveItems, now: datetime | None = None, fallback: Fallback = "error"
    ) -> ResolvedQuery:
        """A query resolved, for nobody yet and without rules; what is not for sale at ``now`` is hidden.

        With a ``fallback`` unknown items of ``candidates`` are told in a note.

        Raises:
            RequestError: If the condition, an item of ``candidates`` or the field of ``calibrate`` is not known.
        """
        notes = self.notes
        where = query.where
        if where is not None and not isinstance(where, str):
            check(where)
        elif where is not None:
            from molar_retrieval.ranking.filter_language import parse  # loads a parser, which most queries do without

            where = parse(where, self.fields)
        if query.candidates is not None:
            if fallback == "error":
                self.rows(list(query.candidates))
            else:
                unknown = self._unknown(query.candidates)
                notes += (f"of the items that may come these are unknown: {_few(unknown)}",) if unknown else ()
            where = both(where, OneOf(columns.ITEM_ID, self._generation.item_ids(list(query.candidates))))
        if query.calibrate is not None:
            self.check_field(query.calibrate)
        present = moment(now)
        hidden = items.unavailable(self._generation.table.unavailable(present), present)
        hidden |= _known(self._generation, query.exclude)
        return ResolvedQuery(query, where=where, hidden=hidden, now=now, notes=notes)

    def for_user(self, request: ResolvedQuery, items: LiveItems, user: UserRecord | None) -> ResolvedQuery:
        """For one user, or for nobody: with the rules that hold, and without seen items unless they may come back."""
        if user is None:
            return self._ruled(request, items, {})
        ruled = self._ruled(request, items, user.attributes)
        seen = user.history if request.query.filter_seen else ()
        exploring = request.query.explore and self._generation.exploration is not None
        draw = draw_of(user.user_id, user.history, moment(request.now)) if exploring else None
        return replace(ruled, user=user, hidden=ruled.hidden.union(seen), draw=draw)

    def _ruled(self, request: ResolvedQuery, items: LiveItems, attributes: Mapping[str, Any]) -> ResolvedQuery:
        if not request.query.rules or self.rules is None:
            return request
        found = self.rules.for_user(attributes, request.now)
        where = request.where if found.where is None else both(request.where, found.where)
        banned = self._banned(found.banned, found.words)
        if any(map(items.index.concerns, found.words)):
            by_words = [items.index.fulfilling(one, self._banned(frozenset(), (one,))) for one in found.words]
            banned = self._banned(found.banned, ()).union(*by_words)
        return replace(request.hiding(banned), where=where, rules=found)

    def rows(self, item_ids: Sequence[str]) -> list[int]:
        """Rows of items; RequestError if one is unknown."""
        rows = self._generation.rows(item_ids)
        for item_id, row in zip(item_ids, rows, strict=True):
            if row is None:
                raise RequestError(f"the item {shown(item_id)} is unknown", self._nearest(item_id))
        return [row for row in rows if row is not None]

    def session(self, item_ids: Sequence[str], fallback: Fallback = "error") -> tuple[list[int], tuple[str, ...]]:
        """Rows of a session's known items, and what to say of the others.

        RequestError if there is no known one, and no ``fallback``.
        """
        if not item_ids:
            raise RequestError("the session is empty", "name at least one item")
        found = dict(zip(item_ids, self._generation.rows(item_ids), strict=True))
        unknown = [item_id for item_id, row in found.items() if row is None]
        if len(unknown) == len(found) and fallback == "error":
            return self.rows(item_ids), ()
        rows = [row for item_id in item_ids if (row := found[item_id]) is not None]
        if not unknown:
            return rows, ()
        return rows, (f"of the session these items are left out, as they are unknown: {_few(unknown)}",)

    def _unknown(self, item_ids: Iterable[str]) -> list[str]:
        named = list(dict.fromkeys(item_ids))
        return [one for one, row in zip(named, self._generation.rows(named), strict=True) if row is None]

    def _nearest(self, item_id: str) -> str:
        close = nearest(item_id, _like(item_id, self._generation.table.item_ids()))
        return f"did you mean {', '.join(map(shown, close))}?" if close else "name an item of the catalogue"


class RuledConstraints:
    """The constraints of one generation by the rules as their file has them now; threads may share it.

    The file is read when it is first needed, and again when it has changed. A mistake in the first one is a
    SettingsError of every answer that heeds rules; later ones are told in notes, and the rules of before hold on.
    ``needed`` says that the file has to be there; otherwise there are no rules without it. What a file would hold
    stays what it is.
    """

    def __init__(self, generation: Generation, rules: RulesSource | None, *, needed: bool) -> None:
        self._generation, self._source, self._needed = generation, rules, needed
        self._file = rules if isinstance(rules, Path) else None
        self._mark = None if self._file is None else file_stamp(self._file)
        self._present = self._read()

    def now(self) -> Constraints:
        """Those of one answer, from its beginning to its end."""
        if self._file is not None and (mark := file_stamp(self._file)) != self._mark:
            self._mark = mark
            self._present = self._anew(self._present)
        return self._present

    def succeed(self, former: "RuledConstraints") -> None:
        """Heed the rules that were heeded for another generation; SettingsError if they cannot be read."""
        if former._present.is_read:
            _ = self._present.rules

    def _read(self) -> Constraints:
        there = self._needed or self._mark is not None
        return Constraints(self._generation, self._source if there else None)

    def _anew(self, former: Constraints) -> Constraints:
        fresh = self._read()
        if not former.is_read:
            return fresh
        try:
            _ = fresh.rules
        except SettingsError as error:
            former.notes = (f"the rules of before hold, as those of now cannot be read: {error.message}",)
            return former
        return fresh


class UnknownPersonError(RequestError):
    """No history is known of a user or a session, whose id it has."""

    def __init__(self, message: str, hint: str, id_: str, *, is_session: bool) -> None:
        super().__init__(message, hint)
        self.id, self.is_session = id_, is_session


def no_history(user_id: str | None, session_id: str | None = None) -> UnknownPersonError:
    """What is said of somebody unknown; no ids like this one, as they are other people's."""
    who = f"anonymous visitor {shown(session_id)}" if user_id is None else f"user {shown(user_id)}"
    return UnknownPersonError(
        f"no history is known of the {who}",
        "check the id; --fallback popular answers users without history, --session a list of items",
        str(session_id if user_id is None else user_id),
        is_session=user_id is None,
    )


def _rows_of(generation: Generation, banned: frozenset[str], words: tuple[OneOf, ...]) -> frozenset[int]:
    rows, index = set(_known(generation, banned)), generation.index
    for name in {columns.ALIGNED, columns.COLD_START} & index.spec.dims.keys():  # every item has one of them
        nothing = [0.0] * index.spec.dims[name]
        for condition in words:
            rows.update(row for row, _ in index.top(name, nothing, max(1, len(index)), where=condition))
    return frozenset(rows)


def _known(generation: Generation, item_ids: Collection[str]) -> frozenset[int]:
    rows = generation.rows(list(item_ids)) if item_ids else []
    return frozenset(row for row in rows if row is not None)


def _few(item_ids: Sequence[str]) -> str:
    more = f" and {len(item_ids) - _NAMED:,} more" if len(item_ids) > _NAMED else ""
    return ", ".join(map(shown, item_ids[:_NAMED])) + more


def _like(item_id: str, known: Sequence[str]) -> Sequence[str]:
    """Ids with which a mistaken one is compared: of many those that begin like it."""
    for length in (32, 16, 8, 4, 2, 1):
        if len(known) <= _COMPARED:
            break
        if some := [other for other in known if other.startswith(item_id[:length])]:
            known = some
            break
    return known[:_COMPARED]
