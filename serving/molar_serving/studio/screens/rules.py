"""Rules: in words, with their state, conflicts and authors; changed by forms, tried before they hold, and put back."""

import asyncio
import difflib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from molar_eval.kpi.by_day import DayFacts, daily
from molar_eval.kpi.rule_effect import RuleEffect, effect_of, whole_weeks
from molar_indexes.comparison import conflicts_of
from molar_indexes.constraints import Constraints
from molar_retrieval.columns import ITEM_ID, TITLE
from molar_retrieval.errors import SettingsError
from molar_retrieval.ranking.rules import Rules
from molar_serving.endpoints.rules import (
    PREVIEWED,
    PreviewBody,
    RulesBody,
    checked_rules,
    preview,
    restore_rules,
    unchanged,
    write_rules,
)
from molar_serving.overload import alone
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesFile, RulesVersion, etag_of
from molar_serving.studio.drafts import (
    FIELDS,
    KINDS,
    Draft,
    Table,
    by_hand,
    fields_of,
    kind_of,
    last_changes,
    table_of,
    tables_of,
)
from molar_serving.studio.finding import find_items
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar_indexes.answerer import Answerer
    from molar_serving.service import Service

TOLD_OF = ("pin", "boost", "bury", "at_least")
"""Kinds of rules that are about some items, which go on being shown."""
_DAY = 86_400
_MICROSECOND = 1e-6
_MOST = 4 << 20  # bytes of a form
_ROWS = 200  # rules that are listed
_TOLD = 3  # items that a sentence names
_FOUND = 12
_VERSIONS = 20
_WAIT = 10.0  # seconds for which one waits while lists are compared for somebody else
_OF_A_RULE = ("edit", "up", "down", "move", "remove")
_STEPS = (*_OF_A_RULE, "new", "keep", "cancel", "find", "")


@dataclass(frozen=True)
class EffectOfRule:
    """The effect of a rule.

    Attributes:
        effect: Its effect; None: nobody knows when it began.
        by: Whether by purchases, or, of fewer than it takes, by looks at items.
        items: How many items it is about.
        began: When, in seconds since 1970.
    """

    effect: RuleEffect | None
    by: Literal["purchases", "looks"]
    items: int
    began: float | None


def effect_of_rule(service: "Service", table: Mapping[str, Any], version: RulesVersion | None) -> EffectOfRule:
    """The effect of a rule as a file has it, which came with a version; a SettingsError where it is wrong."""
    with service.recommender.answering() as answerer:
        rules = Constraints(answerer.generation, {"rule": [table]}).rules
        assert isinstance(rules, Rules)
        items = _items(answerer, rules)
    begin, end = (moment * _MICROSECOND for moment in rules.all[0].rule.period)
    written = None if version is None or version.at is None else datetime.fromisoformat(version.at).timestamp()
    known = [one for one in (written, begin if begin > 0 else None) if one is not None]
    if not known:
        return EffectOfRule(None, "purchases", len(items), None)
    began = max(known)
    first, last = -int(-began // _DAY), int(min(time.time(), end) // _DAY) - 1  # days that it held as a whole
    days = whole_weeks(last - first + 1)
    start = int(began // _DAY) - days
    facts = daily(service.workspace, first + days - start, first + days - 1) if days else []
    chosen = [*facts[:days], *facts[len(facts) - days :]]
    found = effect_of(*_counts(chosen, items, "purchases"))
    if found.lacking == "taken":
        by_looks = effect_of(*_counts(chosen, items, "looks"))
        if by_looks.lacking is None:
            return EffectOfRule(by_looks, "looks", len(items), began)
    return EffectOfRule(found, "purchases", len(items), began)


def _items(answerer: "Answerer", rules: Rules) -> frozenset[str]:
    """Ids of the items that a rule is about."""
    (active,) = rules.all
    if active.condition is None:
        return frozenset(active.rule.pin or ())
    store, ranker = answerer.generation.table.items, answerer.ranker
    rows = np.flatnonzero(store.known | store.cold)
    return frozenset(
        answerer.generation.table.item_id(int(row)) for row in rows[ranker.fulfilling(active.condition, rows)]
    )


def _counts(days: Collection[DayFacts], items: frozenset[str], name: str) -> tuple[Any, Any]:
    """By day, what happened with some items and with all others."""
    own, every = np.zeros(len(days), np.int64), np.zeros(len(days), np.int64)
    for number, facts in enumerate(days):
        counts = facts.items[name].to_numpy()
        mine = np.fromiter((one in items for one in facts.items[ITEM_ID].to_pylist()), bool, len(counts))
        own[number], every[number] = counts[mine].sum(), counts.sum()
    return own, every - own


@dataclass(frozen=True)
class Editor:
    """The form of one rule: at which place it stands, of which kind it is, and what is in its fields."""

    place: int
    kind: str
    fields: Mapping[str, Any]
    typed: str = ""  # what items are searched by


async def rules(visit: Visit) -> Page:
    """The rules as they are."""
    text = await visit.do(lambda: RulesFile(visit.service.workspace).text)
    try:
        draft, problem = Draft.of_text(text), None
    except SettingsError as error:
        draft, problem = Draft((), etag_of(text)), ProblemError(200, error.message, error.hint)
    return await visit.do(lambda: _page(visit, draft, problem=problem))


async def change(visit: Visit) -> Page:
    """The rules as somebody is about to have them, after one more step; nothing is saved."""
    draft, editor = _sent(visit)
    what, _, about = visit.sent("do").partition(":")
    number = _number(about.partition(":")[0]) if what in _OF_A_RULE else 0
    if what not in _STEPS or (what == "new" and about not in KINDS):
        raise ProblemError(422, "there is no such step", "open the page again", field="do")
    if what == "new":
        editor = Editor(len(draft.tables), about, fields_of({}))
    elif what == "edit" and number < len(draft.tables):
        table = draft.tables[number]
        editor = Editor(number, kind_of(table) or "pin", fields_of(table))
    elif what == "keep" and editor is not None:
        draft = draft.having(editor.place, table_of(editor.kind, visit.sent, editor.fields["items"]))
        editor = None
    elif what == "cancel":
        editor = None
    elif what in ("up", "down", "move"):
        to = {"up": number - 1, "down": number + 1}
        draft = draft.moved(number, to[what] if what in to else _number(about.partition(":")[2]))
    elif what == "remove":
        draft, editor = draft.without(number), None
    return await visit.do(lambda: _page(visit, draft, editor))


async def save(visit: Visit) -> Page:
    """Write the rules, unless somebody else has written others meanwhile; what was typed is kept then."""
    visit.need("toml", "draft")
    text = visit.sent("toml").replace("\r\n", "\n") if "toml" in visit.form else None
    draft, _ = _sent(visit)
    try:
        body = RulesBody(toml=draft.text if text is None else text)
        await asyncio.to_thread(_written, visit, body, draft.etag)
    except (SettingsError, ProblemError) as error:
        told = error if isinstance(error, ProblemError) else ProblemError(422, error.message, error.hint)
        if told.status not in (409, 412, 422):
            raise
        return await visit.do(lambda: _page(visit, draft, problem=told, text=text))
    return Page.to("/studio/rules?saved=1")


async def tried(visit: Visit) -> Page:
    """What the rules would change in people's lists."""
    draft, _ = _sent(visit)
    began = time.perf_counter()
    try:
        body = PreviewBody(toml=draft.text, sample=PREVIEWED)
    except SettingsError as error:
        raise ProblemError(422, error.message, error.hint) from error
    found = await alone(lambda: preview(visit.service, body), wait=_WAIT)
    lists = found.lists
    ids = {item for one in lists.examples for item in (*one.before, *one.after)}
    titles = await visit.do(lambda: _titles(visit, ids))
    shown = {"found": found, "titles": titles, "seconds": time.perf_counter() - began}
    return Page("rules/preview.html.jinja", shown)


async def effect(visit: Visit) -> Page:
    """What a rule has done since it began."""
    found = await visit.do(lambda: _effect(visit))
    return Page("rules/effect.html.jinja", {"found": found})


async def history(visit: Visit) -> Page:
    """Former versions, and what each has changed."""
    found = await visit.do(lambda: RulesFile(visit.service.workspace).history())
    versions = [
        {"version": one, "changes": _difference(found[n + 1].text if n + 1 < len(found) else "", one.text)}
        for n, one in enumerate(found[:_VERSIONS])
    ]
    return Page("rules/history.html.jinja", {"versions": versions})


async def restore(visit: Visit) -> Page:
    """Write a former version again."""
    if not (version := visit.sent("version")):
        raise ProblemError(422, "no version was named", "choose one of the history", field="version")
    await asyncio.to_thread(restore_rules, visit.call, version)
    return Page.to("/studio/rules?saved=1")


def _effect(visit: Visit) -> EffectOfRule:
    file, number = RulesFile(visit.service.workspace), visit.asked("number")
    text = file.text
    unchanged([visit.asked("etag")])(text)
    tables = tables_of(text)
    if not number.isdecimal() or len(number) > len(str(len(tables))) or int(number) >= len(tables):
        raise ProblemError(404, "there is no such rule", "open the page again")
    table = tables[int(number)]
    if kind_of(table) not in TOLD_OF:
        raise ProblemError(
            422, "what this rule has done cannot be told", "ask of one that pins, or puts forward or back"
        )
    (version,) = last_changes([table], file.history())
    return effect_of_rule(visit.service, table, version)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise ProblemError(422, "it is not said which rule", "open the page again", field="do")
    return int(text)


def _sent(visit: Visit) -> tuple[Draft, Editor | None]:
    draft = Draft.of_form(visit.sent("draft", "[]"), visit.sent("etag"))
    kind, place = visit.sent("kind"), visit.sent("place")
    if kind not in KINDS or not place.isdecimal():
        return draft, None
    names = ("name", "segment", "begins", "until", "condition", "field", "number", "at", "by", "half_life_days")
    fields: dict[str, Any] = {name: visit.sent(name) for name in names}
    fields["items"] = list(dict.fromkeys(visit.all_sent("items")))
    return draft, Editor(min(int(place), len(draft.tables)), kind, fields, visit.sent("typed"))


def _written(visit: Visit, body: RulesBody, etag: str) -> None:
    text, _ = checked_rules(visit.service, body)
    write_rules(visit.call, RulesFile(visit.service.workspace), text, unchanged([etag]))


def _page(
    visit: Visit,
    draft: Draft,
    editor: Editor | None = None,
    *,
    problem: ProblemError | None = None,
    text: str | None = None,
) -> Page:
    """The page of some rules, with what is wrong about them."""
    file = RulesFile(visit.service.workspace)
    past, saved = file.history(), file.text
    typed = "" if editor is None else editor.typed
    found = find_items(visit.service.workspace, typed, _FOUND) if typed else []
    with visit.service.recommender.answering() as answerer:
        constraints = Constraints(answerer.generation, {"rule": list(draft.tables)})
        told: list[Any] = []
        try:
            told = conflicts_of(answerer.generation, constraints)
        except SettingsError as error:
            problem = problem or ProblemError(200, error.message, error.hint)
        rows = [
            _row(visit, answerer, n, table, [one for one in told if n in one.rules])
            for n, table in enumerate(draft.tables[:_ROWS])
        ]
        people = answerer.generation.manifest.facts.get("segments", {})
        picked = editor.fields["items"] if editor is not None else []
        titles = _titles_of(answerer, picked)
        fields = constraints.fields
    places = _places(saved)
    for row, table, version in zip(rows, draft.tables, last_changes(draft.tables[:_ROWS], past), strict=False):
        told_of = row["kind"] in TOLD_OF and row["state"] in ("active", "ended")
        row |= {"version": version, "saved": places.get(str(table)) if told_of else None}
    shown = {
        "draft": draft, "rows": rows, "editor": editor, "found": found, "titles": titles, "problem": problem,
        "kinds": KINDS, "asked": FIELDS[editor.kind] if editor is not None else (), "fields": fields, "people": people,
        "text": saved if text is None else text, "present": etag_of(saved), "changed": _differs(draft, saved),
        "by_hand": by_hand(saved), "may": visit.may("merchandiser"), "saved": visit.asked("saved") == "1",
        "total": len(draft.tables), "latest": past[0],
    }  # fmt: skip
    return Page("rules/rules.html.jinja", shown, problem.status if problem is not None else 200)


def _places(saved: str) -> dict[str, int]:
    """The numbers of rules in the file."""
    try:
        return {str(table): number for number, table in enumerate(tables_of(saved))}
    except SettingsError:
        return {}


def _differs(draft: Draft, saved: str) -> bool:
    try:
        return draft.tables != tables_of(saved)
    except SettingsError:
        return bool(draft.tables)


def _row(visit: Visit, answerer: "Answerer", number: int, table: Table, told: Sequence[Any]) -> dict[str, Any]:
    """A rule as the list shows it."""
    kind, fields = kind_of(table), fields_of(table)
    state, problem = _state(answerer, table)
    items = fields["items"]
    titles = _titles_of(answerer, items[:_TOLD])
    named = [titles.get(one) or one for one in items[:_TOLD]]
    return {
        "number": number,
        "kind": kind,
        "fields": fields,
        "state": state,
        "problem": problem,
        "items": items[:_TOLD],
        "named": named,
        "more": max(0, len(items) - _TOLD),
        "conflicts": told,
    }


def _state(answerer: "Answerer", table: Table) -> tuple[str, SettingsError | None]:
    """Whether a rule holds now, waits, has ended or is broken; and what is wrong with it."""
    constraints = Constraints(answerer.generation, {"rule": [table]})
    try:
        rules = constraints.rules
    except SettingsError as error:
        return "broken", error
    assert isinstance(rules, Rules)
    begin, end = (moment * _MICROSECOND for moment in rules.all[0].rule.period)
    now = time.time()
    return "ended" if now >= end else "waits" if now < begin else "active", None


def _titles(visit: Visit, ids: set[str]) -> dict[str, str | None]:
    with visit.service.recommender.answering() as answerer:
        return _titles_of(answerer, sorted(ids))


def _titles_of(answerer: "Answerer", ids: Sequence[str]) -> dict[str, str | None]:
    index = answerer.generation.index
    rows = [row for row in index.rows(list(ids)) if row is not None] if ids else []
    return {item.item_id: item.payload.get(TITLE) for item in index.fetch(rows)}


def _difference(before: str, after: str) -> list[tuple[str, str]]:
    """Lines that went and came: ``-`` or ``+`` with the line."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [(one[0], one[1:]) for one in lines if one[:1] in "+-" and one[:3] not in ("+++", "---")][:200]


SCREENS = (
    Screen("GET", "/studio/rules", "viewer", rules, nav="rules"),
    Screen("POST", "/studio/rules/draft", "merchandiser", change, most=_MOST, fields=("draft", "etag", "do")),
    Screen("POST", "/studio/rules/preview", "merchandiser", tried, most=_MOST, fields=("draft",)),
    Screen("POST", "/studio/rules/save", "merchandiser", save, changes=True, most=_MOST, fields=("etag",)),
    Screen("GET", "/studio/rules/history", "viewer", history),
    Screen("GET", "/studio/rules/effect", "viewer", effect),
    Screen("POST", "/studio/rules/restore", "merchandiser", restore, changes=True, fields=("version",)),
)
