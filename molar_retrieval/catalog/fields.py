"""What an event that changes an item makes of its payload: as preparing the catalogue would, without the items file."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from molar_retrieval.availability import ACTIVE, Availability, understood
from molar_retrieval.columns import TITLE

KINDS_OF_ROLES = {"active": ("bool",), "available_from": ("keyword",), "stock": ("integer", "float")}


@dataclass(frozen=True)
class PayloadFields:
    """The fields of a payload, and what events call them.

    Attributes:
        kinds: Of each field: ``keyword``, ``integer``, ``float`` or ``bool``.
        columns: The field that a column of the items file fills, where its name is another one.
        lists: Fields of several values, and what stands between these where the file writes them in one text.
        availability: The fields that say from when an item may be shown.
    """

    kinds: Mapping[str, str]
    columns: Mapping[str, str]
    lists: Mapping[str, str | None]
    availability: Availability

    @classmethod
    def of(cls, kinds: Mapping[str, str], facts: Mapping[str, Any], availability: Availability) -> Self:
        """From the kinds of fields that can be filtered, and what :attr:`Catalogue.described` says of its file."""
        free = {role: _free(role, name, kinds) for name, role in availability.roles.items()}
        columns, lists = {TITLE: TITLE, **facts.get("columns", {})}, facts.get("lists", {})
        return cls({TITLE: "keyword", **kinds}, columns, lists, replace(availability, **free))

    @cached_property
    def _named(self) -> dict[str, str]:
        """The field by every name that an event may give it."""
        roles = {role: name for name, role in self.availability.roles.items()}
        own = {name: name for name in self.kinds if name not in self.columns.values()}
        return {**roles, **own, **self.columns}

    @property
    def names(self) -> Collection[str]:
        """All names that an event may use."""
        return self._named.keys()

    def field(self, name: str) -> str | None:
        """The field that an event means by a name; None where it means none."""
        return self._named.get(name)

    def changed(self, event: str, data: str | None) -> dict[str, Any]:
        """The new values of fields as an index keeps them, with 15 digits; None for one that has no value any more.

        What is no field of the payload, or no value of its field, is left out.
        """
        return {name: _rounded(value) for name, value in self.read(event, data)[0].items()}

    def read(self, event: str, data: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The new values of fields by an event's type and data, and what cannot be used, by the name in the event."""
        if event == "item_withdraw":
            return {self.availability.active: False}, {}
        values: dict[str, Any] = {}
        unusable: dict[str, Any] = {}
        for name, value in json.loads(data or "{}").items():
            try:
                field = self._named[name]
                values[field] = self._fitted(field, value)
            except (KeyError, ValueError, TypeError, OverflowError):
                unusable[name] = value
        return values, unusable

    def _fitted(self, field: str, value: Any) -> Any:
        if value is None or value == "":
            return None
        role = self.availability.roles.get(field)
        if role is not None and (value := understood(role, value)) is None:
            raise ValueError(role)
        kind = self.kinds.get(field, KINDS_OF_ROLES[role][-1] if role else "keyword")
        if field not in self.lists:
            return _single(kind, value)
        if isinstance(value, str) and (separator := self.lists[field]) is not None:
            value = [part.strip() for part in value.split(separator)]
        several = value if isinstance(value, list) else [value]
        return [_single(kind, one) for one in several if one is not None and one != ""]


def _single(kind: str, value: Any) -> str | int | float | bool:
    """A single value as a field of a kind has it; a ValueError or the like where it cannot."""
    if isinstance(value, list | dict):
        raise TypeError("no single value")
    if kind == "keyword":
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if kind == "bool":
        told = understood(ACTIVE, value)
        if told is None:
            raise ValueError("no truth")
        return bool(told)
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError("no number")
    if kind != "integer" or not number.is_integer():
        return number
    if not -(2**63) <= int(value) < 2**63:
        raise OverflowError("too large")
    return int(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.15g}") if isinstance(value, float) else value


def _free(role: str, name: str, kinds: Mapping[str, str]) -> str:
    """The field of a role; by another name where one of another kind has it, which is of no column with the role."""
    while kinds.get(name, KINDS_OF_ROLES[role][0]) not in KINDS_OF_ROLES[role]:
        name += "_"
    return name
