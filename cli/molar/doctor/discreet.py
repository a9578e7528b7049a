"""Nothing that is said may give anybody away: the output is made to be pasted into a bug report."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from molar.doctor.findings import Entry, Health, Section
from molar_retrieval.redaction import redacted

_ID = re.compile(r"\b((?:user|item) )(['\"]).*?\2")

T = TypeVar("T")


def discreet(health: Health, home: Path | None = None) -> Health:
    """The same without the home folder, logins in addresses, tokens, and ids of users and items."""
    return replace(health, sections=tuple(_section(section, home or Path.home()) for section in health.sections))


def hidden(text: str, home: Path) -> str:
    """A text without what it should not tell."""
    for folder in {str(home), str(home.resolve())} - {"/", ""}:
        text = re.sub(rf"{re.escape(folder)}(?![\w.-])", "~", text)
    return _ID.sub(r"\1…", redacted(text))


def _section(section: Section, home: Path) -> Section:
    return replace(section, entries=tuple(_entry(entry, home) for entry in section.entries))


def _entry(entry: Entry, home: Path) -> Entry:
    return Entry(
        entry.name,
        hidden(entry.value, home),
        entry.state,
        None if entry.problem is None else hidden(entry.problem, home),
        None if entry.remedy is None else hidden(entry.remedy, home),
        _plain(entry.data, home),
    )


def _plain(value: Any, home: Path) -> Any:
    if isinstance(value, str):
        return hidden(value, home)
    if isinstance(value, dict):
        return {hidden(str(key), home): _plain(inner, home) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, home) for inner in value]
    return value
