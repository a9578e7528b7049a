"""Writes a report on privacy: facts, the page that shows them, and the file that people fill in."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molar_indexes.privacy.report.collect import collect
from molar_indexes.privacy.report.filled import filled_in
from molar_indexes.privacy.report.page import report_page, words_in
from molar_retrieval.errors import DataError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import write_atomically
from molar_retrieval.workspace.settings import MolarSettings

PAGE, FACTS, FILLED = "report.html", "facts.json", "filled.toml"


@dataclass(frozen=True)
class PrivacyReport:
    """What was written.

    Attributes:
        page: The page.
        facts: The facts, each with its unit and source.
        filled: What people fill in; it is read, and never overwritten.
        blanks: What nobody has filled in yet.
    """

    page: Path
    facts: Path
    filled: Path
    blanks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "page": str(self.page),
            "facts": str(self.facts),
            "filled": str(self.filled),
            "blanks": list(self.blanks),
        }


def write_report(
    workspace: Workspace, settings: MolarSettings, catalogue: Path | None, out: Path, language: str
) -> PrivacyReport:
    """Gather the facts and write all three into a folder, which is made.

    Raises:
        RequestError: If the page does not speak the language.
        DataError: If the folder is a file, or in none.
        SettingsError: If what people have filled in is not as it should be.
    """
    t = words_in(language)
    if not out.parent.is_dir() or (out.exists() and not out.is_dir()):
        raise DataError(f"{out} cannot be written", "name a new folder in one that is there")
    out.mkdir(exist_ok=True)
    filled = filled_in(out / FILLED, t)
    sections = collect(workspace, settings, catalogue)
    made = datetime.now(UTC)
    told = {"made": made.isoformat(timespec="seconds")} | {name: one.to_dict() for name, one in sections.items()}
    write_atomically(out / FACTS, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    write_atomically(out / PAGE, report_page(sections, filled, int(made.timestamp()), t))
    blanks = tuple(name for name, words in filled.items() if not words)
    return PrivacyReport(out / PAGE, out / FACTS, out / FILLED, blanks)
