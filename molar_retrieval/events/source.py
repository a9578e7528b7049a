"""Rows that are not readable as rows, as refused events."""

from pathlib import Path

from molar_retrieval.data.rows import Rejects
from molar_retrieval.events.log import Appended


class Refused(Rejects):
    """Takes what a reader of tables rejects into the report of an append."""

    def __init__(self, report: Appended) -> None:
        super().__init__(Path())
        self._report = report

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Refuse a row of a file."""
        problem = f"{file}: {kind}" + (f" ({detail})" if detail else "")
        self._report.refuse(row, "row", problem, "write one event a row, in UTF-8")
