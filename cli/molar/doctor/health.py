"""What an examination finds, and how it is told without giving anybody away."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

from molar_retrieval import __version__
from molar_retrieval.errors import redacted

_ID = re.compile(r"\b((?:user|item) )(['\"]).*?\2")


class HealthState(StrEnum):
    """How something is."""

    FINE = "fine"
    WARNING = "warning"  # It works, but worse than it could, or it will not for long
    BROKEN = "broken"  # Something does not work


class Fault(NamedTuple):
    """What is wrong with something, in a sentence, what to do about it, and how bad it is."""

    problem: str
    remedy: str | None
    state: HealthState = HealthState.WARNING


def broken(problem: str, remedy: str | None) -> Fault:
    """A fault with which something does not work."""
    return Fault(problem, remedy, HealthState.BROKEN)


@dataclass(frozen=True)
class Entry:
    """One thing that was looked at.

    Attributes:
        name: What.
        value: How it is, for people.
        state: Whether that is as it should be.
        problem: What is wrong, in a sentence; None where nothing is.
        remedy: What to do about it.
        data: The same as ``value`` for programs, where they want more.
    """

    name: str
    value: str
    state: HealthState = HealthState.FINE
    problem: str | None = None
    remedy: str | None = None
    data: Any = None


def entry(name: str, value: str, *faults: Fault | Literal[False] | None, data: Any = None) -> Entry:
    """An entry with the first of some faults that is there."""
    fault = next((fault for fault in faults if fault), None)
    if fault is None:
        return Entry(name, value, data=data)
    return Entry(name, value, fault.state, fault.problem, fault.remedy, data)


@dataclass(frozen=True)
class Section:
    """Things that belong together, by a name for programs and a title for people."""

    name: str
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Health:
    """The result of an examination; ``deep``: whether everything was read."""

    sections: tuple[Section, ...]
    deep: bool = False

    @property
    def broken(self) -> bool:
        """Whether something does not work."""
        return any(entry.state is HealthState.BROKEN for _, entry in self.problems())

    def problems(self) -> Iterator[tuple[Section, Entry]]:
        """What is not as it should be: what is broken first."""
        for state in (HealthState.BROKEN, HealthState.WARNING):
            for section in self.sections:
                yield from ((section, entry) for entry in section.entries if entry.state is state)

    def discreet(self, home: Path | None = None) -> "Health":
        """The same without the home folder, logins in addresses, tokens, and ids of users and items."""
        folder = home or Path.home()

        def safe(found: Entry) -> Entry:
            told = {name: _hidden(getattr(found, name), folder) for name in ("value", "problem", "remedy", "data")}
            return replace(found, **told)

        return replace(self, sections=tuple(replace(s, entries=tuple(map(safe, s.entries))) for s in self.sections))

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "molar": __version__,
            "deep": self.deep,
            "broken": self.broken,
            "problems": [
                {"section": section.name, "name": entry.name, "state": str(entry.state)}
                | {"problem": entry.problem or entry.value, "remedy": entry.remedy}
                for section, entry in self.problems()
            ],
            "sections": {
                section.name: {
                    entry.name: {"value": entry.value if entry.data is None else entry.data, "state": str(entry.state)}
                    for entry in section.entries
                }
                for section in self.sections
            },
        }


def hidden(text: str, home: Path) -> str:
    """A text without what it should not tell: the output is made to be pasted into a bug report."""
    for folder in {str(home), str(home.resolve())} - {"/", ""}:
        text = re.sub(rf"{re.escape(folder)}(?![\w.-])", "~", text)
    return _ID.sub(r"\1…", redacted(text))


def _hidden(value: Any, home: Path) -> Any:
    if isinstance(value, str):
        return hidden(value, home)
    if isinstance(value, dict):
        return {hidden(str(key), home): _hidden(inner, home) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner, home) for inner in value]
    return value
