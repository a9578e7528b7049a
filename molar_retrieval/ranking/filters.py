"""Conditions on an item's payload, as data: what they mean here, how to search with them in each index.

On a list a condition holds where any element fulfils it, as in Qdrant; on a missing value nothing holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from sys import float_info
from typing import Any

from molar_retrieval import limits
from molar_retrieval.errors import RequestError, shown

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

    @cached_property
    def members(self) -> frozenset[tuple[bool, Scalar]]:
        """The values, each with whether it is true or false, which Python takes for 1 and 0."""
        return frozenset((isinstance(value, bool), value) for value in self.values)


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
            is_bool = isinstance(value, bool)
            return any(isinstance(v, bool) == is_bool and v == value for v in _values(payload.get(field)))
        case OneOf(field):
            return any((isinstance(v, bool), v) in expression.members for v in _values(payload.get(field)))
        case Contains(field, part):
            return any(isinstance(v, str) and part in v for v in _values(payload.get(field)))
        case Exists(field):
            return any(v is not None for v in _values(payload.get(field)))
        case Between(field):
            return any(_within(v, expression) for v in _values(payload.get(field)))


def fields_of(expression: Expression) -> frozenset[str]:
    """The fields that an expression reads."""
    match expression:
        case And(operands) | Or(operands):
            return frozenset().union(*map(fields_of, operands))
        case Not(operand):
            return fields_of(operand)
    return frozenset((expression.field,))


def both(left: Expression | None, right: Expression) -> Expression:
    """Two conditions at once; the first one may be missing."""
    return right if left is None else And((left, right))


def check(expression: Any) -> None:
    """Refuse (RequestError) what is no condition, or exceeds a bound of :mod:`molar_retrieval.limits`."""
    count, waiting = 0, [(expression, 0)]
    while waiting:
        one, level = waiting.pop()
        match one:
            case And(operands) | Or(operands):
                waiting += [(operand, level + 1) for operand in operands[: limits.TERMS + 1]]
                count += not operands
            case Not(operand):
                waiting.append((operand, level + 1))
            case Equals() | OneOf() | Between() | Contains() | Exists():
                _check_leaf(one)
                count += terms(one)
            case _:
                raise RequestError(f"{shown(one)} is no condition", "write it in words, or build one of expressions")
        if level > limits.LEVELS:
            raise RequestError(f"the filter has more than {limits.LEVELS} levels", "take parentheses or negations away")
        if count > limits.TERMS:
            raise RequestError(
                f"the filter has more than {limits.TERMS} terms, which are comparisons and values of in (…)",
                "take some away; many ids may be given to --only or --exclude",
            )


def terms(expression: Expression) -> int:
    """How many comparisons an expression makes; each value of ``in (…)`` is one."""
    match expression:
        case And(operands) | Or(operands):
            return sum(map(terms, operands))
        case Not(operand):
            return terms(operand)
        case OneOf(_, values):
            return max(1, len(values))
    return 1


def _check_leaf(leaf: Equals | OneOf | Between | Contains | Exists) -> None:
    limits.text("a field of the filter", leaf.field, limits.ID)
    match leaf:
        case OneOf(_, values):
            for value in values[: limits.TERMS + 1]:
                _comparable(value)
        case Equals(_, value):
            _comparable(value)
        case Contains(_, part):
            limits.text("a text of the filter", part, limits.CONDITION)
        case Between(_, gt, gte, lt, lte):
            for bound in (gt, gte, lt, lte):
                if isinstance(bound, str | bool):
                    raise RequestError(f"the bound {shown(bound)} is no number", "compare with a number")
                _comparable(0 if bound is None else bound)


def _comparable(value: Any) -> None:
    if isinstance(value, str):
        limits.text("a word of the filter", value, limits.CONDITION)
    elif not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > float_info.max):
        raise RequestError(f"{shown(value)} is no value to compare with", "give a text, a number, true or false")


def _values(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _within(value: Any, bounds: Between) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (bounds.gt is None or value > bounds.gt)
        and (bounds.gte is None or value >= bounds.gte)
        and (bounds.lt is None or value < bounds.lt)
        and (bounds.lte is None or value <= bounds.lte)
    )
