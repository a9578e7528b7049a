"""Which generation answered from when, of all processes that serve a workspace: in ``serving/answered.jsonl``.

Nothing depends on it: where it cannot be written, answers come all the same.
"""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.activity_log import JsonLines
from molar_serving.audit import FOLDER

_FILE, _BYTES, _OLDER = "answered.jsonl", 1 << 20, 4
_MOST = 50_000  # lines that are looked at
_ABOUT = 5.0  # seconds within which all processes have gone over to another generation


class AnsweringGenerations:
    """The record of a workspace; processes may share it."""

    def __init__(self, workspace: Path) -> None:
        self._lines = JsonLines(workspace / FOLDER / _FILE, most=_BYTES, kept=_OLDER)

    def begins(self, generation: str) -> None:
        """Write down that a generation answers from now on, here."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with suppress(MolarError):
            self._lines.append({"time": now, "generation": generation})

    def at(self, moment: float) -> list[str]:
        """Which answered at a moment, in seconds since 1970: one or, about a change, several, the likeliest first.

        Empty where nothing tells.
        """
        found: list[str] = []
        for line in self._lines.newest(_MOST):
            begun, name = datetime.fromisoformat(line["time"]).timestamp(), line["generation"]
            if begun > moment:
                continue
            if name not in found:
                found.append(name)
            if begun < moment - _ABOUT:
                break
        return found

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
