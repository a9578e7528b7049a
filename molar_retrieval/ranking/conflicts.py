"""Rules of a shop that get in each other's way, or can never act: what no error is, and yet not what was meant."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from molar_retrieval.errors import shown
from molar_retrieval.ranking.filters import Equals, Expression, OneOf, matches
from molar_retrieval.ranking.rules import ActiveRule, Rules, overlap

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
