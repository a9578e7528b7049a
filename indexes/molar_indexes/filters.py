r"""Conditions for the Qdrant engine, embedded or on a server: one translation over a table of a client's constructors.

The engine's JSON paths can quote dots, blanks and any script, but neither ``"`` nor ``\``; these two are
percent-encoded in stored keys. So no field's key begins with ``%`` and anything but ``22``, ``25`` or ``5C``: such keys
are free for our own use.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from molar_retrieval.ranking.filters import And, Between, Contains, Equals, Exists, Expression, Not, OneOf, Or, Scalar

_EXACT = 1 << 53  # integers up to here are exact as float64
_INT64 = 1 << 63  # integers below this fit a stored one


def key_of(field: str) -> str:
    """The stored key of a field."""
    return field.replace("%", "%25").replace('"', "%22").replace("\\", "%5C")


def field_of(key: str) -> str:
    """The field of a stored key."""
    return key.replace("%5C", "\\").replace("%22", '"').replace("%25", "%")


def quoted(field: str, prefix: str = "") -> str:
    """The JSON path of a field; a ``prefix`` stands before its key."""
    return f'"{prefix}{key_of(field)}"'


@dataclass(frozen=True)
class FilterConstructors:
    """How one client makes conditions; all but the first and the last take the name of a field."""

    filter: Callable[..., Any]  # of lists ``must``, ``should`` and ``must_not``; always true without any
    equals: Callable[[str, str | bool | int], Any]  # a text, a boolean or a 64-bit integer
    among: Callable[[str, list[str]], Any]  # one of some texts
    within: Callable[[str, Mapping[str, float]], Any]  # a range of numbers with bounds ``gt``, ``gte``, ``lt``, ``lte``
    contains: Callable[[str, str], Any]  # a part of a text
    empty: Callable[[str], Any]  # no value
    rows: Callable[[set[int]], Any]  # one of some rows
    largest: float  # bounds beyond this number are cut to it

    def to_filter(self, where: Expression | None, exclude: Iterable[int]) -> Any:
        """The filter for a condition and rows to leave out; None where there is nothing to filter."""
        hidden = {int(row) for row in exclude if row >= 0}
        if where is None and not hidden:
            return None
        must = None if where is None else [self._translated(where)]
        return self.filter(must=must, must_not=[self.rows(hidden)] if hidden else None)

    def _translated(self, expression: Expression) -> Any:
        match expression:
            case And(operands):
                return self.filter(must=[self._translated(operand) for operand in operands])
            case Or(operands):
                return self._any([self._translated(operand) for operand in operands])
            case Not(operand):
                return self.filter(must_not=[self._translated(operand)])
            case Equals(field, value):
                return self._equals(field, value)
            case OneOf(field, values):
                words = [value for value in values if isinstance(value, str)]
                either = [self._equals(field, value) for value in values if not isinstance(value, str)]
                return self._any([*either, self.among(field, words)] if words else either)
            case Contains(field, part):
                return self.contains(field, part)
            case Exists(field):
                return self.filter(must_not=[self.empty(field)])
            case Between(field, gt, gte, lt, lte):
                return self._between(field, {"gt": gt, "gte": gte, "lt": lt, "lte": lte})

    def _any(self, conditions: list[Any]) -> Any:
        """An empty ``should`` is true for the engine, the empty disjunction is not."""
        return self.filter(should=conditions) if conditions else self.filter(must_not=[self.filter()])

    def _equals(self, field: str, value: Scalar) -> Any:
        if isinstance(value, str | bool):
            return self.equals(field, value)
        either = [self.equals(field, value)] if isinstance(value, int) and -_INT64 <= value < _INT64 else []
        if isinstance(value, float) or abs(value) <= _EXACT:
            # A match takes no floats, and its integers do not equal a stored 5.0.
            either.append(self._between(field, {"gte": value, "lte": value}))
        return self._any(either)

    def _between(self, field: str, bounds: Mapping[str, float | None]) -> Any:
        given = {name: float(bound) for name, bound in bounds.items() if bound is not None}
        if any(bound != bound for bound in given.values()):  # NaN
            return self._any([])
        cut = {name: max(-self.largest, min(self.largest, bound)) for name, bound in given.items()}
        return self.within(field, cut or {"gte": -self.largest})
