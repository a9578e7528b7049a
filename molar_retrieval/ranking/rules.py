"""Merchandising rules of a shop: boosts, filters, pins, caps, quotas; and those that get in each other's way."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Self, TypeGuard

from pydantic import Field, field_validator, model_validator

from molar_retrieval import limits
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.availability import moment
from molar_retrieval.errors import RequestError, SettingsError, shown, suggestion
from molar_retrieval.ranking.filter_language import parse
from molar_retrieval.ranking.filters import And, Equals, Expression, Not, OneOf, matches, terms
from molar_retrieval.workspace.config_files import read_toml
from molar_retrieval.workspace.settings import Settings, validated

FILE_NAME = "rules.toml"
_ACTIONS = ("require", "ban", "boost", "bury", "fresh", "at_most", "at_least", "pin")
_WEIGHING = ("boost", "bury", "fresh", "at_least")
_FEW = 100  # banned words of one field that a search may read every time; the items that have more are looked up once
_LONGEST = 200  # characters of a title: answers repeat it with each item
_ENDLESS = 1 << 62  # microseconds
_REMEMBERED = 64  # sets of rules that hold together, of which is kept what they come to


class Rule(Settings):
    """One ``[[rule]]``; ``by`` counts in spreads of the scores of a person's candidates, ``at`` from 1.

    It holds ``from`` a moment ``until`` another one, where these are named: days of UTC, the last one included, or
    moments in ISO 8601.
    """

    name: str | None = None
    segment: str | None = Field(None, alias="for")
    begins: str | None = Field(None, alias="from")
    until: str | None = None
    require: str | None = None
    ban: str | tuple[str, ...] | None = None
    boost: str | None = None
    bury: str | None = None
    fresh: str | None = None
    half_life_days: float = Field(30.0, gt=0)
    by: float = Field(0.5, gt=0, le=1e6)
    at_most: int | None = Field(None, ge=1)
    per: str | None = None
    at_least: int | None = Field(None, ge=1)
    of: str | None = None
    pin: tuple[str, ...] | None = Field(None, min_length=1)
    at: int = Field(1, ge=1, le=limits.PLACE)

    @field_validator("begins", "until", mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        """TOML has dates and times of its own."""
        written = value.isoformat() if isinstance(value, date) else value
        if isinstance(written, str):
            _moment(written)
        return written

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

    @cached_property
    def action(self) -> str:
        """Which of the actions it is."""
        return next(action for action in _ACTIONS if getattr(self, action) is not None)

    @cached_property
    def period(self) -> tuple[int, int]:
        """From when until when it holds, in microseconds since 1970, the end not included."""
        begin = -_ENDLESS if self.begins is None else _moment(self.begins)
        return begin, _ENDLESS if self.until is None else _moment(self.until, end=True)

    @cached_property
    def title(self) -> str:
        """Its name, or what it does in a few words, at most 200 characters."""
        title = self.name if self.name is not None else self._in_words()
        return title if len(title) <= _LONGEST else f"{title[: _LONGEST - 1]}…"

    def _in_words(self) -> str:
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


class _RulesFile(Settings):
    rule: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class ActiveRule:
    """A rule that holds for one list, with its condition on items.

    That is the one of ``require``, ``ban``, ``boost``, ``bury`` and ``at_least``; None for others and for named items.
    """

    rule: Rule
    condition: Expression | None


@dataclass(frozen=True)
class AppliedRules:
    """What a shop's rules come to for somebody."""

    where: Expression | None = None  # what ``require`` and ``ban`` demand of items
    banned: frozenset[str] = frozenset()  # ids that ``ban`` names
    words: tuple[OneOf, ...] = ()  # bans of more words than a search should read every time
    weighing: tuple[ActiveRule, ...] = ()  # read what candidates are: ``boost``, ``bury``, ``fresh``, ``at_least``
    caps: tuple[ActiveRule, ...] = ()  # ``at_most``, of each field the strictest
    pins: tuple[ActiveRule, ...] = ()

    @property
    def limits(self) -> bool:
        """Whether they can leave a list short."""
        return self.where is not None or bool(self.banned or self.words or self.caps)


class Rules:
    """The rules of a shop, checked against its catalogue: the fields of items and of users with their kinds.

    Raises:
        SettingsError: If a condition is not understood, a field is unknown, or rules contradict each other.
    """

    def __init__(
        self, rules: Sequence[Rule], items: Mapping[str, str], users: Mapping[str, str], source: str = FILE_NAME
    ) -> None:
        self._source = source
        self._users = users
        self._known: dict[tuple[str, bool], Expression] = {}
        self._active = [(self._segment(n, rule, users), self._read(n, rule, items)) for n, rule in enumerate(rules, 1)]
        self._moments = sorted({moment for rule in rules for moment in rule.period if abs(moment) < _ENDLESS})
        self._segments = list(dict.fromkeys(segment for segment, _ in self._active if segment is not None))
        self._ruled = lru_cache(_REMEMBERED)(self._joined)
        _check_pins(rules, source)
        self._check_cost()

    @classmethod
    def load(cls, path: Path, items: Mapping[str, str], users: Mapping[str, str]) -> Self:
        """Read a file; a SettingsError names the rule that is wrong."""
        try:
            values = read_toml(path)
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error}", "name an existing file") from error
        return cls.of(values, items, users, str(path))

    @classmethod
    def of(
        cls, values: Mapping[str, Any], items: Mapping[str, str], users: Mapping[str, str], source: str = FILE_NAME
    ) -> Self:
        """Of what a file says; a SettingsError names the rule that is wrong."""
        tables = validated(_RulesFile, values, source).rule
        _check_sizes(tables, source)
        rules = [validated(Rule, table, f"{source}: rule {number}") for number, table in enumerate(tables, 1)]
        return cls(rules, items, users, source)

    @property
    def all(self) -> list[ActiveRule]:
        """All rules in their order, whomever they are for."""
        return [active for _, active in self._active]

    @property
    def segments(self) -> list[Expression | None]:
        """Whom each rule is for, in their order; None: everybody."""
        return [segment for segment, _ in self._active]

    def for_user(self, attributes: Mapping[str, Any], now: datetime | None = None) -> AppliedRules:
        """What the rules come to that hold now, or at another moment, for somebody with these attributes."""
        over = bisect_right(self._moments, moment(now)) if self._moments else 0
        return self._ruled(tuple(segment for segment in self._segments if matches(segment, attributes)), over)

    def against(self, item: Mapping[str, Any], now: datetime | None = None) -> list[Rule]:
        """The rules that keep an item, by id and fields, out of all lists or of those of a part of the users."""
        when = moment(now)
        return [active.rule for _, active in self._active if holds(active.rule, when) and _keeps_out(active, item)]

    def _joined(self, segments: tuple[Expression, ...], over: int) -> AppliedRules:
        """Of these people, once so many moments are over at which a rule begins or ends."""
        chosen, when = {None, *segments}, self._moments[over - 1] if over else -_ENDLESS
        active = [rule for segment, rule in self._active if segment in chosen and holds(rule.rule, when)]
        by_action: dict[str, list[ActiveRule]] = {action: [] for action in _ACTIONS}
        for rule in active:
            by_action[rule.rule.action].append(rule)
        limiting = _limiting(active)
        words = tuple(one.operand for one in limiting if isinstance(one, Not) and _is_long(one.operand))
        conditions = tuple(one for one in limiting if not (isinstance(one, Not) and _is_long(one.operand)))
        where = And(conditions) if len(conditions) > 1 else next(iter(conditions), None)
        return AppliedRules(
            where=where,
            banned=frozenset(item for rule in by_action["ban"] for item in _names(rule.rule.ban)),
            words=words,
            weighing=tuple(rule for rule in active if rule.rule.action in _WEIGHING),
            caps=_strictest(by_action["at_most"]),
            pins=tuple(by_action["pin"]),
        )

    def _check_cost(self) -> None:
        if len(self._segments) > limits.SEGMENTS:
            raise SettingsError(
                f"{self._source}: the rules are for {len(self._segments):,} different parts of the users, more than"
                f" {limits.SEGMENTS}",
                "give rules for the same people the same words after `for`",
            )
        cost = sum(
            1 if isinstance(one, Not) and isinstance(one.operand, OneOf) else terms(one)
            for one in _limiting([rule for _, rule in self._active])
        )
        if cost > limits.LIMITING:
            raise SettingsError(
                f"{self._source}: `require` and `ban` make {cost:,} comparisons, more than {limits.LIMITING}",
                "ban words of one field, or items by their ids, of which there may be thousands",
            )

    def _segment(self, number: int, rule: Rule, users: Mapping[str, str]) -> Expression | None:
        if rule.segment is None:
            return None
        if not users:
            raise SettingsError(
                f"{self._source}: rule {number} ({rule.title}) is for a part of the users, and nothing is known of any",
                'name columns of the users file in molar.toml, [index] segments = ["country"], and run `molar align`',
            )
        return self._parsed(number, rule, rule.segment, users)

    def _read(self, number: int, rule: Rule, items: Mapping[str, str]) -> ActiveRule:
        text = {
            "require": rule.require,
            "ban": rule.ban if isinstance(rule.ban, str) else None,
            "boost": rule.boost,
            "bury": rule.bury,
            "at_least": rule.of,
        }.get(rule.action)
        field = rule.per or rule.fresh
        if field is not None and field not in items:
            raise SettingsError(
                f"{self._source}: rule {number} ({rule.title}): the catalogue has no field {shown(field)}",
                suggestion(field, items, f"known are {', '.join(sorted(items))}"),
            )
        return ActiveRule(rule, None if text is None else self._parsed(number, rule, text, items))

    def _parsed(self, number: int, rule: Rule, text: str, fields: Mapping[str, str]) -> Expression:
        key = text, fields is self._users
        try:
            if key not in self._known:
                self._known[key] = parse(text, fields)
            return self._known[key]
        except RequestError as error:
            raise SettingsError(f"{self._source}: rule {number} ({rule.title}): {error.message}", error.hint) from error


def holds(rule: Rule, when: int) -> bool:
    """Whether a rule holds at a moment, in microseconds since 1970."""
    return rule.period[0] <= when < rule.period[1]


def _moment(text: str, *, end: bool = False) -> int:
    """A moment in ISO 8601, in microseconds since 1970; a day is its beginning or its end, by UTC."""
    try:
        found = datetime.fromisoformat(text)
        when = moment(found if found.tzinfo else found.replace(tzinfo=UTC))
        return when + round(timedelta(days=1).total_seconds() * 1_000_000) * (end and len(text) <= len("2026-12-24"))
    except (ValueError, OverflowError):
        raise ValueError("write a day as 2026-12-24, or a moment as 2026-12-24T18:00+09:00") from None


def _keeps_out(active: ActiveRule, item: Mapping[str, Any]) -> bool:
    rule, condition = active.rule, active.condition
    if rule.action not in ("require", "ban"):
        return False
    return item[ITEM_ID] in _names(rule.ban) or (
        condition is not None and matches(condition, item) == (rule.action == "ban")
    )


def _limiting(active: Sequence[ActiveRule]) -> list[Expression]:
    """The conditions of ``require`` and ``ban``, each once; bans of words of one field are one."""
    found: dict[Expression, None] = {}
    banned: dict[str, dict[str, None]] = {}
    for rule in active:
        if rule.condition is None or rule.rule.action not in ("require", "ban"):
            continue
        if rule.rule.action == "require":
            found[rule.condition] = None
        elif (words := _words(rule.condition)) is not None:
            banned.setdefault(words[0], {}).update(dict.fromkeys(words[1]))
        else:
            found[Not(rule.condition)] = None
    bans = [Not(OneOf(f, tuple(words)) if len(words) > 1 else Equals(f, *words)) for f, words in banned.items()]
    return [*found, *bans]


def _is_long(condition: Expression) -> TypeGuard[OneOf]:
    return isinstance(condition, OneOf) and len(condition.values) > _FEW


def _words(condition: Expression) -> tuple[str, Sequence[str]] | None:
    """The field and the words with which a condition compares it, where it does nothing else."""
    match condition:
        case Equals(field, str(word)):
            return field, [word]
        case OneOf(field, values):
            words = [value for value in values if isinstance(value, str)]
            return (field, words) if words and len(words) == len(values) else None
    return None


def _strictest(caps: Sequence[ActiveRule]) -> tuple[ActiveRule, ...]:
    """Of caps on one field the strictest; the others cannot be reached."""
    found: dict[str | None, ActiveRule] = {}
    for cap in caps:
        known = found.setdefault(cap.rule.per, cap)
        if (cap.rule.at_most or 0) < (known.rule.at_most or 0):
            found[cap.rule.per] = cap
    return tuple(found.values())


def _names(ban: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return ban if isinstance(ban, tuple) else ()


def _check_sizes(tables: Sequence[Mapping[str, Any]], source: str) -> None:
    named = sum(len(names) for t in tables for names in (t.get("ban"), t.get("pin")) if isinstance(names, list))
    weighing = sum(any(action in table for action in _WEIGHING) for table in tables)
    for count, what, most in (
        (len(tables), "rules", limits.RULES),
        (weighing, f"rules of {', '.join(_WEIGHING)}", limits.WEIGHING),
        (named, "named items", limits.NAMED),
    ):
        if count > most:
            raise SettingsError(f"{source} has {count:,} {what}, more than {most:,}", f"leave at most {most:,}")


def _check_pins(rules: Sequence[Rule], source: str) -> None:
    """Refuse what can never hold for those whom both rules are for."""
    banned: dict[str, list[tuple[Rule, str]]] = {}
    places: dict[tuple[str | None, int], list[tuple[Rule, str]]] = {}
    pinned: dict[tuple[str | None, str], list[tuple[Rule, str]]] = {}
    for rule in rules:
        for item in _names(rule.ban) if rule.segment is None else ():
            banned.setdefault(item, []).append((rule, "banned"))
        for place, item in enumerate(rule.pin or (), rule.at):
            places.setdefault((rule.segment, place), []).append((rule, item))
            pinned.setdefault((rule.segment, item), []).append((rule, f"{place}"))
    for (_, item), pins in pinned.items():
        if item in banned and _clash([*banned[item], *((rule, "pinned") for rule, _ in pins)]):
            raise SettingsError(f"{source}: the item {item!r} is pinned and banned", "remove it from one of them")
    for (_, place), items in places.items():
        if found := _clash(items):
            told = f"both {found[0]!r} and {found[1]!r} are pinned at place {place}"
            raise SettingsError(f"{source}: {told}", "give them different places")
    for (_, item), pins in pinned.items():
        if _clash(pins):
            raise SettingsError(f"{source}: the item {item!r} is pinned twice", "pin it once")


def _clash(said: Sequence[tuple[Rule, str]]) -> tuple[str, str] | None:
    """Two different things that rules say at one moment."""
    latest: tuple[int, str] | None = None  # until when the same thing is said, and what
    held = ((*rule.period, what) for rule, what in said if rule.period[0] < rule.period[1])
    for begin, end, what in sorted(held, key=lambda one: one[0]):
        if latest is not None and begin < latest[0] and what != latest[1]:
            return latest[1], what
        latest = (max(end, latest[0]) if latest is not None and what == latest[1] else end), what
    return None


def overlap(one: Rule, other: Rule) -> bool:
    """Whether there is a moment at which both hold."""
    return max(one.period[0], other.period[0]) < min(one.period[1], other.period[1])


ConflictKind = Literal["place", "hidden_pin", "quota", "opposite", "never", "nobody", "nothing", "unknown"]
_WORDS: Mapping[ConflictKind, str] = {
    "place": "the rules {one} and {other} pin different items at place {what}: who both are for gets one of them there",
    "hidden_pin": "the rule {one} pins the item {what}, which the rule {other} hides",
    "quota": "the rule {one} wants more items of {what} than the rule {other} allows",
    "opposite": "the rules {one} and {other} boost and bury the same items: {what}",
    "never": "the rule {one} ends before it begins",
    "nobody": "the rule {one} is for people of whom there is nobody: {what}",
    "nothing": "the rule {one} is about items of which there is none: {what}",
    "unknown": "the rule {one} names items that there are not: {what}",
}
_COMPARED = 300  # rules of an action that are compared with each other
_NAMED = 3  # unknown items that are told


@dataclass(frozen=True)
class RulesConflict:
    """Two rules that get in each other's way, or one that can never act.

    Attributes:
        kind: How.
        rules: Their numbers, from 0.
        titles: What they are called.
        what: The item, place, condition or people that it is about.
    """

    kind: ConflictKind
    rules: tuple[int, ...]
    titles: tuple[str, ...]
    what: str = ""

    @property
    def sentence(self) -> str:
        """The same in a sentence."""
        names = dict(zip(("one", "other"), map(repr, self.titles), strict=False))
        return _WORDS[self.kind].format(what=self.what, **names)


def conflicts(
    rules: Rules,
    items: Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]],
    fits: Callable[[Expression], bool],
    somebody: Callable[[Expression], bool],
) -> list[RulesConflict]:
    """What gets in the way of some rules; of an action the first 300 rules are compared with each other.

    Args:
        rules: The rules.
        items: Of some ids the items that there are, by id, with their fields and their id.
        fits: Whether there is an item that fulfils a condition.
        somebody: Whether there is somebody who does.
    """
    every = list(enumerate(rules.all))
    by_action: dict[str, list[tuple[int, ActiveRule]]] = {}
    for number, active in every:
        by_action.setdefault(active.rule.action, []).append((number, active))
    some = {action: found[:_COMPARED] for action, found in by_action.items()}
    found = [
        *_alone(every, rules.segments, fits, somebody),
        *_pinned(some, items),
        *_at_one_place(some.get("pin", [])),
        *_quotas(some),
        *_opposite(some),
    ]
    return sorted(found, key=lambda one: one.rules)


def _of(kind: ConflictKind, what: str, *rules: tuple[int, ActiveRule]) -> RulesConflict:
    return RulesConflict(kind, tuple(n for n, _ in rules), tuple(active.rule.title for _, active in rules), what)


def _alone(
    every: Sequence[tuple[int, ActiveRule]],
    segments: Sequence[Expression | None],
    fits: Callable[[Expression], bool],
    somebody: Callable[[Expression], bool],
) -> Iterator[RulesConflict]:
    known: dict[tuple[bool, Expression], bool] = {}
    for number, active in every:
        begin, end = active.rule.period
        if begin >= end:
            yield _of("never", "", (number, active))
        for kind, condition, there, text in (
            ("nobody", segments[number], somebody, active.rule.segment),
            ("nothing", active.condition, fits, _text(active)),
        ):
            if condition is None:
                continue
            key = kind == "nobody", condition
            if key not in known:
                known[key] = there(condition)
            if not known[key]:
                yield _of("nobody" if kind == "nobody" else "nothing", text or "", (number, active))


def _text(active: ActiveRule) -> str:
    rule = active.rule
    return next(
        (text for text in (rule.require, rule.ban, rule.boost, rule.bury, rule.of) if isinstance(text, str)), ""
    )


def _pinned(
    some: Mapping[str, Sequence[tuple[int, ActiveRule]]],
    items: Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]],
) -> Iterator[RulesConflict]:
    """Pinned and banned items that there are not, and pinned ones that other rules hide."""
    limiting = [*some.get("ban", ()), *some.get("require", ())]
    for one in (*some.get("pin", ()), *some.get("ban", ())):
        rule = one[1].rule
        named = rule.pin or (rule.ban if isinstance(rule.ban, tuple) else ())
        there = items(named) if named else {}
        missing = [item_id for item_id in named if item_id not in there]
        if missing:
            more = f" … ({len(missing):,})" if len(missing) > _NAMED else ""
            yield _of("unknown", ", ".join(map(shown, missing[:_NAMED])) + more, one)
        for other in limiting if rule.pin else ():
            if not overlap(rule, other[1].rule):
                continue
            hidden = [item_id for item_id, item in there.items() if _hides(other[1], item_id, item)]
            if hidden:
                yield _of("hidden_pin", ", ".join(map(shown, hidden[:_NAMED])), one, other)


def _hides(active: ActiveRule, item_id: str, item: Mapping[str, Any]) -> bool:
    if isinstance(active.rule.ban, tuple):
        return item_id in active.rule.ban
    return active.condition is not None and matches(active.condition, item) == (active.rule.action == "ban")


def _at_one_place(pins: Sequence[tuple[int, ActiveRule]]) -> Iterator[RulesConflict]:
    """Pins of different people: of the same people, different items at one place are an error."""
    for one, other in combinations(pins, 2):
        if overlap(one[1].rule, other[1].rule):
            first, second = (dict(enumerate(pin.rule.pin or (), pin.rule.at)) for _, pin in (one, other))
            places = [place for place in first.keys() & second.keys() if first[place] != second[place]]
            if places:
                yield _of("place", str(min(places)), one, other)


def _quotas(some: Mapping[str, Sequence[tuple[int, ActiveRule]]]) -> Iterator[RulesConflict]:
    """At least so many items of values of which fewer are allowed, or none."""
    for one in some.get("at_least", ()):
        field, values = _values(one[1].condition)
        least = one[1].rule.at_least or 0
        for cap in some.get("at_most", ()):
            most = (cap[1].rule.at_most or 0) * values
            if values and cap[1].rule.per == field and most < least and overlap(one[1].rule, cap[1].rule):
                yield _of("quota", one[1].rule.of or "", one, cap)
        for ban in some.get("ban", ()):
            same = ban[1].condition is not None and ban[1].condition == one[1].condition
            if same and overlap(one[1].rule, ban[1].rule):
                yield _of("quota", one[1].rule.of or "", one, ban)


def _values(condition: Expression | None) -> tuple[str, int]:
    """The field and the number of values with which a condition compares it, where it does nothing else."""
    match condition:
        case Equals(field, _):
            return field, 1
        case OneOf(field, values):
            return field, len(values)
    return "", 0


def _opposite(some: Mapping[str, Sequence[tuple[int, ActiveRule]]]) -> Iterator[RulesConflict]:
    for one in some.get("boost", ()):
        for other in some.get("bury", ()):
            if one[1].condition == other[1].condition and overlap(one[1].rule, other[1].rule):
                yield _of("opposite", one[1].rule.boost or "", one, other)
