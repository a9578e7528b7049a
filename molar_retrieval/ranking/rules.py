"""``rules.toml``: what a merchandiser wants of every list.

    [[rule]]
    name = "in stock"
    require = "stock > 0"

    [[rule]]
    ban = ["1234", "5678"]          # or a condition: ban = "brand = Acme"

    [[rule]]
    boost = "season = summer"       # bury = "…" is the opposite
    by = 0.5                        # spreads of the scores of a person's candidates
    for = "country = JP"            # whose lists; a condition on the columns of users.*

    [[rule]]
    fresh = "released"              # a date, as 2026-03-31, or a year
    half_life_days = 30
    by = 1.0                        # for an item of today

    [[rule]]
    at_most = 2
    per = "brand"

    [[rule]]
    at_least = 1
    of = "year >= 2020"

    [[rule]]
    pin = ["42"]
    at = 1                          # the first place; the others follow it

Every rule is one table with exactly one of these actions. Whatever a rule cannot do is told in the answer; seen items
stay hidden, and the list keeps its length where the catalogue allows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from molar_retrieval.config import Settings, read_toml, validated
from molar_retrieval.errors import RequestError, SettingsError, nearest
from molar_retrieval.expressions import And, Expression, Not, matches
from molar_retrieval.filter_language import parse

FILE_NAME = "rules.toml"
_ACTIONS = ("require", "ban", "boost", "bury", "fresh", "at_most", "at_least", "pin")


class Rule(Settings):
    """One ``[[rule]]``; see the module."""

    name: str | None = None
    segment: str | None = Field(None, alias="for")
    require: str | None = None
    ban: str | tuple[str, ...] | None = None
    boost: str | None = None
    bury: str | None = None
    fresh: str | None = None
    half_life_days: float = Field(30.0, gt=0)
    by: float = Field(0.5, gt=0)
    at_most: int | None = Field(None, ge=1)
    per: str | None = None
    at_least: int | None = Field(None, ge=1)
    of: str | None = None
    pin: tuple[str, ...] | None = Field(None, min_length=1)
    at: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        given = [action for action in _ACTIONS if getattr(self, action) is not None]
        if len(given) != 1:
            said = f"not {', '.join(given)} together" if given else "it has none"
            raise ValueError(f"a rule has one of {', '.join(_ACTIONS)}; {said}")
        if (self.at_most is None) != (self.per is None):
            raise ValueError("at_most needs per, the field whose values are counted, and per needs at_most")
        if (self.at_least is None) != (self.of is None):
            raise ValueError("at_least needs of, the condition that items fulfil, and of needs at_least")
        return self

    @property
    def action(self) -> str:
        """Which of the actions it is."""
        return next(action for action in _ACTIONS if getattr(self, action) is not None)

    @cached_property
    def title(self) -> str:
        """Its name, or what it does in a few words."""
        if self.name is not None:
            return self.name
        match self.action:
            case "at_most":
                return f"max {self.at_most} per {self.per}"
            case "at_least":
                return f"min {self.at_least} of {self.of}"
            case "pin":
                return f"pin {', '.join(self.pin or ())}"
            case "fresh":
                return f"fresh by {self.fresh}"
            case "ban":
                return f"ban {self.ban if isinstance(self.ban, str) else ', '.join(self.ban or ())}"
            case action:
                return f"{action} {getattr(self, action)}"


class _File(Settings):
    rule: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Limits:
    """What may come at all.

    Attributes:
        where: Condition on items, or None.
        banned: Items that must not come.
    """

    where: Expression | None = None
    banned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Active:
    """A rule that holds for one list, with its condition on items.

    Attributes:
        rule: As written.
        condition: Of ``require``, ``ban``, ``boost``, ``bury`` and ``at_least``; None for others and for named items.
    """

    rule: Rule
    condition: Expression | None


class Rules:
    """The rules of a shop, checked against its catalogue.

    Args:
        rules: In the order of the file.
        items: Fields of the items with their kinds.
        users: Fields of the users with their kinds.
        source: The file, for messages.

    Raises:
        SettingsError: If a condition is not understood, a field is unknown, or rules contradict each other.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        items: Mapping[str, str],
        users: Mapping[str, str],
        source: str = FILE_NAME,
    ) -> None:
        self._source = source
        self._active = [(self._segment(n, rule, users), self._read(n, rule, items)) for n, rule in enumerate(rules, 1)]
        _check_pins(rules, source)

    @classmethod
    def load(cls, path: Path, items: Mapping[str, str], users: Mapping[str, str]) -> Self:
        """Read a file.

        Raises:
            SettingsError: If it cannot be read or is wrong; the message names the rule.
        """
        try:
            values = read_toml(path)
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error}", "name an existing file") from error
        tables = enumerate(validated(_File, values, str(path)).rule, 1)
        rules = [validated(Rule, table, f"{path}: rule {number}") for number, table in tables]
        return cls(rules, items, users, str(path))

    def for_user(self, attributes: Mapping[str, Any]) -> list[Active]:
        """The rules that hold for somebody with these attributes."""
        return [rule for segment, rule in self._active if segment is None or matches(segment, attributes)]

    def _segment(self, number: int, rule: Rule, users: Mapping[str, str]) -> Expression | None:
        if rule.segment is None:
            return None
        if not users:
            raise SettingsError(
                f"{self._source}: rule {number} ({rule.title}) is for a part of the users, and nothing is known of any",
                'name columns of the users file in molar.toml, [index] segments = ["country"], and run `molar align`',
            )
        return self._parsed(number, rule, rule.segment, users)

    def _read(self, number: int, rule: Rule, items: Mapping[str, str]) -> Active:
        text = {
            "require": rule.require,
            "ban": rule.ban if isinstance(rule.ban, str) else None,
            "boost": rule.boost,
            "bury": rule.bury,
            "at_least": rule.of,
        }.get(rule.action)
        field = rule.per or rule.fresh
        if field is not None and field not in items:
            close = nearest(field, items, n=1)
            raise SettingsError(
                f"{self._source}: rule {number} ({rule.title}): the catalogue has no field {field!r}",
                f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(items))}",
            )
        return Active(rule, None if text is None else self._parsed(number, rule, text, items))

    def _parsed(self, number: int, rule: Rule, text: str, fields: Mapping[str, str]) -> Expression:
        try:
            return parse(text, fields)
        except RequestError as error:
            raise SettingsError(f"{self._source}: rule {number} ({rule.title}): {error.message}", error.hint) from error


def limits(active: Sequence[Active]) -> Limits:
    """What may come under some rules."""
    conditions: list[Expression] = []
    banned: set[str] = set()
    for rule in active:
        if rule.rule.action == "require" and rule.condition is not None:
            conditions.append(rule.condition)
        elif rule.rule.action == "ban":
            if rule.condition is not None:
                conditions.append(Not(rule.condition))
            banned.update(rule.rule.ban if isinstance(rule.rule.ban, tuple) else ())
    if not conditions:
        return Limits(None, frozenset(banned))
    return Limits(conditions[0] if len(conditions) == 1 else And(tuple(conditions)), frozenset(banned))


def _check_pins(rules: Sequence[Rule], source: str) -> None:
    """Refuse what can never hold for those whom both rules are for."""
    banned = {item for rule in rules if rule.segment is None and isinstance(rule.ban, tuple) for item in rule.ban}
    places: dict[tuple[str | None, int], str] = {}
    pinned: dict[tuple[str | None, str], str] = {}
    for rule in rules:
        for offset, item in enumerate(rule.pin or ()):
            if item in banned:
                raise SettingsError(f"{source}: the item {item!r} is pinned and banned", "remove it from one of them")
            place = rule.at + offset
            other = places.setdefault((rule.segment, place), item)
            if other != item:
                raise SettingsError(
                    f"{source}: both {other!r} and {item!r} are pinned at place {place}", "give them different places"
                )
            if pinned.setdefault((rule.segment, item), f"{place}") != f"{place}":
                raise SettingsError(f"{source}: the item {item!r} is pinned twice", "pin it once")
