"""Conditions in the words of qdrant-client.

What :mod:`molar_indexes.filters` is for the embedded engine; a server compares booleans itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from qdrant_client import models

from molar_indexes.payload_keys import EXACT, INT64, field_of, key_of, quoted
from molar_indexes.records import ITEM_ID
from molar_retrieval.expressions import And, Between, Contains, Equals, Exists, Expression, Not, OneOf, Or, Scalar

ROW = "%row"
"""The payload key that holds an item's row; no field's key is like it."""
ROW_PATH = f'"{ROW}"'


def to_payload(row: int, item_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored for a cleaned payload."""
    return {ROW: row, ITEM_ID: item_id, **{key_of(field): value for field, value in payload.items()}}


def from_payload(stored: Mapping[str, Any]) -> tuple[int, str, dict[str, Any]]:
    """The item's row, its id and its payload, as they were given."""
    fields = dict(stored)
    row, item_id = fields.pop(ROW), fields.pop(ITEM_ID)
    return row, item_id, {field_of(key): value for key, value in fields.items()}


def among(wanted: Iterable[int]) -> models.FieldCondition:
    """One of some rows."""
    return models.FieldCondition(key=ROW_PATH, match=models.MatchAny(any=sorted(wanted)))


def between_rows(first: int, last: int) -> models.Filter:
    """Rows from one up to another."""
    within = models.FieldCondition(key=ROW_PATH, range=models.Range(gte=first, lt=last))
    return models.Filter(must=[within])


def to_filter(where: Expression | None, exclude: Iterable[int]) -> models.Filter | None:
    """The filter for a condition and rows to leave out; None where there is nothing to filter."""
    hidden = {int(row) for row in exclude if row >= 0}
    if where is None and not hidden:
        return None
    return models.Filter(
        must=None if where is None else [_translate(where)],
        must_not=[among(hidden)] if hidden else None,
    )


def _translate(expression: Expression) -> models.Filter:
    match expression:
        case And(operands):
            return models.Filter(must=[_translate(o) for o in operands])
        case Or(operands):
            # An empty `should` is true for the engine, the empty disjunction is not.
            return models.Filter(should=[_translate(o) for o in operands]) if operands else _nothing()
        case Not(operand):
            return models.Filter(must_not=[_translate(operand)])
        case Equals(field, value):
            return _equals(field, value)
        case OneOf(field, values):
            words = [v for v in values if isinstance(v, str)]
            either: list[Any] = [_equals(field, v) for v in values if not isinstance(v, str)]
            if words:
                either.append(models.FieldCondition(key=quoted(field), match=models.MatchAny(any=words)))
            return models.Filter(should=either) if either else _nothing()
        case Contains(field, part):
            return _must(field, match=models.MatchSubstring(substring=part))
        case Exists(field):
            empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=quoted(field)))
            return models.Filter(must_not=[empty])
        case Between(field, gt, gte, lt, lte):
            return _between(field, gt, gte, lt, lte)


def _equals(field: str, value: Scalar) -> models.Filter:
    if isinstance(value, str | bool):
        return _must(field, match=models.MatchValue(value=value))
    either: list[Any] = []
    if isinstance(value, int) and -INT64 <= value < INT64:
        either.append(_must(field, match=models.MatchValue(value=value)))
    if isinstance(value, float) or abs(value) <= EXACT:
        # MatchValue takes no floats, and its integers do not equal a stored 5.0.
        either.append(_must(field, range=models.Range(gte=float(value), lte=float(value))))
    return models.Filter(should=either) if either else _nothing()


def _between(field: str, gt: float | None, gte: float | None, lt: float | None, lte: float | None) -> models.Filter:
    bounds = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
    given = {name: float(bound) for name, bound in bounds.items() if bound is not None}
    if any(bound != bound for bound in given.values()):  # NaN
        return _nothing()
    # JSON has no infinities.
    given = {name: max(-_LARGEST, min(_LARGEST, bound)) for name, bound in given.items()}
    return _must(field, range=models.Range(**(given or {"gte": -_LARGEST})))


_LARGEST = 1.7976931348623157e308


def _must(field: str, **condition: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=quoted(field), **condition)])


def _nothing() -> models.Filter:
    return models.Filter(must_not=[models.Filter()])
