"""What other rules would change, before they hold: lists of a sample of people, by the rules of now and by others.

Both are asked of one generation, by the events up to now; see :mod:`molar_indexes.comparison`. What rules do not
change, somebody's candidates, is made once for both lists, and kept for the next preview.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from molar_indexes.answerer import Answerer
from molar_indexes.comparison import Compared, ListComparison, ShownList, compared, lists_by, sample
from molar_indexes.constraints import Constraints, RulesSource
from molar_indexes.generations import Generation
from molar_retrieval import columns
from molar_retrieval.errors import shown
from molar_retrieval.interactions.users import user_key

_TOLD = 20  # values of a field, notes
_NAMED = 3  # unknown items that a warning names


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
    return tuple(_warnings(generation, Constraints(generation, values)))


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
    warnings = tuple(_warnings(answerer.generation, constraints))
    if field is not None:
        constraints.check_field(field)
    keys = [user_key(user) for user in users] or sample(answerer.generation.users, people)
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


def _warnings(generation: Generation, constraints: Constraints) -> Iterator[str]:
    """Rules that cannot act, as the generation has nothing that they are about."""
    rules = constraints.rules
    for active in [] if rules is None else rules.all:
        rule, title = active.rule, repr(active.rule.title)
        named = rule.ban if isinstance(rule.ban, tuple) else rule.pin or ()
        rows = generation.index.rows(list(named)) if named else []
        unknown = [item for item, row in zip(named, rows, strict=True) if row is None]
        if unknown:
            more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
            listed = ", ".join(map(shown, unknown[:_NAMED]))
            yield f"the rule {title} names items that generation {generation.name} does not have: {listed}{more}"
        if active.condition is not None and not _some(generation, active.condition):
            yield f"the rule {title} is about items of which there is none in generation {generation.name}"


def _some(generation: Generation, condition: Any) -> bool:
    """Whether an item fulfils a condition."""
    dims = generation.index.spec.dims
    return any(
        generation.index.top(name, [0.0] * dims[name], 1, where=condition)
        for name in (columns.ALIGNED, columns.COLD_START)
        if name in dims
    )
