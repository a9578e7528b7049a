r"""Conditions in the words of the Qdrant engine, for the embedded index.

Payload keys are stored so that every condition of :mod:`molar_retrieval.expressions` can be asked:

* Names of fields are written as :mod:`molar_indexes.payload_keys` says.
* The Python binding 0.9 turns ``MatchValue(True)`` into the integer 1, which no boolean equals. So booleans are
  stored a second time, as the keywords ``true`` and ``false`` under a shadow key, for filters only.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from qdrant_edge import (
    FieldCondition,
    Filter,
    HasIdCondition,
    IsEmptyCondition,
    MatchAny,
    MatchSubstring,
    MatchValue,
    RangeFloat,
)

from molar_indexes.payload_keys import EXACT, INT64, field_of, key_of, quoted
from molar_indexes.records import ITEM_ID
from molar_retrieval.expressions import And, Between, Contains, Equals, Exists, Expression, Not, OneOf, Or, Scalar

_SHADOW = "%bool:"


def to_payload(item_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored for a cleaned payload."""
    stored: dict[str, Any] = {ITEM_ID: item_id}
    for field, value in payload.items():
        key = key_of(field)
        stored[key] = value
        truths = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, bool)]
        if truths:
            stored[_SHADOW + key] = [_word(v) for v in truths]
    return stored


def from_payload(stored: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The item's id and its payload, as they were given."""
    fields = dict(stored)
    item_id = fields.pop(ITEM_ID)
    if "%" in "".join(fields):  # of a shadow, or of a name that had to be escaped
        fields = {field_of(k): v for k, v in fields.items() if not k.startswith(_SHADOW)}
    return item_id, fields


def path(field: str, kind: str = "keyword") -> str:
    """The engine's JSON path of a field; that of its shadow for ``bool``."""
    return quoted(field, _SHADOW if kind == "bool" else "")


def to_filter(where: Expression | None, exclude: Iterable[int]) -> Filter | None:
    """The filter for a condition and rows to leave out; None where there is nothing to filter."""
    rows: set[Any] = {int(row) for row in exclude if row >= 0}
    if where is None and not rows:
        return None
    return Filter(
        must=None if where is None else [_translate(where)],
        must_not=[HasIdCondition(rows)] if rows else None,
    )


def _translate(expression: Expression) -> Filter:
    match expression:
        case And(operands):
            return Filter(must=[_translate(o) for o in operands])
        case Or(operands):
            # An empty `should` is true for the engine, the empty disjunction is not.
            return Filter(should=[_translate(o) for o in operands]) if operands else _nothing()
        case Not(operand):
            return Filter(must_not=[_translate(operand)])
        case Equals(field, value):
            return _equals(field, value)
        case OneOf(field, values):
            words = [v for v in values if isinstance(v, str)]
            either: list[Any] = [_equals(field, v) for v in values if not isinstance(v, str)]
            if words:
                either.append(FieldCondition(path(field), match=MatchAny(words)))
            return Filter(should=either) if either else _nothing()
        case Contains(field, part):
            return Filter(must=[FieldCondition(path(field), match=MatchSubstring(part))])
        case Exists(field):
            return Filter(must_not=[IsEmptyCondition(path(field))])
        case Between(field, gt, gte, lt, lte):
            return _between(field, gt, gte, lt, lte)


def _equals(field: str, value: Scalar) -> Filter:
    if isinstance(value, bool):
        return Filter(must=[FieldCondition(path(field, "bool"), match=MatchValue(_word(value)))])
    if isinstance(value, str):
        return Filter(must=[FieldCondition(path(field), match=MatchValue(value))])
    either: list[Any] = []
    if isinstance(value, int) and -INT64 <= value < INT64:
        either.append(FieldCondition(path(field), match=MatchValue(value)))
    if isinstance(value, float) or abs(value) <= EXACT:
        # MatchValue takes no floats, and its integers do not equal a stored 5.0.
        either.append(FieldCondition(path(field), range=RangeFloat(gte=float(value), lte=float(value))))
    return Filter(should=either) if either else _nothing()


def _between(field: str, gt: float | None, gte: float | None, lt: float | None, lte: float | None) -> Filter:
    bounds = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
    given = {name: float(bound) for name, bound in bounds.items() if bound is not None}
    if any(bound != bound for bound in given.values()):  # NaN
        return _nothing()
    return Filter(must=[FieldCondition(path(field), range=RangeFloat(**(given or {"gte": float("-inf")})))])


def _nothing() -> Filter:
    return Filter(must_not=[Filter()])


def _word(value: bool) -> str:
    return "true" if value else "false"
