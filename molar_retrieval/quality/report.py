"""What a check found, as data: what the terminal, the page and programs are told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from molar_retrieval.quality.findings import FaultKind, Finding, Severity
from molar_retrieval.quality.histogram import Histogram
from molar_retrieval.quality.readiness import Readiness

FORMAT = 2  # Of the plain data; 1 had a forecast for a GPU among what can be expected


@dataclass(frozen=True)
class Found:
    """All faults of one kind: how many, the worst of them, and a key that changes with what they are about."""

    kind: FaultKind
    count: int
    examples: tuple[Finding, ...]
    key: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "key": self.key,
            "kind": self.kind.name,
            "severity": str(self.kind.severity),
            "title": self.kind.title,
            "remedy": self.kind.remedy,
            "count": self.count,
            "examples": [_plain(finding) for finding in self.examples],
        }


@dataclass(frozen=True)
class Excerpt:
    """An item as a report shows it: title, the beginning of its description, the photo's path in the folder."""

    title: str | None
    text: str | None
    photo: str | None


@dataclass(frozen=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        catalogue: Name of its folder.
        items: How many there are.
        unusable: Why other commands cannot work with it; empty: they can.
        found: By kind, worst severity first.
        readiness: What can be expected; None: nothing could be read.
        histograms: Distributions.
        log: What the log is like, as plain data; None: there is none.
        log_lines: The same in sentences.
        pairs: How well photos and words go together, as plain data; None: not checked.
        left_out: What was not checked, and how it would be.
        excerpts: The items among the examples.
        seconds: By stage.
    """

    catalogue: str
    items: int = 0
    unusable: tuple[str, ...] = ()
    found: tuple[Found, ...] = ()
    readiness: Readiness | None = None
    histograms: tuple[Histogram, ...] = ()
    log: Mapping[str, Any] | None = None
    log_lines: tuple[str, ...] = ()
    pairs: Mapping[str, Any] | None = None
    left_out: tuple[str, ...] = ()
    excerpts: Mapping[str, Excerpt] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether other commands can work with the data."""
        return not self.unusable

    def count(self, severity: Severity) -> int:
        """How many faults of a severity there are."""
        return sum(found.count for found in self.found if found.kind.severity is severity)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "format": FORMAT,
            "catalogue": self.catalogue,
            "items": self.items,
            "usable": self.usable,
            "unusable": list(self.unusable),
            "counts": {str(severity): self.count(severity) for severity in Severity},
            "found": [found.to_dict() for found in self.found],
            "readiness": None if self.readiness is None else self.readiness.to_dict(),
            "log": self.log,
            "pairs": self.pairs,
            "histograms": [histogram.to_dict() for histogram in self.histograms],
            "left_out": list(self.left_out),
            "seconds": dict(self.seconds),
        }


def shown_items(found: Iterable[Found]) -> set[str]:
    """Ids of the items among the examples, and of the first item that shares each of their faults."""
    examples = [finding for kind in found for finding in kind.examples]
    own = {finding.item_id for finding in examples if finding.item_id is not None}
    return own | {finding.others[0] for finding in examples if finding.others}


def _plain(finding: Finding) -> dict[str, Any]:
    amount = finding.amount if isfinite(finding.amount) else None
    plain = vars(finding) | {"others": list(finding.others), "amount": amount, "facts": dict(finding.facts)}
    return {name: value for name, value in plain.items() if name != "kind" and value not in (None, [], {})}
