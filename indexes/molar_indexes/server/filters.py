"""Payloads and conditions of a collection, made by qdrant-client."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from sys import float_info
from typing import Any, NoReturn

from qdrant_client import models

from molar_indexes.filters import FilterConstructors, field_of, key_of, quoted
from molar_indexes.records import ITEM_ID
from molar_retrieval.errors import RequestError

ROW = "%row"
"""The payload key that holds a user's number; no field's key is like it."""
ROW_PATH = f'"{ROW}"'
ITEM_ID_PATH = quoted(ITEM_ID)

_SUBSTRINGS = (1, 20)
"""The version from which on a server finds parts of texts."""


def to_payload(item_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored for a cleaned payload."""
    return {ITEM_ID: item_id, **{key_of(field): value for field, value in payload.items()}}


def from_payload(stored: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The item's id and its payload, as they were given."""
    fields = dict(stored)
    item_id = fields.pop(ITEM_ID)
    return item_id, {field_of(key): value for key, value in fields.items()}


def among(wanted: Iterable[int]) -> models.HasIdCondition:
    """One of the items at some rows."""
    return models.HasIdCondition(has_id=sorted(wanted))


def items_between(first: int, last: int) -> models.Filter:
    """Items at rows from one up to another."""
    return models.Filter(must=[among(range(first, last))])


def users_between(first: int, last: int) -> models.Filter:
    """Users with numbers from one up to another."""
    within = models.FieldCondition(key=ROW_PATH, range=models.Range(gte=first, lt=last))
    return models.Filter(must=[within])


def named(item_ids: Sequence[str]) -> models.Filter:
    """Items with one of some ids."""
    return models.Filter(must=[models.FieldCondition(key=ITEM_ID_PATH, match=models.MatchAny(any=list(item_ids)))])


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


def understood(version: str) -> FilterConstructors:
    """The conditions that a server of a version takes: RequestError comes of one that is newer than it."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) >= _SUBSTRINGS:
        return SERVED

    def refused(field: str, part: str) -> NoReturn:
        needed = ".".join(map(str, _SUBSTRINGS))
        raise RequestError(
            f"the condition `contains`, here on {field!r}, needs a Qdrant server of {needed}; this one is of {version}",
            "update the server, or ask the workspace: --index local",
        )

    return replace(SERVED, contains=refused)
