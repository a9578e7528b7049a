"""Facts of a report on privacy: each with its unit and where it comes from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from molar_indexes.encoder import carried
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import MANIFEST

Unit = Literal[
    "count",
    "share",
    "score",
    "moment",
    "bytes",
    "seconds",
    "minutes",
    "days",
    "money",
    "watts",
    "watt_hours",
    "yes",
    "text",
    "list",
]
"""``share`` is of 1, ``moment`` in seconds since 1970, ``yes`` a truth value, ``list`` names."""
Value = int | float | str | bool | list[str] | None


@dataclass(frozen=True)
class Fact:
    """Something that is known, or None where it is not.

    Attributes:
        value: In the unit.
        unit: What it is in.
        source: A manifest and the keys in it, a setting, or a file and how it was counted.
    """

    value: Value
    unit: Unit
    source: str

    def to_dict(self) -> dict[str, Any]:
        """The fact as it is in the file of facts."""
        return {"value": self.value, "unit": self.unit, "from": self.source}


@dataclass
class ReportSection:
    """Facts of one section of the page by name; what stands behind a ``/`` in a name comes from the data."""

    facts: dict[str, Fact] = field(default_factory=dict)

    def add(self, name: str, value: Value, unit: Unit, source: str) -> None:
        """One fact more."""
        self.facts[name] = Fact(value, unit, source)

    def setting(self, name: str, settings: Any, key: str, unit: Unit) -> None:
        """A setting by its key, ``section.name``; None where it is not set."""
        section, _, own = key.partition(".")
        self.add(name, getattr(getattr(settings, section), own), unit, f"settings: {key}")

    def to_dict(self) -> dict[str, Any]:
        """The facts as they are in the file."""
        return {name: fact.to_dict() for name, fact in self.facts.items()}


class LiveManifest:
    """The manifest of a live version, in which facts are found by their keys."""

    def __init__(self, workspace: Workspace, kind: str) -> None:
        live = workspace[kind].live
        self.content: dict[str, Any] | None = None if live is None else asdict(live[1])
        self.path = "" if live is None else f"{kind}/{live[0].name}/{MANIFEST}"

    @classmethod
    def answering(cls, workspace: Workspace) -> Self:
        """That of the alignment that answers: the live generation carries it, also after a rollback."""
        found = cls(workspace, "alignment")
        generation = workspace["generations"].current
        folder = None if generation is None else carried(generation)
        if folder is not None:
            found.content = asdict(Manifest.read(folder))
            found.path = f"{folder.relative_to(workspace.root).as_posix()}/{MANIFEST}"
        return found

    def at(self, *keys: str) -> Any:
        """What it says there; None where it says nothing."""
        found: Any = self.content
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def source(self, *keys: str) -> str:
        """Where that stands."""
        return f"{self.path}: {'.'.join(keys)}"

    def put(self, section: ReportSection, name: str, unit: Unit, *keys: str) -> None:
        """Add what it says to a section, if it says something."""
        if (value := self.at(*keys)) is not None:
            section.add(name, value, unit, self.source(*keys))
