"""What other rules would change, before they hold: lists of a sample of people, by the rules of now and by others.

Both are asked of one generation, by the events up to now; see :mod:`molar_indexes.comparison`. What rules do not
change, somebody's candidates, is made once for both lists, and kept for the next preview.
"""

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from molar_indexes.answerer import Answerer
from molar_indexes.comparison import Compared, ListComparison, ShownList, compared, lists_by, sample
from molar_indexes.constraints import Constraints, RulesSource
from molar_indexes.generations import Generation
from molar_indexes.users import Users
from molar_retrieval import columns
from molar_retrieval.ranking.filters import Expression, matches
from molar_retrieval.ranking.rules import RulesConflict, conflicts

_TOLD = 20  # values of a field, notes
_LOOKED_AT = 50_000  # people


@dataclass(frozen=True)
class FieldExposure:
    """A value of a field, and the share of all places that items with it have, before and after."""

    value: str
    before: float
    after: float


@dataclass(frozen=True)
class RulesPreview:
    """What rules would change.

    Attributes:
        lists: How the lists differ.
        short: Lists that would be shorter than they are.
        exposure: By the values of a field, those that change most first; at most 20. Empty where none was named.
        notes: What answers would say of rules that they cannot keep, with how many do.
        warnings: What is odd about the rules, in sentences.
    """

    lists: ListComparison
    short: int
    exposure: tuple[FieldExposure, ...]
    notes: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]


def checked(generation: Generation, values: Mapping[str, Any]) -> tuple[str, ...]:
    """What is odd about rules, as a file would hold them, in sentences; a SettingsError where they are wrong."""
    return tuple(one.sentence for one in conflicts_of(generation, Constraints(generation, values)))


def previewed(
    answerer: Answerer,
    present: RulesSource | None,
    values: Mapping[str, Any],
    *,
    people: int,
    users: Sequence[str] = (),
    field: str | None = None,
    known: Compared | None = None,
) -> RulesPreview:
    """What rules would change in people's lists.

    Args:
        answerer: What answers now; whether by rules, does not matter.
        present: The rules that hold now; None: there are none.
        values: What a file of other rules would hold.
        people: Of how many people lists are compared.
        users: These people instead.
        field: A field of the items by whose values exposure is told.
        known: What former previews have left, and this one leaves; None: nothing.

    Raises:
        RequestError: If there is no such field, or too many people are asked for.
        SettingsError: If the rules are wrong, those of now or the others.
    """
    old, new = answerer.ruled_by(present), answerer.ruled_by(values)
    constraints = new.present()[0]
    warnings = tuple(one.sentence for one in conflicts_of(answerer.generation, constraints))
    if field is not None:
        constraints.check_field(field)
    keys = [answerer.key(user) for user in users] or sample(answerer.generation.users, people)
    before, after = lists_by([old, new], keys, datetime.now(UTC), Compared() if known is None else known)
    said = Counter(note for answer in after.values() for note in answer.notes)
    said.subtract(note for answer in before.values() for note in answer.notes)
    return RulesPreview(
        lists=compared(before, after),
        short=sum(len(after[key].items) < len(before[key].items) for key in keys),
        exposure=() if field is None else _exposure(field, list(before.values()), list(after.values())),
        notes=tuple((note, count) for note, count in said.most_common(_TOLD) if count > 0),
        warnings=warnings,
    )


def _exposure(field: str, before: Sequence[ShownList], after: Sequence[ShownList]) -> tuple[FieldExposure, ...]:
    shares = [_shares(field, before), _shares(field, after)]
    found = [FieldExposure(value, *(share.get(value, 0.0) for share in shares)) for value in {**shares[0], **shares[1]}]
    return tuple(sorted(found, key=lambda one: (-abs(one.after - one.before), one.value))[:_TOLD])


def _shares(field: str, answers: Sequence[ShownList]) -> dict[str, float]:
    """The share of places by value; an item with several values counts for each."""
    counts, places = Counter[str](), 0
    for item in (item for answer in answers for item in answer.items):
        value = item.item_id if field == columns.ITEM_ID else item.payload.get(field)
        counts.update({str(one) for one in (value if isinstance(value, list) else [value]) if one is not None})
        places += 1
    return {value: count / places for value, count in counts.items()}


def conflicts_of(generation: Generation, constraints: Constraints) -> list[RulesConflict]:
    """What gets in the way of rules, by the items and people of a generation; SettingsError if the rules are wrong."""
    rules, index = constraints.rules, generation.index
    if rules is None:
        return []

    def items(ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        rows = [row for row in index.rows(list(ids)) if row is not None]
        return {item.item_id: {columns.ITEM_ID: item.item_id, **item.payload} for item in index.fetch(rows)}

    def fits(condition: Expression) -> bool:
        dims = index.spec.dims
        spaces = [name for name in (columns.ALIGNED, columns.COLD_START) if name in dims]
        return any(index.top(name, [0.0] * dims[name], 1, where=condition) for name in spaces)

    return conflicts(rules, items, fits, lambda segment: _somebody(generation, segment))


_people: "weakref.WeakKeyDictionary[Users, list[Mapping[str, Any]]]" = weakref.WeakKeyDictionary()
"""What people's attributes are, each once, by the users of a generation."""


def _somebody(generation: Generation, segment: Expression) -> bool:
    """Whether the generation knows people of a segment; of more people than are looked at, nobody is missed."""
    if len(generation.users) > _LOOKED_AT:
        return True
    if generation.users not in _people:
        some = {repr(one.attributes): one.attributes for batch in generation.users.batches() for one in batch}
        _people[generation.users] = list(some.values())
    return any(matches(segment, attributes) for attributes in _people[generation.users])
