"""Rules as somebody is about to have them: tables that travel with the forms of the page, until they are saved."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from functools import lru_cache
from typing import Any

from molar_retrieval import limits
from molar_retrieval.errors import SettingsError
from molar_retrieval.ranking.rules import FILE_NAME
from molar_retrieval.workspace.config_files import parse_toml, toml_of
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesVersion, etag_of

Table = dict[str, Any]
KINDS = ("pin", "ban", "ban_where", "require", "boost", "bury", "fresh", "at_most", "at_least")
"""What rules do; ``ban`` names items, ``ban_where`` has a condition."""
FIELDS: Mapping[str, tuple[str, ...]] = {
    "pin": ("items", "at"),
    "ban": ("items",),
    "ban_where": ("condition",),
    "require": ("condition",),
    "boost": ("condition", "by"),
    "bury": ("condition", "by"),
    "fresh": ("field", "half_life_days", "by"),
    "at_most": ("number", "field"),
    "at_least": ("number", "condition"),
}
"""What the form of a kind asks for, beside the name, the people and the days."""
_CONDITIONS = {"ban_where": "ban", "require": "require", "boost": "boost", "bury": "bury", "at_least": "of"}
_NUMBERS = ("at", "by", "half_life_days")
_COMMON = {"name": "name", "segment": "for", "begins": "from", "until": "until"}


@dataclass(frozen=True)
class Draft:
    """Rules that are not saved yet.

    Attributes:
        tables: As the file would hold them.
        etag: Of the text from which they were made.
    """

    tables: tuple[Table, ...]
    etag: str

    @classmethod
    def of_text(cls, text: str) -> "Draft":
        """What a text says; a SettingsError where it is no TOML."""
        return cls(tables_of(text), etag_of(text))

    @classmethod
    def of_form(cls, written: str, etag: str) -> "Draft":
        """What :attr:`written` had; a ProblemError where it was something else."""
        try:
            tables = json.loads(written)
        except (ValueError, RecursionError):
            tables = None
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            raise ProblemError(422, "the form does not hold rules", "open the page again", field="draft")
        return cls(tuple(tables[: limits.RULES]), etag[:64])

    @property
    def written(self) -> str:
        """As the form carries it."""
        return json.dumps(self.tables, ensure_ascii=False)

    @property
    def text(self) -> str:
        """As a file; a SettingsError where a value cannot be written."""
        return toml_of("rule", self.tables)

    def moved(self, place: int, to: int) -> "Draft":
        """With a rule at another place."""
        tables = list(self.tables)
        if 0 <= place < len(tables):
            tables.insert(max(0, to), tables.pop(place))
        return replace(self, tables=tuple(tables))

    def without(self, place: int) -> "Draft":
        """Without a rule."""
        return replace(self, tables=tuple(one for n, one in enumerate(self.tables) if n != place))

    def having(self, place: int, table: Table) -> "Draft":
        """With another table at a place; behind the others where there is none."""
        tables = list(self.tables)
        tables[place : place + 1] = [table]
        return replace(self, tables=tuple(tables))


@lru_cache(maxsize=128)
def tables_of(text: str) -> tuple[Table, ...]:
    """The rules of a text, days and times as texts; a SettingsError where it is no TOML or has no list of rules."""
    tables = parse_toml(text, FILE_NAME).get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise SettingsError(f"{FILE_NAME} has no list of rules", "write each rule below [[rule]]")
    return tuple({key: _plain(value) for key, value in one.items()} for one in tables)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | time) else value


def by_hand(text: str) -> bool:
    """Whether a text has comments or a layout that are lost when its rules are written anew."""
    try:
        return bool(text.strip()) and text != toml_of("rule", tables_of(text))
    except SettingsError:
        return True


def kind_of(table: Mapping[str, Any]) -> str:
    """Which of :data:`KINDS` a rule is; empty where it is none."""
    if "ban" in table:
        return "ban" if isinstance(table["ban"], list) else "ban_where"
    return next((kind for kind in KINDS if kind in table), "")


def fields_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """What the form of a rule shows."""
    kind = kind_of(table)
    found: dict[str, Any] = {name: str(table.get(key, "")) for name, key in _COMMON.items()}
    found |= {name: str(table[name]) if name in table else "" for name in _NUMBERS}
    named = table.get(kind) if kind in ("pin", "ban") else None
    found["items"] = [str(one) for one in named] if isinstance(named, list) else []
    found["condition"] = str(table.get(_CONDITIONS.get(kind, ""), ""))
    found["field"] = str(table.get("per", table.get("fresh", "")))
    found["number"] = str(table.get("at_most", table.get("at_least", "")))
    return found


def table_of(kind: str, sent: Callable[[str], str], items: Sequence[str]) -> Table:
    """The rule that a form says; what is no number stays as it was typed, and is told by the check."""
    table: Table = {key: value for name, key in _COMMON.items() if (value := sent(name).strip())}
    asked = FIELDS[kind]
    if "items" in asked:
        table[kind] = list(dict.fromkeys(items))
    if kind in _CONDITIONS:
        table[_CONDITIONS[kind]] = sent("condition").strip()
    if kind == "at_least" or kind == "at_most":
        table[kind] = _number(sent("number"))
    if "field" in asked:
        table["per" if kind == "at_most" else "fresh"] = sent("field").strip()
    table |= {name: _number(sent(name)) for name in _NUMBERS if name in asked and sent(name).strip()}
    return table


def _number(text: str) -> Any:
    text = text.strip().replace(",", ".")
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def last_changes(tables: Sequence[Table], history: Sequence[RulesVersion]) -> list[RulesVersion | None]:
    """Of each rule the version that brought it as it is; None where no version has it, as it is not saved yet."""
    return [_brought(table, history) for table in tables]


def _brought(table: Table, history: Sequence[RulesVersion]) -> RulesVersion | None:
    found = None
    for version in history:
        try:
            if table not in tables_of(version.text):
                break
        except SettingsError:
            break
        found = version
    return found
