"""What a check finds: kinds of fault, as `faults.toml` lists them, and single faults."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any


class Severity(StrEnum):
    """How much a fault matters."""

    ERROR = "error"  # The item, row or data set cannot be used as it is
    WARNING = "warning"  # It can be used, and results will be worse for it
    NOTE = "note"  # Worth knowing; may be as it should


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault: area and name, as in ``photo.unreadable``, what is wrong (a heading), and what to do."""

    name: str
    severity: Severity
    title: str
    remedy: str


@cache
def fault_kinds() -> Mapping[str, FaultKind]:
    """Every kind by its name, in the order in which a document lists them."""
    areas = tomllib.loads(Path(__file__).with_name("faults.toml").read_text("utf-8"))
    return {
        f"{area}.{name}": FaultKind(f"{area}.{name}", Severity(of["severity"]), of["title"], of["remedy"])
        for area, kinds in areas.items()
        for name, of in kinds.items()
    }


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        detail: What was seen, in a few words.
        file: The file in the catalogue's folder that holds it; ``row``, from 1, the header not counted; ``column``.
        others: Items or users that share the fault, such as an item's duplicates.
        amount: How bad: a distance, a share, a count; within a kind the largest come first.
        facts: Numbers that a report may want, by name.
    """

    kind: FaultKind
    detail: str
    item_id: str | None = None
    user_id: str | None = None
    file: str | None = None
    row: int | None = None
    column: str | None = None
    others: tuple[str, ...] = ()
    amount: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The place in the catalogue's files, as ``interactions.csv, row 7``; empty where it has none."""
        row = None if self.row is None else f"row {self.row}"
        return ", ".join(part for part in (self.file, row) if part)


def fault(kind: str, detail: str, **more: Any) -> Finding:
    """A finding of the kind of a name; ``more`` are attributes of :class:`Finding`."""
    return Finding(fault_kinds()[kind], detail, **more)
