"""Conditions on an item's payload, as data: what they mean here, how to search with them in each index.

A condition on a list-valued field holds where any element fulfils it, as in Qdrant; on a missing
value nothing holds, so ``Not(Equals("brand", "x"))`` also finds the items without a brand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Equals:
    """``field = value``."""

    field: str
    value: Scalar


@dataclass(frozen=True)
class OneOf:
    """``field in (values)``; strings or integers."""

    field: str
    values: tuple[str | int, ...]


@dataclass(frozen=True)
class Between:
    """``low <= field < high`` and its kin on numbers; a bound that is None is open."""

    field: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True)
class Contains:
    """The words of ``field`` have ``part`` in them, as written."""

    field: str
    part: str


@dataclass(frozen=True)
class Exists:
    """``field`` has a value."""

    field: str


@dataclass(frozen=True)
class And:
    """All of the operands hold; true without operands."""

    operands: tuple["Expression", ...]


@dataclass(frozen=True)
class Or:
    """At least one of the operands holds; false without operands."""

    operands: tuple["Expression", ...]


@dataclass(frozen=True)
class Not:
    """The operand does not hold."""

    operand: "Expression"


Expression = Equals | OneOf | Between | Contains | Exists | And | Or | Not


def matches(expression: Expression, payload: Mapping[str, Any]) -> bool:
    """Whether an item's payload fulfils the expression."""
    match expression:
        case And(operands):
            return all(matches(o, payload) for o in operands)
        case Or(operands):
            return any(matches(o, payload) for o in operands)
        case Not(operand):
            return not matches(operand, payload)
        case Equals(field, value):
            return any(_equal(v, value) for v in _values(payload.get(field)))
        case OneOf(field, values):
            return any(_equal(v, w) for v in _values(payload.get(field)) for w in values)
        case Contains(field, part):
            return any(isinstance(v, str) and part in v for v in _values(payload.get(field)))
        case Exists(field):
            return any(v is not None for v in _values(payload.get(field)))
        case Between(field):
            return any(_within(v, expression) for v in _values(payload.get(field)))


def _values(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _equal(left: Any, right: Scalar) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _within(value: Any, bounds: Between) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (
        (bounds.gt is None or value > bounds.gt)
        and (bounds.gte is None or value >= bounds.gte)
        and (bounds.lt is None or value < bounds.lt)
        and (bounds.lte is None or value <= bounds.lte)
    )
