"""What a file holds of a person, and whether that is all."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from molar_retrieval.privacy.needles import Match

State = Literal["found", "not proven", "clean"]
_PLACES = 5


class UndecodableError(Exception):
    """A file is not what its name or its first bytes say."""


@dataclass
class Trace:
    """Something of a person in a file.

    Attributes:
        what: What it is: the id, their history, their vector …
        where: The first places: a column with a row, a tensor, an offset in bytes.
        times: How often it is there.
    """

    what: str
    where: list[str] = field(default_factory=list)
    times: int = 0


@dataclass
class FileFindings:
    """What was found in one file.

    Attributes:
        file: Its name, from the folder that was looked through.
        decoder: What it was read as.
        findings: What of the person it holds.
        doubts: Why it is not proven that this is all, as sentences.
    """

    file: str
    decoder: str = ""
    findings: list[Trace] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def state(self) -> State:
        """``found``, ``not proven`` or ``clean``."""
        return "found" if self.findings else "not proven" if self.doubts else "clean"

    def add(self, match: Match, where: str) -> None:
        """Take down what was seen in a place."""
        if not match.certain:
            self.doubt(f"{where} holds {match.what}, or another thing that is called so")
            return
        finding = next((one for one in self.findings if one.what == match.what), None)
        if finding is None:
            finding = Trace(match.what)
            self.findings.append(finding)
        finding.times += 1
        if len(finding.where) < _PLACES and where not in finding.where:
            finding.where.append(where)

    def add_all(self, matches: Iterable[Match], where: str) -> None:
        """Take down several."""
        for match in matches:
            self.add(match, where)

    def doubt(self, why: str) -> None:
        """Say why it is not proven that nothing else is in the file."""
        if len(self.doubts) < _PLACES and why not in self.doubts:
            self.doubts.append(why)
