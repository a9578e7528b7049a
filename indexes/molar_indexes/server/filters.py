"""Payloads and conditions of a collection, made by qdrant-client."""

from collections.abc import Iterable, Mapping
from sys import float_info
from typing import Any

from qdrant_client import models

from molar_indexes.filters import FilterConstructors, field_of, key_of, quoted
from molar_indexes.records import ITEM_ID

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


def _field(field: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=quoted(field), **condition)


SERVED = FilterConstructors(
    filter=models.Filter,
    equals=lambda field, value: _field(field, match=models.MatchValue(value=value)),
    among=lambda field, words: _field(field, match=models.MatchAny(any=words)),
    within=lambda field, bounds: _field(field, range=models.Range(**bounds)),
    contains=lambda field, part: _field(field, match=models.MatchSubstring(substring=part)),
    empty=lambda field: models.IsEmptyCondition(is_empty=models.PayloadField(key=quoted(field))),
    rows=among,
    largest=float_info.max,  # JSON has no infinities
)
"""Conditions of qdrant-client."""
