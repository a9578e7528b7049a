"""What an examination finds."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from molar_retrieval import __version__


class State(StrEnum):
    """How something is."""

    FINE = "fine"
    WARNING = "warning"
    """It works, but worse than it could, or it will not for long."""
    BROKEN = "broken"
    """Something does not work."""


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
    state: State = State.FINE
    problem: str | None = None
    remedy: str | None = None
    data: Any = None


@dataclass(frozen=True)
class Section:
    """Things that belong together.

    Attributes:
        name: For programs.
        title: For people.
        entries: They.
    """

    name: str
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Health:
    """The result of an examination.

    Attributes:
        sections: What was looked at.
        deep: Whether everything was read.
    """

    sections: tuple[Section, ...]
    deep: bool = False

    @property
    def broken(self) -> bool:
        """Whether something does not work."""
        return any(entry.state is State.BROKEN for _, entry in self.problems())

    def problems(self) -> Iterator[tuple[Section, Entry]]:
        """What is not as it should be: what is broken first."""
        for state in (State.BROKEN, State.WARNING):
            for section in self.sections:
                for entry in section.entries:
                    if entry.state is state:
                        yield section, entry

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "molar": __version__,
            "deep": self.deep,
            "broken": self.broken,
            "problems": [
                {
                    "section": section.name,
                    "name": entry.name,
                    "state": str(entry.state),
                    "problem": entry.problem or entry.value,
                    "remedy": entry.remedy,
                }
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
