"""The last events that were not taken, with problem and remedy, so that somebody can mend what sends them.

They lie in ``events/refused.jsonl`` of the workspace, the first few of each append in a line, and never take more than
half a megabyte. What is kept of an event is what its refusal says: the value of the wrong field, shortened.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from molar_retrieval.data.event_store import KIND
from molar_retrieval.errors import MolarError, redacted
from molar_retrieval.workspace.activity_log import JsonLines
from molar_retrieval.workspace.files import file_stamp

_FILE, _BYTES, _OLDER = "refused.jsonl", 1 << 18, 1
FIRST = 10
"""Refusals of an append that are kept; the others are counted."""
_CHARACTERS = 300  # of a problem, and of a remedy
_log = logging.getLogger("molar.events")


@dataclass(frozen=True)
class Refusal:
    """An event that was not taken: where it stood, which of its fields is wrong, what to do."""

    row: int
    field: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class RefusedEvent(Refusal):
    """A refusal that was kept: when, in ISO 8601, and how many of the same append were refused, this one among them."""

    time: str
    count: int


class RefusedEvents:
    """The last refusals of a workspace; threads may share it, and processes the workspace."""

    def __init__(self, workspace: Path) -> None:
        self._lines = JsonLines(workspace / KIND / _FILE, most=_BYTES, kept=_OLDER)
        self.close = self._lines.close

    def keep(self, refusals: Sequence[Refusal], count: int) -> None:
        """Keep the first of ``count`` refusals of an append; where that cannot be, its report has them nevertheless."""
        first = [
            {"row": one.row, "field": one.field, "problem": _brief(one.problem), "remedy": _brief(one.remedy)}
            for one in refusals[:FIRST]
        ]
        try:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._lines.append({"time": now, "count": count, "first": first})
        except MolarError as error:
            _log.warning("refused events are not kept: %s", error)

    @property
    def mark(self) -> str:
        """What changes when one is kept."""
        return str(file_stamp(self._lines.path))

    def newest(self, most: int) -> list[RefusedEvent]:
        """The last ones, the newest append first."""
        lines = self._lines.newest(most)
        found = [RefusedEvent(time=line["time"], count=line["count"], **one) for line in lines for one in line["first"]]
        return found[:most]


def _brief(text: str) -> str:
    text = redacted(text)
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
